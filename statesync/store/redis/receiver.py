"""Passes the other replicas' updates to the listener: each once, in order, and reports missed messages.

Messages come over the channel by `push`. What a joining replica reads from the keys comes by `stored`, `reported` and
`entry`; policies are read by `shared_policies.py`, and a message about one only suggests to do so. Between `hold` and
`release` messages wait, so that older data comes first. It sends nothing and waits for nothing. What others wrote may
be anything: an update that the listener cannot take is logged and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from schedulers.types import PodId
from statesync.store.protocol import PolicyRecord, StateListener
from statesync.store.redis.keys import STANDING
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.messages import (
    ChangesMessage,
    Envelope,
    GoneMessage,
    HeartbeatMessage,
    Message,
    MessageDecoder,
    PlacementMessage,
    PolicyChangedMessage,
    ReportMessage,
    log_id_before,
    numbers_of,
    read_standing,
    unpack_blocks,
)
from statesync.store.redis.placement_log import PlacementLog, parse_id
from statesync.store.redis.view_age import ViewAge
from statesync.types import KnownPod, PrefixPage

Clock = Callable[[], float]
_STANDING = STANDING.encode()

LEAP: Final = 1_000_000
"""Messages by which a sequence number may be ahead of the last one. A replica sends 500 a second at most, so a number
further ahead is no sender's, and would make this replica ignore all that follow."""

_MAX_DIGITS: Final = 15
"""Of a time in milliseconds."""


class SenderSequences:
    """The incarnation and the last message of each other replica: which of its numbers are current."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}
        """Token and sequence number, by replica."""

    def take(self, message: ChangesMessage) -> tuple[bool, bool]:
        """Note a message; returns (whether its numbers are current, whether an earlier message was missed).

        A full message needs no earlier one. Of an unknown incarnation's messages only a full one can be used.
        """
        token, seq = self._last.get(message.replica, ("", 0))
        if message.full:
            missed = False
        elif message.token != token:
            return False, True
        elif message.seq <= seq:
            return False, False
        elif message.seq > seq + LEAP:
            return False, True
        else:
            missed = message.seq != seq + 1
        self._last[message.replica] = message.token, message.seq
        return True, missed

    def read(self, replica: str, token: str, seq: int) -> bool:
        """Note a replica's stored numbers; returns False if a later message of it was taken already."""
        known, last = self._last.get(replica, ("", 0))
        if token == known and seq < last:
            return False
        self._last[replica] = token, seq
        return True

    def reached(self, replica: str, token: str, seq: int) -> bool:
        """Whether that message of that incarnation, or a later one, was taken."""
        known, last = self._last.get(replica, ("", 0))
        return token == known and last >= seq

    def drop(self, replica: str) -> None:
        """The replica is gone."""
        self._last.pop(replica, None)

    def __repr__(self) -> str:
        return f"<SenderSequences of {', '.join(self._last) or 'no replica'}>"


