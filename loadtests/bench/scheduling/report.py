"""The report: Markdown for people, JSON for programs, and the block in the README. Pure: findings in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from loadtests.bench.scheduling.cases import HERD_PODS, HERD_REPLICAS, LEARNED_S, OURS, REPLICA_RATE, RESTARTS, Sizes
from loadtests.bench.scheduling.goals import hits_around, mean, p99
from loadtests.bench.scheduling.live import Agreement
from loadtests.bench.scheduling.regret import SUITE, Rows, Suite
from loadtests.bench.scheduling.report_suite import README_ROWS, policy_table, suite_sections
from loadtests.bench.scheduling.saturation import saturation
from loadtests.report.goals import Goal, goal_table
from loadtests.report.tables import facts, grid
from loadtests.sim.simulate.summary import Row

MARKS: Final = ("<!-- bench-scheduling: written by make bench-scheduling -->", "<!-- /bench-scheduling -->")
AROUND_S: Final = 120.0
"""Hit rates are reported for this time before and after a restart."""


class Found(NamedTuple):
    """All results of the bench."""

    about: Mapping[str, str]
    """Command, seed, commit and so on."""
    sizes: Sizes
    suite: Suite
    rows: Rows
    live: Agreement | None
    goals: Sequence[Goal]


def document(found: Found) -> str:
    """The whole report."""
    parts = ["# Policies on traffic of many kinds", _HOW]
    parts += [facts("run", found.about)]
    parts += ["## Goals", goal_table(found.goals)]
    if any(key[0] == SUITE for key in found.rows):
        parts += suite_sections(found.rows, found.suite)
    parts += _others(found)
    return "\n\n".join(parts) + "\n"


def _others(found: Found) -> Iterator[str]:
    """The other parts; those that were not run are left out."""
    ran = {key[0] for key in found.rows}
    for name, part in _PARTS.items():
        if name in ran:
            yield from part(found)
    if found.live is not None:
        yield "## In real time, behind the real gateway"
        yield live_table(found.live)


def _table(found: Rows, part: str) -> str:
    """Every policy of a part, by label and mean."""
    lines = []
    for label in sorted({key[1] for key in found if key[0] == part}):
        rows = sorted(_of(found, part, label), key=mean)
        lines += [
            [label, _name(row), *(f"{value:.2f}" for value in (mean(row), _p50(row), p99(row))), f"{row.hit_rate:.1%}"]
            for row in rows
        ]
    return grid(["", "policy", "TTFT mean", "p50", "p99", "hits"], lines)


def _p50(row: Row) -> float:
    return row.ttft_s.p50


def _name(row: Row) -> str:
    return f"**{row.policy}**" if row.policy == OURS else row.policy


def _of(rows: Rows, part: str, label: str) -> list[Row]:
    return [row for key, row in rows.items() if key[:2] == (part, label)]


def _speeds(found: Found) -> Iterator[str]:
    yield "## Pods of unequal speed, on conversations"
    yield f"Requests that arrive {LEARNED_S:.0f} s after the start, or after the pod slows down."
    yield _table(found.rows, "speeds")


def _whole(found: Found) -> Iterator[str]:
    yield "## Whole recorded traces, 8 pods, at factors of their own rates"
    yield "Tuning halves included."
    yield _table(found.rows, "whole")


def _replicas(found: Found) -> Iterator[str]:
    yield f"## Replicas: mean TTFT of `{OURS}` by the age of their view, rate x {REPLICA_RATE}"
    yield f"The first {found.sizes.replica_requests:,} requests."
    yield _sharing_table(found.rows, "replicas")


def _herding(found: Found) -> Iterator[str]:
    yield (
        f"## Herding: {HERD_PODS} pods, {HERD_REPLICAS} replicas, Azure's conversation lengths, "
        f"{found.sizes.herd_rate:.0f} requests a second"
    )
    yield _sharing_table(found.rows, "herding")


def _closed(found: Found) -> Iterator[str]:
    shape = found.sizes.shape
    tokens = shape.first_tokens + (shape.turns - 1) * shape.turn_tokens
    yield f"## Agents: {shape.sessions} sessions of {tokens:,} tokens, each turn after the last one's answer"
    yield _closed_table(found.rows)


def _restart(found: Found) -> Iterator[str]:
    yield f"## Restart of one of 4 replicas: hit rate of the {AROUND_S:.0f} s before and after"
    yield f"The first {found.sizes.replica_requests:,} requests at rate x {REPLICA_RATE}; the view is 5 ms old."
    yield _restart_table(found)


_PARTS: Final[Mapping[str, Callable[[Found], Iterator[str]]]] = {
    "speeds": _speeds,
    "whole": _whole,
    "replicas": _replicas,
    "herding": _herding,
    "closed": _closed,
    "restart": _restart,
}


def _sharing_table(rows: Rows, part: str) -> str:
    labels = sorted({key[1] for key in rows if key[0] == part}, key=_in_order)
    one = rows[part, labels[0], OURS]
    lines = []
    for label in labels:
        row = rows[part, label, OURS]
        lines.append(
            [label, f"{mean(row):.3f}", f"{mean(row) / mean(one):.2f}", f"{p99(row):.2f}", f"{row.hit_rate:.1%}"]
        )
    return grid(["replicas x age of what is shared", "TTFT mean", "x one", "p99", "hits"], lines)


def _in_order(label: str) -> tuple[int, float]:
    """`one` first, then by replicas and age; nothing shared last."""
    count, _, age = label.partition(" x ")
    milliseconds = age.removesuffix(" ms")
    return (int(count) if count.isdigit() else 0, float(milliseconds) if milliseconds.isdigit() else float("inf"))


def _closed_table(rows: Rows) -> str:
    found = sorted(_of(rows, "closed", "closed loop"), key=p99)
    lines = [
        [_name(row), f"{mean(row):.2f}", f"{_p50(row):.2f}", f"{p99(row):.2f}", f"{row.hit_rate:.1%}"] for row in found
    ]
    return grid(["", "TTFT mean", "p50", "p99", "hits"], lines)


def _restart_table(found: Found) -> str:
    lines = []
    for label in RESTARTS:
        row = found.rows["restart", label, OURS]
        before, after = hits_around(row, found.sizes.restart_at_s, AROUND_S, AROUND_S)
        lines.append([label, f"{before:.1%}", f"{after:.1%}", f"{row.hit_rate:.1%}", f"{mean(row):.3f}"])
    return grid(["", "hits before", "hits after", "hits of all", "TTFT mean of all"], lines)


def live_table(live: Agreement) -> str:
    """Simulated and real, side by side."""
    sides = (("simulated", live.simulated, live.simulated_hits), ("real", live.real, live.real_hits))
    lines = [
        [name, *(f"{value:.3f}" for value in (side.mean, side.p50, side.p90, side.p99)), f"{hits:.1%}"]
        for name, side, hits in sides
    ]
    return (
        f"{grid(['TTFT', 'mean', 'p50', 'p90', 'p99', 'hits'], lines)}\n\n"
        f"{live.requests} requests over {live.seconds:.0f} s to {live.pods} pods; the client was at most "
        f"{live.late_s * 1000:.0f} ms late with one."
    )


def readme_block(found: Found) -> str:
    """The block for the README: the best policies over the suite, and how many goals are met."""
    about = (
        "Time to first token over that of `best`, the lower envelope of all other routers' algorithms and an oracle\n"
        f"that reads the engines' state: {len(found.sizes.workloads)} workloads, {_and(found.sizes.fleets)} simulated "
        "pods, three loads below\nsaturation, the halves kept for reports. "
        f"`{found.about['command']}`, seed {found.about['seed']}, commit {found.about['commit']}:\n"
        f"{sum(goal.met for goal in found.goals)} of {len(found.goals)} goals are met "
        "([docs/benchmarks/scheduling.md](docs/benchmarks/scheduling.md))."
    )
    return f"{about}\n\n{policy_table(found.rows, found.suite, README_ROWS)}"


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def as_json(found: Found) -> Any:
    """All numbers for programs, without the windows of all runs but the restart's: they are most of the data."""
    rows = [
        {"part": part, "label": label, **{k: v for k, v in msgspec.to_builtins(row).items() if k != "windows"}}
        for (part, label, _), row in sorted(found.rows.items())
    ]
    return {
        "about": dict(found.about),
        "saturation": {name: msgspec.to_builtins(saturation(name, "report")) for name in found.suite.limits_s},
        "goals": [{**each._asdict(), "met": each.met} for each in found.goals],
        "rows": rows,
        "restart_windows": {
            key[1]: msgspec.to_builtins(row.windows) for key, row in found.rows.items() if key[0] == "restart"
        },
        "live": msgspec.to_builtins(found.live),
    }


_HOW: Final = """\
Written by `make bench-scheduling`. The gateway's own policies, view and prefix index, and other routers' algorithms
written anew from their sources, in virtual time over a model of the engines ([simulate.md](../simulate.md)): profile
`h100-8b`, recorded traces and generated workloads. TTFT in seconds. `oracle` takes the pod with the soonest first token
by the engines' true state, which no router can read; it does not know what arrives next. A peer is one replica with a
view that is never old. Only two workloads have no prefixes in common (`azure_chat`, `azure_code`: lengths only). Of
`batches`, the chat is counted and the batch is not. `prefix_aware`'s cost model was chosen on all of `agentic`, on
conversation's first half and on parts of `azure_code`, before there were halves. The generated workloads are new to
it."""
