"""Windows in, a table out: CPU time a request with each trial, and what it adds, pair by pair. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from loadtests.bench.shadow.measure import MODES, Window
from loadtests.report.figures import quartiles
from loadtests.report.tables import facts, grid

TITLES: Mapping[str, str] = {
    "none": "no trial",
    "shadow": "a shadow (p2c, 100 requests a second)",
    "canary": "a canary of 10 %",
    "both": "both",
}


def added_us(windows: Sequence[Window], mode: str) -> list[float]:
    """CPU time added to a request, by round: other load on the machine is in all windows of a round."""
    plain = {each.round: each.cpu_us for each in windows if each.mode == "none"}
    return [each.cpu_us - plain[each.round] for each in windows if each.mode == mode and each.round in plain]


def table(windows: Sequence[Window]) -> str:
    """In Markdown. Every figure is the median of the windows of its row."""
    rows = []
    plain = median([each.cpu_us for each in windows if each.mode == "none"])
    for mode in MODES:
        of = [each for each in windows if each.mode == mode]
        low, middle, high = quartiles(added_us(windows, mode))
        added = ("", "") if mode == "none" else (f"{middle:+.2f} ({low:+.2f} to {high:+.2f})", f"{middle / plain:+.1%}")
        times = f"{median(each.p50_ms for each in of):.2f} / {median(each.p99_ms for each in of):.2f}"
        cpu = f"{median(each.cpu_us for each in of):.2f}"
        rows.append((TITLES[mode], cpu, *added, times, str(sum(each.wrong for each in of))))
    return grid(("trial", "CPU, us a request", "added (middle half), us", "added", "p50 / p99, ms", "wrong"), rows)


def page(about: Mapping[str, str], windows: Sequence[Window]) -> str:
    """The document."""
    rounds = max(each.round for each in windows)
    return f"""# What a trial costs a request

Made by `make bench-shadow`: one gateway process (policy `prefix_aware`) on one core, canned engines and `wrk` on
another, 1.2 KB prompts, whole answers, 32 connections. There were {rounds} rounds; each has one window for every row,
switched over the control port while the process ran. "Added" is the difference to "no trial" within a round. The
canary's candidate is the pool's own policy, so that the trial is measured and not the candidate.

{table(windows)}

{facts("machine", about)}
"""


def as_json(about: Mapping[str, Any], windows: Sequence[Window]) -> dict[str, Any]:
    """What a program reads."""
    modes = {
        mode: {
            "cpu_us": round(median([each.cpu_us for each in windows if each.mode == mode]), 3),
            "added_us": [round(value, 3) for value in quartiles(added_us(windows, mode))],
        }
        for mode in MODES
    }
    return {"machine": dict(about), "modes": modes, "windows": [each._asdict() for each in windows]}
