"""The report: a table for each traffic, the goals, and each router beside its twin in the simulator. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final, NamedTuple

import msgspec

from loadtests.bench.shootout.contestants import CONTESTANTS
from loadtests.bench.shootout.played import LATE_S, Figures, Played, figures
from loadtests.bench.shootout.stretches import TRAFFIC
from loadtests.bench.shootout.twins import Simulated
from loadtests.report.goals import Goal, goal_table
from loadtests.report.tables import facts, grid

APART: Final = 0.15
"""By which a simulated mean may differ from the real one."""
POINTS: Final = 3.0
"""By which a simulated hit rate may differ, in points."""

Key = tuple[str, int, str]
"""Traffic, number of the stretch, policy of the simulator."""


class Found(NamedTuple):
    """All there is to report."""

    about: Mapping[str, str]
    runs: Sequence[Played]
    missing: Mapping[str, str]
    """Why a router is not in the tables."""
    twins: Mapping[Key, Simulated]


def of(found: Found, traffic: str) -> dict[str, list[Played]]:
    """The runs of that traffic by router, in the table's order."""
    rows: dict[str, list[Played]] = {}
    for name in CONTESTANTS:
        own = [run for run in found.runs if run.traffic == traffic and run.router == name]
        if own:
            rows[name] = own
    return rows


def goals(found: Found) -> Iterator[Goal]:
    """Ours against each real router, by the ratio of means within a stretch, and how exact the runs were."""
    for traffic, (least, at_most) in {"conversation": (2.0, False), "agents": (1.0, True)}.items():
        rows = of(found, traffic)
        for name in rows:
            ratios = over(rows.get("turnout", []), rows[name])
            if CONTESTANTS[name].rival and ratios:
                what = f"{name}'s mean over turnout's" if not at_most else f"turnout's mean over {name}'s"
                yield Goal(f"{traffic}: {what}", 1 / median(ratios) if at_most else median(ratios), least, at_most)
    for run in found.runs:
        late = figures([run]).late_p99_s
        if late > LATE_S:
            yield Goal(f"{run.traffic} {run.number}, {run.router}: lateness p99, ms", 1000 * late, 1000 * LATE_S, True)


def over(ours: Sequence[Played], theirs: Sequence[Played]) -> list[float]:
    """Their mean time to first token over ours, in each stretch that both have played."""
    own = {run.number: figures([run]).ttft_s.mean for run in ours}
    pairs = [(figures([run]).ttft_s.mean, own[run.number]) for run in theirs if own.get(run.number)]
    return [other / one for other, one in pairs]


