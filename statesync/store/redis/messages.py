"""The messages between replicas: the bytes on the channel and in the keys, compatible between versions.

Everything is msgpack (a policy record is JSON: `policy_json.py`). Maps and arrays may grow: a reader ignores fields
that it does not know, so a field is only ever added, with a default, and never changes its meaning. `SCHEMA` grows with
every addition. Unknown kinds of messages are ignored, and so are bytes of any other content: numbers beyond all bounds,
text that is none, values in values. Everything not read in full is logged once. This file knows no connection and no
state.
"""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec

from schedulers.types import Adapters, PodId
from statesync.store.policy_json import RecordJson, written
from statesync.store.protocol import PolicyRecord
from statesync.types import EngineReport, InflightNumbers, PrefixPage

SCHEMA: Final = 1

MAX_DEPTH: Final = 32
"""Levels of values in values in a policy's parameters."""

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e15)]
"""What a number of another replica may be: neither negative, nor NaN, nor beyond what a sum of them may become."""

_log = logging.getLogger("turnout.state")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)
_NUMBERS: Final = len(InflightNumbers._fields)
_PLAIN: Final = tuple([name for name in EngineReport._fields if name != "adapters"])
_MAX_DIGITS: Final = 15
"""Of a sequence number."""
_SWAP: Final = sys.byteorder == "big"


class ReportMessage(msgspec.Struct, omit_defaults=True, frozen=True):
    """An `EngineReport`, and its age in seconds when it was sent, by the sender's clock."""

    v: int
    age_s: Amount
    replica: str
    """The replica that scraped it."""
    queued: Count | None = None
    running: Count | None = None
    kv_usage: Amount | None = None
    kv_capacity_tokens: Count | None = None
    prefix_queries_tokens: Count | None = None
    prefix_hits_tokens: Count | None = None
    started_at: Amount | None = None
    adapters: tuple[str, ...] | None = None
    waiting_adapters: tuple[str, ...] | None = None
    max_adapters: Count | None = None

    def engine(self) -> EngineReport:
        """The report as a value of the router."""
        report = EngineReport(*(getattr(self, name) for name in _PLAIN))
        if self.adapters is None:
            return report
        waiting, limit = frozenset(self.waiting_adapters or ()), self.max_adapters or 0
        return report._replace(adapters=Adapters(frozenset(self.adapters), waiting, limit))


class PlacementMessage(msgspec.Struct, array_like=True, gc=False):
    """A prompt's chain went to the pod; no blocks: the pod's engine restarted and holds nothing."""

    pod: PodId
    blocks: bytes
    """8 bytes each, little-endian."""


class _Message(msgspec.Struct, tag_field="t", omit_defaults=True, kw_only=True):
    """Fields of every message."""

    replica: str
    token: str
    """Token of the sender's incarnation."""
    v: int


class ChangesMessage(_Message, tag="changes", kw_only=True):
    """A replica's changes since its last flush, without placements. Numbers are absolute."""

    seq: Count
    """Sequence number among the incarnation's messages, from 1 without a gap."""
    full: bool = False
    """Whether pods that are absent have nothing in flight, instead of no change."""
    numbers: Mapping[PodId, Sequence[Count]] = {}
    reports: Mapping[PodId, ReportMessage] = {}
    models: Sequence[PodId] = ()
    """Pods whose lists of models have changed: to be read by those that keep them."""
    served: Mapping[str, Count] = {}
    """What the replica has served by name, in all: the counts that have changed."""


class HeartbeatMessage(_Message, tag="beat", kw_only=True):
    """The lease was renewed."""

    seq: Count
    """Sequence number of the last `ChangesMessage`."""
    pods: int | None = None
    """Digest of the sender's pods, see `presence.py`; None of one that does not share them."""


class GoneMessage(_Message, tag="gone", kw_only=True):
    """The lease was given back, or lapsed and was removed."""


class PolicyChangedMessage(_Message, tag="policy", kw_only=True):
    """A pool has a new record."""

    pool: str
    record: str
    """JSON, as in the pool's list."""


