"""Recorded traffic as arrivals: several file formats, one value. It knows no policy and no engine.

* JSONL as Mooncake's traces: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` (one per 512 tokens of
  prompt, chained: equal leading ids are an equal prefix).
* JSONL with lengths only: the same without `hash_ids`. `session` is taken where it is there.
* The gateway's own recording (`router/recording/recorder.py`): the same, and `block_tokens` says what a hash id stands
  for, `blocks_per_size` after how many of them that doubles.
* CSV with a header, such as Azure's: `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`; or named as in the JSONL.

A name that ends in `.gz` is unpacked on the way.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from schedulers.types import NO_SLO, Slo

MOONCAKE_UNIT_TOKENS: Final = 512
"""Tokens a hash id of the Mooncake traces stands for."""

_WORD: Final = 2**64 - 1
_MIX: Final = 0x9E3779B97F4A7C15
"""An odd constant with well spread bits (2^64 over the golden ratio): makes the pieces of one coarse block distinct."""


class TraceError(ValueError):
    """A trace that cannot be read; the message says which line and why."""


class Arrival(NamedTuple):
    """One request of a trace."""

    at_s: float
    """Seconds from the first arrival."""
    prompt_tokens: int
    output_tokens: int
    units: Sequence[int] = ()
    """Chained ids of the prompt's pieces, 64 bits each: equal leading ids mean an equal prefix."""
    session: str = ""
    priority: int = 0
    """As `RequestInfo.priority`; a batch that can wait has one below 0."""
    slo: Slo = NO_SLO
    think_s: float | None = None
    """Seconds from the end of the session's previous answer to this request; None if the trace does not show it."""
    tenant: str = ""


class Trace(NamedTuple):
    """A whole trace, in order of arrival."""

    name: str
    unit_tokens: int
    """What one of an arrival's `units` stands for."""
    arrivals: Sequence[Arrival]

    def rated(self, factor: float) -> Trace:
        """The same requests, arriving `factor` times as fast."""
        return self._replace(arrivals=[each._replace(at_s=each.at_s / factor) for each in self.arrivals])

    def first(self, count: int) -> Trace:
        """Its first `count` requests."""
        return self._replace(arrivals=self.arrivals[:count])


