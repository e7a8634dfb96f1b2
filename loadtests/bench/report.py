"""Samples to figures: medians over the rounds, ratios within a round, the table and the JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from loadtests.bench.wrk import Load


class Sample(NamedTuple):
    """One peer in one round."""

    peer: str
    round: int
    load: Load
    cpu_s: float
    """CPU time its processes took during the load."""
    rss_bytes: int

    @property
    def cpu_us(self) -> float:
        """CPU time a request, in microseconds."""
        return self.cpu_s * 1e6 / self.load.requests


class Figures(NamedTuple):
    """A peer over all rounds: each figure is the median of its own column."""

    peer: str
    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    wrong: int
    """Requests that failed or had a bad status, over all rounds: a sum, because one is too many."""


class Ratio(NamedTuple):
    """One peer against another; above 1 is in the first one's favour in both."""

    rate: float
    cpu: float


def figures(peer: str, samples: Sequence[Sample]) -> Figures:
    """The medians of `peer`."""
    own = [sample for sample in samples if sample.peer == peer]
    return Figures(
        peer=peer,
        rate=median(sample.load.rate for sample in own),
        cpu_us=median(sample.cpu_us for sample in own),
        p50_ms=median(sample.load.p50_ms for sample in own),
        p99_ms=median(sample.load.p99_ms for sample in own),
        rss_mb=median(sample.rss_bytes for sample in own) / 1e6,
        wrong=sum(sample.load.failed + sample.load.bad_status for sample in own),
    )


def ratio(ours: str, theirs: str, samples: Sequence[Sample]) -> Ratio | None:
    """Ours against theirs, round by round, then the median: a machine that slows down slows both of a round.

    None where they share no round.
    """
    by_round: dict[int, dict[str, Sample]] = {}
    for sample in samples:
        by_round.setdefault(sample.round, {})[sample.peer] = sample
    pairs = [(row[ours], row[theirs]) for row in by_round.values() if ours in row and theirs in row]
    if not pairs:
        return None
    return Ratio(
        rate=median(a.load.rate / b.load.rate for a, b in pairs),
        cpu=median(b.cpu_us / a.cpu_us for a, b in pairs if a.cpu_us and b.cpu_us),
    )


def peers_of(samples: Sequence[Sample]) -> list[str]:
    """The peers in the order they were first measured."""
    return list(dict.fromkeys(sample.peer for sample in samples))


_COLUMNS = ("", "req/s per core", "cpu us/req", "p50 ms", "p99 ms", "RSS MB", "wrong")


def table(samples: Sequence[Sample]) -> str:
    """What a person reads, medians first, then ours against each peer."""
    rows = [_COLUMNS]
    for one in (figures(peer, samples) for peer in peers_of(samples)):
        numbers = (f"{one.rate:,.0f}", f"{one.cpu_us:.1f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}")
        rows.append((one.peer, *numbers, f"{one.rss_mb:.0f}", str(one.wrong)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "", *_verdicts(samples)])


def _verdicts(samples: Sequence[Sample]) -> list[str]:
    lines = []
    for peer in peers_of(samples):
        against = ratio("turnout", peer, samples) if peer not in ("turnout", "direct") else None
        if against is not None:
            lines.append(f"turnout / {peer}: {against.rate:.2f} x by req/s, {against.cpu:.2f} x by CPU a request")
    room = ratio("direct", "nginx", samples) or ratio("direct", "turnout", samples)
    if room is not None:
        verdict = "not the bottleneck" if room.rate > 1 else "THE BOTTLENECK: the figures above say little"
        lines.append(f"engines and load generator alone do {room.rate:.2f} x the fastest proxy: {verdict}")
    return lines


def as_json(case: str, samples: Sequence[Sample]) -> dict[str, object]:
    """What a program reads: medians, ratios of turnout to each, and every sample."""
    peers = peers_of(samples)
    ratios = {peer: ratio("turnout", peer, samples) for peer in peers if peer != "turnout"}
    return {
        "case": case,
        "peers": [figures(peer, samples)._asdict() for peer in peers],
        "turnout_vs": {peer: found._asdict() for peer, found in ratios.items() if found is not None},
        "samples": [
            {"peer": s.peer, "round": s.round, "cpu_us": s.cpu_us, "rss_bytes": s.rss_bytes, **s.load._asdict()}
            for s in samples
        ],
    }