Message = ChangesMessage | HeartbeatMessage | GoneMessage | PolicyChangedMessage


class LogEntry(msgspec.Struct, omit_defaults=True):
    """An entry of the log, under the field `b`."""

    v: int
    replica: str
    token: str
    placements: list[PlacementMessage]


class PoolPodsMessage(msgspec.Struct, array_like=True):
    """A replica's pods in one pool, and what it knows of each; `presence.py` has the meaning."""

    v: int
    pods: list[PodId]
    states: bytes
    """A byte for each pod: what the probes say."""
    lists: list[bytes] = []
    """Lists of models."""
    list_of: list[int] = []
    """For each pod, the number of its list."""


class Envelope(msgspec.Struct, array_like=True):
    """A published message: scripts put the log id, which the server makes, before the sender's bytes."""

    log_id: str
    """Empty if nothing was logged."""
    message: Message
    entry: LogEntry | None = None
    """The part that is also in the log, with that id."""


class PageMessage(msgspec.Struct, array_like=True):
    """A `PrefixPage` in a checkpoint."""

    v: int
    pod: PodId
    hashes: bytes
    sizes: bytes


_encoder = msgspec.msgpack.Encoder()
pack = _encoder.encode
"""Any of the structs above as msgpack; also the numbers of an inflight hash."""

_T = TypeVar("_T")


class MessageDecoder:
    """Decodes other replicas' bytes of any version. Bytes that cannot be decoded give None and are counted."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._complaints: set[str] = set()
        self._envelope = msgspec.msgpack.Decoder(Envelope).decode
        self._entry = msgspec.msgpack.Decoder(LogEntry).decode
        self._report = msgspec.msgpack.Decoder(ReportMessage).decode
        self._page = msgspec.msgpack.Decoder(PageMessage).decode
        self._pool_pods = msgspec.msgpack.Decoder(PoolPodsMessage).decode
        self._record = msgspec.json.Decoder(RecordJson).decode
        self._counts = msgspec.msgpack.Decoder(list[Count]).decode

    def envelope(self, data: bytes) -> Envelope | None:
        """A message of the channel."""
        envelope = self._read("a message", self._envelope, data)
        if envelope is not None and envelope.message.v > SCHEMA:
            self._newer(envelope.message.v)
        return envelope

    def entry(self, data: bytes) -> LogEntry | None:
        """An entry of the log."""
        entry = self._read("a log entry", self._entry, data)
        return None if entry is None else self._versioned(entry, entry.v)

    def report(self, data: bytes) -> ReportMessage | None:
        """A report, as in the hash after its time."""
        report = self._read("a report", self._report, data)
        return None if report is None else self._versioned(report, report.v)

    def pool_pods(self, data: bytes) -> PoolPodsMessage | None:
        """A pool of another replica."""
        message = self._read("a pool's pods", self._pool_pods, data)
        return None if message is None else self._versioned(message, message.v)

    def page(self, data: bytes) -> PrefixPage | None:
        """A page of a checkpoint."""
        page = self._read("a checkpoint's page", self._page, data)
        if page is not None and len(page.hashes) != 8 * len(page.sizes):
            self.refuse("a checkpoint's page", ValueError("its hashes and sizes are not of the same number"))
            return None
        return None if page is None else self._versioned(PrefixPage(page.pod, page.hashes, page.sizes), page.v)

    def record(self, data: bytes | str) -> PolicyRecord | None:
        """A policy record."""
        record = self._read("a policy record", self._record, data)
        if record is None:
            return None
        made = record.record()
        if is_too_deep(made):
            self.refuse("a policy record", ValueError(f"its parameters are nested more than {MAX_DEPTH} deep"))
            return None
        return self._versioned(made, record.v)

    def numbers(self, data: bytes) -> InflightNumbers | None:
        """A pod's numbers in an inflight hash."""
        counts = self._read("a pod's numbers", self._counts, data)
        return None if counts is None else numbers_of(counts)

    def refuse(self, what: str, error: Exception) -> None:
        """Count what cannot be used, and log its kind once."""
        self.unreadable += 1
        if self._first(what):
            text = str(error)[:200] or type(error).__name__
            _log.warning("%s of another replica cannot be read and is ignored: %s", what, text)

    def __repr__(self) -> str:
        return f"<MessageDecoder of schema {SCHEMA}: {self.unreadable} unreadable>"

    def _versioned(self, value: _T, version: int) -> _T:
        if version > SCHEMA:
            self._newer(version)
        return value

    def _newer(self, version: int) -> None:
        if self._first(f"v{version}"):
            _log.warning(
                "another replica writes schema %d, this one %d: what is new in it is left out", version, SCHEMA
            )

    def _read(self, what: str, decode: Callable[[Any], _T], data: bytes | str) -> _T | None:
        try:
            return decode(data)
        except _UNREADABLE as error:
            self.refuse(what, error)
            return None

    def _first(self, complaint: str) -> bool:
        known = complaint in self._complaints
        self._complaints.add(complaint)
        return not known


