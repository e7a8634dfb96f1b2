"""Samples to figures: medians, the least and the most over the repeats, ratios within a repeat. Pure;
`markdown.py` writes the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

from loadtests.bench.load.cores import LOAD_CORE
from loadtests.bench.load.result import Load
from loadtests.report.figures import Range, over


class Sample(NamedTuple):
    """One peer in one repeat of one case."""

    case: str
    peer: str
    round: int
    load: Load
    cpu_s: float
    """CPU time its processes took during the load."""
    rss_bytes: int
    rss_idle_bytes: int
    """Before the case's load, after a little of it to warm up."""
    cores_s: tuple[float, ...]
    """Busy time of each core during the load, by any process."""
    load_cpu_s: float
    """CPU time that engines and load generator took, all of it on their own core."""
    open_streams: int = 0

    @property
    def cpu_us(self) -> float:
        """CPU time a request, in microseconds."""
        return self.cpu_s * 1e6 / max(1, self.load.requests)

    @property
    def chunk_us(self) -> float:
        """CPU time a chunk, in microseconds, all else of the stream spread over its chunks."""
        return self.cpu_s * 1e6 / max(1, self.load.chunks)

    @property
    def stream_kb(self) -> float:
        """Memory of one more open stream, in KB of 1,000 bytes."""
        return (self.rss_bytes - self.rss_idle_bytes) / 1e3 / max(1, self.open_streams)

    @property
    def core_share(self) -> float:
        """Share of its core that the router used, 0..1: below about 0.9 it waited for load."""
        return self.cpu_s / self.load.seconds

    @property
    def load_core_share(self) -> float:
        """Busy share of the core of engines and load generator, 0..1; 0 if there is no such core."""
        return self.cores_s[LOAD_CORE] / self.load.seconds if len(self.cores_s) > LOAD_CORE else 0.0

    @property
    def foreign_share(self) -> float:
        """Share of the busier core that other programs used, 0..1: noise."""
        ours = (0.0 if self.peer == "direct" else self.cpu_s, self.load_cpu_s)
        pairs = zip(self.cores_s, ours, strict=False)
        return max((max(0.0, busy - own) / self.load.seconds for busy, own in pairs), default=0.0)


FIGURES: dict[str, Callable[[Sample], float]] = {
    "rate": lambda sample: sample.load.rate,
    "cpu_us": lambda sample: sample.cpu_us,
    "p50_ms": lambda sample: sample.load.p50_ms,
    "p99_ms": lambda sample: sample.load.p99_ms,
    "chunk_rate": lambda sample: sample.load.chunk_rate,
    "chunk_us": lambda sample: sample.chunk_us,
    "gap_p50_ms": lambda sample: sample.load.gap_p50_ms,
    "gap_p99_ms": lambda sample: sample.load.gap_p99_ms,
    "rss_mb": lambda sample: sample.rss_bytes / 1e6,
    "stream_kb": lambda sample: sample.stream_kb,
    "core_share": lambda sample: sample.core_share,
    "load_core_share": lambda sample: sample.load_core_share,
    "foreign_share": lambda sample: sample.foreign_share,
}


class Row(NamedTuple):
    """A peer over all repeats of a case."""

    peer: str
    figures: dict[str, Range]
    wrong: int
    """Requests that failed or had a bad status: a sum, because none is acceptable."""
    open_streams: int


def row(peer: str, samples: Sequence[Sample]) -> Row:
    """The figures of `peer` out of one case's samples."""
    own = [sample for sample in samples if sample.peer == peer]
    return Row(
        peer=peer,
        figures={name: over(map(figure, own)) for name, figure in FIGURES.items()},
        wrong=sum(sample.load.failed + sample.load.bad_status for sample in own),
        open_streams=min(sample.open_streams for sample in own),
    )


def ratio(figure: str, ours: str, theirs: str, samples: Sequence[Sample]) -> float | None:
    """Ratio of two peers in each repeat, then the median: other load on the machine slows both of a repeat.

    `samples` are of one case. None where they share no repeat.
    """
    of = FIGURES[figure]
    by_round: dict[int, dict[str, float]] = {}
    for sample in samples:
        by_round.setdefault(sample.round, {})[sample.peer] = of(sample)
    found = [row[ours] / row[theirs] for row in by_round.values() if row.get(theirs) and ours in row]
    return median(found) if found else None


def of_case(case: str, samples: Sequence[Sample]) -> list[Sample]:
    """The samples of one case."""
    return [sample for sample in samples if sample.case == case]


def peers_of(samples: Sequence[Sample]) -> list[str]:
    """The peers in the order they were first measured."""
    return list(dict.fromkeys(sample.peer for sample in samples))


def cases_of(samples: Sequence[Sample]) -> list[str]:
    """The cases in the order they were first measured."""
    return list(dict.fromkeys(sample.case for sample in samples))


def as_json(
    machine: dict[str, str], versions: dict[str, str], missing: dict[str, str], samples: Sequence[Sample]
) -> Any:
    """What a program reads: figures by case and peer, and every sample."""
    return {
        "machine": machine,
        "versions": versions,
        "left_out": missing,
        "cases": {case: _case_json(of_case(case, samples)) for case in cases_of(samples)},
        "samples": [{**sample._asdict(), "load": sample.load._asdict()} for sample in samples],
    }


def _case_json(samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        peer: {
            **{name: figure._asdict() for name, figure in found.figures.items()},
            "wrong": found.wrong,
            "open_streams": found.open_streams,
        }
        for peer in peers_of(samples)
        for found in [row(peer, samples)]
    }
