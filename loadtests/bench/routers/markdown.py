"""The report as Markdown: a table for each case, what limited it, and this gateway against each peer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from loadtests.bench.load.cases import Case
from loadtests.bench.routers.samples import Row, Sample, of_case, peers_of, ratio, row
from loadtests.report.figures import over
from loadtests.report.tables import facts, grid

STREAMS_FOR_MEMORY = 200
"""With fewer open, the memory of a stream is below the noise."""


class Column(NamedTuple):
    """One column of a table."""

    title: str
    cell: Callable[[Row], str]


def _number(figure: str, digits: int, scale: float = 1.0) -> Callable[[Row], str]:
    def cell(found: Row) -> str:
        value = found.figures[figure].median * scale
        return f"{value:,.{digits}f}" if value else "-"

    return cell


def _with_range(figure: str, digits: int) -> Callable[[Row], str]:
    def cell(found: Row) -> str:
        value = found.figures[figure]
        return f"{value.median:,.{digits}f} ({value.least:,.{digits}f} to {value.most:,.{digits}f})"

    return cell


def _stream_kb(found: Row) -> str:
    known = found.peer != "direct" and found.open_streams >= STREAMS_FOR_MEMORY
    return f"{found.figures['stream_kb'].median:.1f}" if known else "-"


_NAME = Column("router", lambda found: found.peer)
_TAIL = (
    Column("RSS MB", _number("rss_mb", 0)),
    Column("router core %", _number("core_share", 0, 100)),
    Column("load core %", _number("load_core_share", 0, 100)),
    Column("wrong", lambda found: str(found.wrong)),
)
WHOLE = (
    _NAME,
    Column("req/s", _with_range("rate", 0)),
    Column("CPU us/request", _with_range("cpu_us", 1)),
    Column("p50 ms", _number("p50_ms", 3)),
    Column("p99 ms", _number("p99_ms", 2)),
    *_TAIL,
)
STREAMS = (
    _NAME,
    Column("chunks/s", _with_range("chunk_rate", 0)),
    Column("CPU us/chunk", _with_range("chunk_us", 1)),
    Column("gap p50 ms", _number("gap_p50_ms", 2)),
    Column("gap p99 ms", _number("gap_p99_ms", 2)),
    Column("first chunk p50 ms", _number("p50_ms", 2)),
    Column("KB/open stream", _stream_kb),
    *_TAIL,
)

WATCHED = ("turnout-all", "turnout-pair")
"""The variants that the summaries compare with the other routers."""

SUMMARY = (
    ("1k", "cpu_us", "CPU a request, 1.2 KB"),
    ("32k", "cpu_us", "CPU a request, 32 KB"),
    ("400k", "cpu_us", "CPU a request, 400 KB"),
    ("conversations", "cpu_us", "CPU a turn"),
    ("stream", "chunk_us", "CPU a chunk, full speed"),
    ("paced-256", "chunk_us", "CPU a chunk, paced"),
    ("one", "p50_ms", "p50 of one connection"),
)


def document(
    machine: Mapping[str, str],
    peers: Mapping[str, tuple[str, str]],
    missing: Mapping[str, str],
    cases: Sequence[Case],
    samples: Sequence[Sample],
) -> str:
    """The whole report. `peers` has version and description, by name."""
    parts = ["# Routers side by side", _HOW, facts("machine", machine), _peers(peers, missing)]
    parts += [against(watched, samples) for watched in WATCHED if watched in peers_of(samples)]
    for case in cases:
        own = of_case(case.name, samples)
        if own:
            parts += [f"## {case.title}", case_report(case, own)]
    return "\n\n".join([*parts, _NOT]) + "\n"


def case_report(case: Case, samples: Sequence[Sample]) -> str:
    """A case's table and the remarks below it."""
    rows = [row(peer, samples) for peer in peers_of(samples)]
    columns = STREAMS if case.stream else WHOLE
    return (
        f"{grid([column.title for column in columns], [[column.cell(one) for column in columns] for one in rows])}\n\n"
        + (verdict(case, samples))
    )


def verdict(case: Case, samples: Sequence[Sample]) -> str:
    """What limited the rate, and how busy the machine was with other programs."""
    figure = "chunk_rate" if case.stream else "rate"
    best = max((row(peer, samples).figures[figure].median for peer in peers_of(samples) if peer != "direct"), default=0)
    alone = row("direct", samples).figures if any(sample.peer == "direct" for sample in samples) else None
    noise = over(sample.foreign_share for sample in samples)
    remarks = []
    if alone is not None and case.gap_s:
        remarks.append(
            f"Engines and load generator alone hold the pace at {alone['load_core_share'].median:.0%} of their core, "
            f"gaps p50 {alone['gap_p50_ms'].median:.1f} and p99 {alone['gap_p99_ms'].median:.1f} ms."
        )
    elif alone is not None and best:
        times = alone[figure].median / best
        judged = "not the bottleneck" if times > 1.1 else "THE BOTTLENECK: rates say little, CPU times hold"
        remarks.append(f"Engines and load generator alone do {times:.2f} x the fastest router: {judged}.")
    remarks.append(f"Other programs took {noise.median:.0%} of a core during a run, at most {noise.most:.0%}.")
    return " ".join(remarks)


def against(watched: str, samples: Sequence[Sample]) -> str:
    """A summary: `watched` over each peer."""
    peers = [peer for peer in peers_of(samples) if peer not in ("direct", *WATCHED)]
    lines = []
    for case, figure, title in SUMMARY:
        own = of_case(case, samples)
        found = [ratio(figure, watched, peer, own) for peer in peers]
        if any(value is not None for value in found):
            lines.append([title, *(f"{value:.2f}" if value is not None else "-" for value in found)])
    title = f"## {watched} over each of the others (below 1 is less than theirs)"
    return f"{title}\n\n{grid(['', *peers], lines)}" if lines else ""


def _peers(peers: Mapping[str, tuple[str, str]], missing: Mapping[str, str]) -> str:
    text = grid(["router", "version", "what"], [[name, *about] for name, about in peers.items()])
    left_out = [f"Left out: {name}: {why}" for name, why in missing.items()]
    return "\n\n".join([text, *left_out])


_HOW = """\
Written by `make bench`. Each router runs alone on core 0 with one worker thread; engines with canned answers and the
load generator share core 1. Repeats are interleaved: every router has its turn, then all of them again. A figure is the
median over the repeats, with the least and the most in brackets; a ratio is taken within a repeat, then its median. CPU
time is user plus system time of the router's processes during the load, from /proc, divided by the number of answers.
It is valid where the load side was the limit as well (a router core well below 100 %); req/s is a lower bound there.
Routers that log every request by default run with a higher log level."""

_NOT = """\
## What these figures do not say

They are from one machine, one core for each router, loopback, plain HTTP and an engine that answers at once. A real
engine takes a thousand times longer than any router here, so that the policy matters more than the router's own cost.
Routers that can use many cores have one here. The Rust routers have features this gateway lacks, and vice versa. KB per
open stream is the process's own memory, without the kernel's socket buffers, which are the same for all."""