def document(found: Found) -> str:
    """The whole page."""
    parts = ["# Shootout: the routers that others ship", _HOW, facts("run", found.about), _who(found)]
    reached = list(goals(found))
    parts += ["## Goals", goal_table(reached)] if reached else []
    for traffic, kind in TRAFFIC.items():
        rows = of(found, traffic)
        if rows:
            parts += [f"## {traffic.capitalize()}: {kind.what}", table(rows), stretches(rows), machine(rows)]
    pairs = twin_rows(found)
    if pairs:
        parts += ["## The routers and their twins in the simulator", _TWINS, grid(_TWIN_TITLES, pairs), order(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _who(found: Found) -> str:
    there = {run.router for run in found.runs}
    rows = [[name, who.version(), who.what] for name, who in CONTESTANTS.items() if name in there]
    left_out = [f"Left out: {name}: {why}" for name, why in found.missing.items()]
    return "\n\n".join([grid(["router", "version", "what"], rows), *left_out]) if rows else "\n\n".join(left_out)


def table(rows: Mapping[str, Sequence[Played]]) -> str:
    """What clients got."""
    titles = ["", "TTFT mean", "p50", "p99", "short p99", "E2E mean", "hits", "x turnout", "requests", "failed"]
    return grid(titles, [_clients(name, figures(runs), rows) for name, runs in rows.items()])


def _clients(name: str, row: Figures, rows: Mapping[str, Sequence[Played]]) -> list[str]:
    ttft, ratios = row.ttft_s, over(rows.get("turnout", []), rows[name])
    times = [f"{value:.2f}" for value in (ttft.mean, ttft.p50, ttft.p99, row.short_p99_s, row.e2e_s)]
    ratio = f"{median(ratios):.2f}" if ratios else "-"
    return [name, *times, f"{row.hit_rate:.1%}", ratio, str(row.requests), failed(row)]


def failed(row: Figures) -> str:
    """Failures by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in row.failures.items()) or "0"


def stretches(rows: Mapping[str, Sequence[Played]]) -> str:
    """Each stretch's mean."""
    numbers = sorted({run.number for runs in rows.values() for run in runs})
    lines = []
    for name, runs in rows.items():
        means = {run.number: f"{figures([run]).ttft_s.mean:.2f}" for run in runs}
        lines.append([name, *(means.get(number, "-") for number in numbers)])
    return grid(["TTFT mean in stretch", *map(str, numbers)], lines)


def machine(rows: Mapping[str, Sequence[Played]]) -> str:
    """How exact the run was, and what each part used."""
    titles = ["lateness", "p50 ms", "p99 ms", "max ms", "step ms", "lost s"]
    titles += ["router ms/request", "router cores", "pods", "load", "others", "RSS MB"]
    lines = []
    for name, runs in rows.items():
        row = figures(runs)
        late = [f"{value * 1000:.1f}" for value in (row.late_p50_s, row.late_p99_s, row.late_max_s, row.step_late_s)]
        cores = [f"{value:.2f}" for value in (row.router_cores, row.pods_cores, row.load_cores, row.other_cores)]
        lines.append([name, *late, f"{row.lost_s:.2f}", f"{row.router_ms:.1f}", *cores, f"{row.rss_mb:.0f}"])
    return grid(titles, lines)


def twin_rows(found: Found) -> list[list[str]]:
    """Real and simulated, over the stretches that were played."""
    lines = []
    for traffic in TRAFFIC:
        for name, runs in of(found, traffic).items():
            pair = twin_of(found, name, runs)
            if pair is not None:
                real, mean, hits = figures(runs), *pair
                agrees = abs(mean / real.ttft_s.mean - 1) <= APART and abs(hits - real.hit_rate) * 100 <= POINTS
                numbers = [f"{real.ttft_s.mean:.2f}", f"{mean:.2f}", f"{mean / real.ttft_s.mean:.2f}"]
                numbers += [f"{real.hit_rate:.1%}", f"{hits:.1%}", "yes" if agrees else "no"]
                lines.append([traffic, name, CONTESTANTS[name].twin, *numbers])
    return lines


def twin_of(found: Found, name: str, runs: Sequence[Played]) -> tuple[float, float] | None:
    """Simulated mean and hit rate on the same stretches; None where one of them was not simulated."""
    twin = CONTESTANTS[name].twin
    parts = [found.twins.get((run.traffic, run.number, twin)) for run in runs]
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    hits = sum(part.cached_tokens for part in known) / max(1, sum(part.prompt_tokens for part in known))
    return fmean(value for part in known for value in part.ttft_s), hits


def order(found: Found) -> str:
    """The routers by mean, in real time and simulated."""
    lines = []
    for traffic in TRAFFIC:
        known = [
            (name, figures(runs).ttft_s.mean, pair[0])
            for name, runs in of(found, traffic).items()
            if (pair := twin_of(found, name, runs)) is not None
        ]
        real = [name for name, _, _ in sorted(known, key=lambda each: each[1])]
        simulated = [name for name, _, _ in sorted(known, key=lambda each: each[2])]
        if known:
            lines.append(
                f"{traffic.capitalize()}, fastest first: {', '.join(real)}; simulated: {', '.join(simulated)}."
            )
    return "\n".join(lines)


def as_json(found: Found) -> Any:
    """What a program reads: figures by traffic and router, of all stretches and of each."""
    rows = {
        traffic: {
            name: {
                "all": msgspec.to_builtins(figures(runs)),
                "stretches": {str(run.number): msgspec.to_builtins(figures([run])) for run in runs},
            }
            for name, runs in of(found, traffic).items()
        }
        for traffic in TRAFFIC
    }
    twins = [
        {"traffic": traffic, "stretch": number, "policy": policy, "ttft_mean_s": fmean(run.ttft_s or [0.0])}
        | {"hit_rate": run.cached_tokens / max(1, run.prompt_tokens)}
        for (traffic, number, policy), run in found.twins.items()
    ]
    reached = [each._asdict() | {"met": each.met} for each in goals(found)]
    return {"about": found.about, "left_out": found.missing, "goals": reached, "rows": rows, "simulated": twins}


_TWIN_TITLES: Final = [
    "traffic",
    "router",
    "twin",
    "real mean",
    "simulated",
    "ratio",
    "real hits",
    "simulated",
    "agrees",
]
_HOW: Final = """\
Written by `make shootout`. Every router is the wheel or package that its users install, with its default settings, in
front of eight simulated engines (`turnout sim`, profile `h100-8b`, one process), in real time, on one machine. Each
stretch is three minutes of recorded traffic; every router gets the same ones, in turn, each with new engines and empty
caches. Prompts are texts that share prefixes exactly where the trace's do; answers have the trace's lengths. TTFT and
E2E in seconds, as the client saw them; *short* prompts are those under 16,000 tokens; *hits* are the engines' own
counters; *x turnout* is the mean over turnout's in the same stretch, the median of the stretches.

*Lateness* is how much after its moment the load generator sent a request; *step* how late the engines delivered a step
on average, and *lost* by how much all of them together fell behind for good: where these are small, the figures are
the routers'. CPU is of each part's processes, from /proc. The routers run unpinned, those on tokio with one worker
thread. vllm-router 0.1.17 lets every engine render each prompt to tokens before it picks one; the engines' process pays
for that."""
_TWINS: Final = """\
The simulator has these routers' algorithms, written anew from their sources. Here each plays the very stretches in
virtual time. Two agree where the means are within 15 % and the hit rates within 3 points. A few hundred requests, of
which one that moves changes all after it, do not repeat more exactly than that."""