def numbers_of(counts: Sequence[int]) -> InflightNumbers:
    """The numbers known to both versions; the others are 0."""
    return InflightNumbers(*counts[:_NUMBERS])


def report_of(report: EngineReport, age_s: float, replica: str) -> ReportMessage:
    """An engine's report as it is sent."""
    fields: dict[str, Any] = report._asdict()
    lora: Adapters | None = fields.pop("adapters")
    if lora is not None:
        fields["adapters"], fields["waiting_adapters"] = tuple(sorted(lora.active)), tuple(sorted(lora.waiting))
        fields["max_adapters"] = lora.limit
    return ReportMessage(v=SCHEMA, age_s=age_s, replica=replica, **fields)


def pack_blocks(blocks: Sequence[int]) -> bytes:
    """Chained hashes as 8 little-endian bytes each."""
    packed = array("Q", blocks)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def unpack_blocks(data: bytes) -> Sequence[int]:
    """The inverse of `pack_blocks`; bytes that are not a multiple of 8 are cut off."""
    blocks = array("Q")
    blocks.frombytes(data if len(data) % 8 == 0 else data[: len(data) // 8 * 8])
    if _SWAP:
        blocks.byteswap()
    return blocks.tolist()


def log_id_before(data: bytes, size: int) -> str:
    """The log id of an envelope whose last `size` bytes are message and entry, without decoding those."""
    return data[2 if data[1] < 0xC0 else 3 : len(data) - size].decode("ascii", "replace")


def pack_page(page: PrefixPage) -> bytes:
    """A page of a checkpoint as bytes."""
    return pack(PageMessage(SCHEMA, page.pod, page.hashes, page.sizes))


def is_too_deep(record: PolicyRecord) -> bool:
    """Whether any of its parameters are nested deeper than is read."""
    candidate = record.canary.choice if record.canary is not None else None
    choices = (record, record.shadow, candidate)
    return any(choice is not None and not _is_flat(choice.params) for choice in choices)


def pack_record(record: PolicyRecord) -> bytes:
    """A record as JSON without its generation, which the script adds. Raises TypeError if it is not JSON."""
    return msgspec.json.encode(written(record, SCHEMA))


def pack_whole_record(record: PolicyRecord) -> bytes:
    """A record as JSON with its generation, to be restored after Redis lost it."""
    return msgspec.json.encode({"generation": record.generation, **written(record, SCHEMA)})


def standing(token: str, seq: int) -> str:
    """The value of an inflight hash's `@`."""
    return f"{token} {seq}"


def read_standing(data: bytes) -> tuple[str, int]:
    """(token, seq) of an inflight hash; ("", 0) if it cannot be decoded."""
    token, _, rest = data.decode("ascii", "replace").partition(" ")
    seq = rest.split(" ")[0]
    return (token, int(seq)) if seq.isdecimal() and len(seq) <= _MAX_DIGITS else ("", 0)


def _is_flat(value: object, depth: int = 0) -> bool:
    """Whether lists and maps are nested less than `MAX_DEPTH` deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth < MAX_DEPTH and all(_is_flat(each, depth + 1) for each in inner)