class _Line(msgspec.Struct):
    """A line of JSONL, in any of the spellings."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []
    session: str = ""
    block_tokens: int = MOONCAKE_UNIT_TOKENS
    blocks_per_size: int = 0
    """Hash ids until they stand for twice as much; 0 for never."""
    think: float | None = None
    """Seconds."""
    e2e_ms: float | None = None


class _Read(NamedTuple):
    """An arrival as it stands in the file."""

    arrival: Arrival
    unit_tokens: int
    """What one of its units stands for; 0 where it has none."""
    e2e_s: float | None = None
    """Until the end of its answer, if the trace has it."""


def read_trace(path: Path, *, seed: int = 0) -> Trace:
    """Read a trace by its name's ending. Raises TraceError, OSError.

    Arrivals under one stamp are spread up to the next stamp, in order, by `seed`: recorders stamp in clumps
    (Mooncake's: 3 s), and a policy should not be judged on bursts that did not happen.
    """
    plain = path.name.removesuffix(".gz")
    stem, _, ending = plain.rpartition(".")
    read = _READERS.get(ending)
    if read is None:
        raise TraceError(f"{path.name}: a trace ends in {' or '.join('.' + each for each in _READERS)} (or with .gz)")
    opened = gzip.open(path, "rt", encoding="utf-8") if path.name.endswith(".gz") else path.open(encoding="utf-8")
    try:
        with opened as lines:
            found = sorted(read(lines, path.name), key=lambda each: each.arrival.at_s)
    except (UnicodeDecodeError, EOFError) as error:
        raise TraceError(f"{path.name}: {error}") from None
    if not found:
        raise TraceError(f"{path.name}: no requests in it")
    start = found[0].arrival.at_s
    arrivals = [each._replace(at_s=each.at_s - start) for each in _with_think_times(found)]
    return Trace(stem, _one_unit(found, path.name), list(_spread(arrivals, random.Random(seed))))


def _one_unit(found: Sequence[_Read], name: str) -> int:
    units = {each.unit_tokens for each in found} - {0}
    if len(units) > 1:
        raise TraceError(f"{name}: lines disagree on block_tokens: {', '.join(map(str, sorted(units)))}")
    return units.pop() if units else MOONCAKE_UNIT_TOKENS


def _with_think_times(found: Sequence[_Read]) -> Iterator[Arrival]:
    """Think times of sessions whose answers' ends are recorded; 0 for a request that came before the previous end."""
    ended: dict[str, float] = {}
    for arrival, _, e2e_s in found:
        before = ended.get(arrival.session)
        think = max(0.0, arrival.at_s - before) if before is not None and arrival.think_s is None else arrival.think_s
        yield arrival._replace(think_s=think)
        if arrival.session and e2e_s is not None:
            ended[arrival.session] = arrival.at_s + e2e_s


def _spread(arrivals: Sequence[Arrival], rng: random.Random) -> Iterator[Arrival]:
    """Give each of a clump its own moment before the next stamp; none later than a usual gap."""
    clumps = [(stamp, list(group)) for stamp, group in groupby(arrivals, key=lambda each: each.at_s)]
    gaps = [after[0] - before[0] for before, after in pairwise(clumps)]
    usual = median(gaps) if gaps else 0.0
    for (stamp, clump), gap in zip(clumps, [*gaps, usual], strict=True):
        if len(clump) == 1:
            yield clump[0]
            continue
        window = min(gap, usual)
        for each, moment in zip(clump, sorted(rng.random() for _ in clump), strict=True):
            yield each._replace(at_s=stamp + moment * window)


def _jsonl(lines: Iterable[str], name: str) -> Iterator[_Read]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise TraceError(f"{name}, line {number}: {error}") from None
        if line.block_tokens < 1 or line.blocks_per_size < 0:
            raise TraceError(f"{name}, line {number}: a block stands for at least one token")
        units = [unit & _WORD for unit in line.hash_ids]
        if line.blocks_per_size:
            units = _evened(units, line.blocks_per_size)
        arrival = _arrival(line.timestamp / 1000, line.input_length, line.output_length, units, line.session)
        e2e_s = line.e2e_ms / 1000 if line.e2e_ms is not None else None
        yield _Read(arrival._replace(think_s=line.think), line.block_tokens if units else 0, e2e_s)


def _evened(blocks: Sequence[int], per_size: int) -> list[int]:
    """Blocks that double in size after every `per_size`, as units of the first block's size."""
    units: list[int] = []
    for at, block in enumerate(blocks):
        units += [block + piece * _MIX & _WORD for piece in range(1 << at // per_size)]
    return units


def _csv(lines: Iterable[str], name: str) -> Iterator[_Read]:
    rows = csv.DictReader(lines)
    columns = _columns(rows.fieldnames or (), name)
    for number, row in enumerate(rows, 2):
        try:
            stamp, prompt, answer = (row[column] for column in columns)
            yield _Read(_arrival(_seconds(stamp), int(prompt), int(answer)), 0)
        except (ValueError, TypeError, AttributeError) as error:
            raise TraceError(f"{name}, line {number}: {error}") from None


_COLUMNS: Final = (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), ("timestamp", "input_length", "output_length"))


def _columns(header: Iterable[str], name: str) -> tuple[str, str, str]:
    there = set(header)
    for columns in _COLUMNS:
        if there.issuperset(columns):
            return columns
    raise TraceError(f"{name}: needs the columns {' or '.join(', '.join(columns) for columns in _COLUMNS)}")


def _seconds(stamp: str) -> float:
    """A date and time (UTC unless it has an offset), or a number of milliseconds."""
    try:
        return float(stamp) / 1000
    except ValueError:
        moment = datetime.fromisoformat(stamp)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _arrival(at_s: float, prompt: int, answer: int, units: Sequence[int] = (), session: str = "") -> Arrival:
    return Arrival(at_s, max(1, prompt), max(1, answer), tuple(units), session)


_READERS: Final[Mapping[str, Callable[[Iterable[str], str], Iterator[_Read]]]] = MappingProxyType(
    {"jsonl": _jsonl, "csv": _csv}
)