class UpdateReceiver:
    """Decodes updates for one listener. `missed` is called with a replica whose numbers have to be read again."""

    def __init__(
        self, replica: str, listener: StateListener, live_replicas: LiveReplicas, view_age: ViewAge, clock: Clock
    ) -> None:
        self._replica = replica
        self._listener = listener
        self._live_replicas = live_replicas
        self._view_age = view_age
        self._clock = clock
        self.reader = MessageDecoder()
        self._sequences = SenderSequences()
        self.log = PlacementLog(self._fold)
        self.own_tokens: set[str] = set()
        """Tokens of all incarnations of this process, whose updates need not be read."""
        self.missed: Callable[[str], None] | None = None
        self.joined: Callable[[], None] | None = None
        """Called when a replica appears that was not live."""
        self.other_pods: Callable[[str], None] | None = None
        """Called with a replica whose pods have to be read."""
        self.suggested: Callable[[str, PolicyRecord | None], None] | None = None
        """Called with a pool whose records have to be read, and another replica's record of it in the message."""
        self._held: list[Envelope] | None = None
        self._handlers: Mapping[type[Message], Callable[[Any], None]] = {
            ChangesMessage: self._changes,
            HeartbeatMessage: self._beat,
            GoneMessage: self._gone,
            PolicyChangedMessage: self._policy,
        }

    def push(self, push: list[object]) -> None:
        """Take a push of the connection."""
        if push[0] == b"message" and isinstance(push[2], bytes):
            self.receive(push[2])

    def receive(self, data: bytes) -> None:
        """Take a message of the channel."""
        echo = self._view_age.echo
        if echo and data.endswith(echo):  # Decoding the own message would be a tenth of a flush's cost.
            self._echoed(log_id_before(data, len(echo)))
            return
        envelope = self.reader.envelope(data)
        if envelope is None:
            return
        message = envelope.message
        if message.token in self.own_tokens:
            self._own(envelope)
        elif self._held is not None:
            self._held.append(envelope)
        else:
            self._take(envelope)

    def hold(self) -> None:
        """Let messages wait until `release`, and placements until the log is read."""
        self._held = []
        self.log.behind()

    def release(self) -> None:
        """All but the log is read: take the messages that waited."""
        held, self._held = self._held or [], None
        for envelope in held:
            self._take(envelope)

    def drop(self, replica: str) -> None:
        """The replica is not live any more."""
        self._sequences.drop(replica)
        self._deliver("the end of a replica", self._listener.replica_gone, replica)

    # Data read from the keys.

    def stored(self, replica: str, fields: Mapping[bytes, bytes]) -> str:
        """Take a replica's hash; returns the token in it. Empty if it has none: then the replica is not live."""
        token, seq = read_standing(fields.get(_STANDING, b""))
        if not token:
            return ""
        numbers = {}
        for pod, packed in fields.items():
            if pod != _STANDING and (decoded := self.reader.numbers(packed)) is not None:
                numbers[PodId(pod.decode("utf-8", "replace"))] = decoded
        if self._sequences.read(replica, token, seq):
            self._deliver("a pod's numbers", self._listener.replica_inflight, replica, numbers, True)
        return token

    def reported(self, stored: Mapping[bytes, bytes], now_ms: float, skip_own: bool) -> None:
        """Take the hash of engine reports, read at `now_ms` by the server's clock."""
        for pod, value in stored.items():
            at, _, packed = value.partition(b":")
            report = self.reader.report(packed) if at.isdigit() and len(at) <= _MAX_DIGITS else None
            if report is not None and not (skip_own and report.replica == self._replica):
                age_s = max(0.0, (now_ms - int(at)) / 1000) + report.age_s
                self._report(PodId(pod.decode("utf-8", "replace")), report, age_s)

    def pods(self, known: Mapping[PodId, KnownPod]) -> None:
        """Take what the replicas that were there before know of pods."""
        self._deliver("what is known of pods", self._listener.pods_elsewhere, known)

    def policy(self, pool: str, record: PolicyRecord) -> None:
        """Pass a pool's record on."""
        self._deliver("a policy record", self._listener.policy_changed, pool, record)

    def entry(self, log_id: bytes, data: bytes) -> None:
        """Take an entry of the log."""
        entry = self.reader.entry(data)
        mine = entry is None or entry.token in self.own_tokens
        self.log.read(parse_id(log_id.decode("ascii", "replace")), [] if entry is None or mine else entry.placements)

    # Messages.

    def _own(self, envelope: Envelope) -> None:
        message = envelope.message
        if isinstance(message, ChangesMessage | HeartbeatMessage):
            self._echoed(envelope.log_id)
        elif isinstance(message, PolicyChangedMessage) and self.suggested is not None:
            self.suggested(message.pool, None)  # The reply to this replica's change may have been lost.

    def _echoed(self, log_id: str) -> None:
        self._view_age.echoed(self._clock())
        if log_id and not self.log.received(log_id, []):
            self._miss(self._replica)

    def _take(self, envelope: Envelope) -> None:
        message, entry = envelope.message, envelope.entry
        if message.replica != self._replica:
            self._handlers[type(message)](message)
        if entry is not None and not self.log.received(envelope.log_id, entry.placements):
            # Of an earlier process with this name, only the placements are of use.
            self._miss(message.replica)

    def _changes(self, message: ChangesMessage) -> None:
        self._alive(message.replica, message.token)
        current, missed = self._sequences.take(message)
        if current and (message.numbers or message.full):
            numbers = {pod: numbers_of(counts) for pod, counts in message.numbers.items()}
            self._deliver("a pod's numbers", self._listener.replica_inflight, message.replica, numbers, message.full)
        if current and message.served:
            self._deliver("what was served", self._listener.served_elsewhere, message.replica, message.served)
        for pod, report in message.reports.items():
            self._report(pod, report, report.age_s)
        for pod in message.models:
            self._deliver("a pod's models", self._listener.models_changed_elsewhere, pod)
        if missed:
            self._miss(message.replica)

    def _beat(self, message: HeartbeatMessage) -> None:
        self._alive(message.replica, message.token)
        if not self._sequences.reached(message.replica, message.token, message.seq):
            self._miss(message.replica)
        if self._live_replicas.beat(message.replica, message.pods) and self.other_pods is not None:
            self.other_pods(message.replica)

    def _gone(self, message: GoneMessage) -> None:
        if self._live_replicas.gone(message.replica, message.token):
            self.drop(message.replica)

    def _policy(self, message: PolicyChangedMessage) -> None:
        record = self.reader.record(message.record)
        if record is not None and self.suggested is not None:
            self.suggested(message.pool, record)

    def _alive(self, replica: str, token: str) -> None:
        if self._live_replicas.seen(replica, token, self._clock()) and self.joined is not None:
            self.joined()

    def _miss(self, replica: str) -> None:
        if self.missed is not None:
            self.missed(replica)

    def restored(self, page: PrefixPage) -> None:
        """Take a page of a checkpoint."""
        self._deliver("a checkpoint's page", self._listener.restored, page)

    def _report(self, pod: PodId, report: ReportMessage, age_s: float) -> None:
        self._deliver("a report", self._listener.reported_elsewhere, pod, report.engine(), age_s)

    def _fold(self, placements: Sequence[PlacementMessage]) -> None:
        listener = self._listener
        for placement in placements:
            if not placement.blocks:
                self._deliver("a log entry", listener.forgotten_elsewhere, placement.pod)
            elif blocks := unpack_blocks(placement.blocks):
                self._deliver("a log entry", listener.placed_elsewhere, placement.pod, blocks)

    def _deliver(self, what: str, take: Callable[..., None], *update: object) -> None:
        """Pass an update on. One that cannot be taken costs itself, not the link and all that follows."""
        try:
            take(*update)
        except Exception as error:  # noqa: BLE001  see above
            self.reader.refuse(what, error)

    def __repr__(self) -> str:
        held = "" if self._held is None else f", {len(self._held)} held"
        return f"<UpdateReceiver of {self._replica}: {self._sequences!r}, {self.log!r}{held}>"
