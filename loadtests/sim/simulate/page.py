"""The HTML report: one file without scripts or links, its charts inline SVG. Pure: runs and rows in, text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from loadtests.sim.simulate.runs import Run
from loadtests.sim.simulate.summary import Table, lines

WIDTH: Final = 720
HEIGHT: Final = 300
LEFT: Final = 56
BOTTOM: Final = 40
TOP: Final = 12

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b", "#7f7f7f")
"""Okabe and Ito's palette, distinguishable with any colour vision, and two more."""

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } svg text { font-size: 12px; fill: #444; }
.keys span { margin-right: 1.2rem; white-space: nowrap; } .keys b { font-size: 1.3rem; line-height: 0; }
"""


class Curve(NamedTuple):
    """A named line."""

    name: str
    points: Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """A scale with its ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    place: Callable[[float], float] = float
    """Maps a value to a linear scale: `math.log10` for a logarithmic one."""

    def share(self, value: float) -> float:
        """A value's place along the axis, 0..1; values beyond the ends are clamped."""
        low, high = self.place(self.low), self.place(self.high)
        return min(max((self.place(max(value, self.low)) - low) / (high - low), 0.0), 1.0)


def page(found: Table, runs: Sequence[Run]) -> str:
    """The whole report."""
    age = "nothing shared" if found.age_ms is None else f"view {found.age_ms:g} ms old"
    replicas = f"{found.replicas} replicas, {age}" if found.replicas > 1 else "1 replica"
    more = "".join(
        [", sessions in a closed loop" if found.closed_loop else "", *(f", {each}" for each in found.events)]
    )
    about = (
        f"{found.pods} pods of {found.profile} with {found.kv_tokens:,} KV tokens, rate {found.rate:g}, {replicas}, "
        f"seed {found.seed}{more}"
    )
    cdfs = [Curve(run.policy, cdf(each.ttft_s for each in run.outcomes)) for run in runs]
    loads = [Curve(run.policy, [(at, max(requests)) for at, requests in run.samples]) for run in runs]
    means = [Curve(run.policy, [(at, sum(requests) / len(requests)) for at, requests in run.samples]) for run in runs]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(found.trace)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(found.trace)}</h1><p>{escape(about)}</p>",
        _table(found),
        _keys(run.policy for run in runs),
        "<h2>Time to first token: share of requests that had it within</h2>",
        chart(cdfs, _log_axis("seconds", cdfs), Axis("share of requests", 0.0, 1.0, (0, 0.25, 0.5, 0.75, 0.9, 1))),
        "<h2>Requests on the fullest pod</h2>",
        chart(loads, _time_axis(loads), _count_axis(loads)),
        "<h2>Requests on a pod, mean over pods</h2>",
        chart(means, _time_axis(means), _count_axis(means)),
    ]
    return "\n".join(parts) + "\n"


def cdf(values: Iterable[float], points: int = 200) -> list[tuple[float, float]]:
    """`points` points of the distribution, evenly spread over its ranks, the largest value included."""
    ordered = sorted(values)
    ranks = sorted({math.ceil(len(ordered) * at / points) for at in range(1, points + 1)}) if ordered else []
    return [(ordered[rank - 1], rank / len(ordered)) for rank in ranks]


def chart(curves: Sequence[Curve], across: Axis, up: Axis) -> str:
    """An SVG of the curves, in the palette's order."""
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">']
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:g}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{WIDTH - 4}" y="{HEIGHT - 6}" text-anchor="end">{escape(across.label)}</text>')
    for at, (name, points) in enumerate(curves):
        path = " ".join(f"{_x(across, x)},{_y(up, y)}" for x, y in points)
        line = f'<polyline points="{path}" fill="none" stroke="{_colour(at)}" stroke-width="1.8">'
        parts.append(f"{line}<title>{escape(name)}</title></polyline>")
    return "\n".join([*parts, "</svg>"])


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - 8), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - BOTTOM - TOP), 1)


def _log_axis(label: str, curves: Sequence[Curve]) -> Axis:
    values = [x for curve in curves for x, _ in curve.points if x > 0]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)
    return Axis(label, 10.0**low, 10.0**high, [10.0**at for at in range(low, high + 1)], math.log10)


def _time_axis(curves: Sequence[Curve]) -> Axis:
    return _from_zero("seconds", max((x for curve in curves for x, _ in curve.points), default=1.0))


def _count_axis(curves: Sequence[Curve]) -> Axis:
    return _from_zero("requests", max((y for curve in curves for _, y in curve.points), default=1.0))


def _from_zero(label: str, high: float) -> Axis:
    """0 to a bit beyond `high`, with four to ten round ticks."""
    step = 10.0 ** math.floor(math.log10(max(high, 1e-9) / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 8)
    count = math.ceil(high / step) or 1
    return Axis(label, 0.0, count * step, [at * step for at in range(count + 1)])


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]


def _keys(names: Iterable[str]) -> str:
    keys = [f'<span><b style="color:{_colour(at)}">&mdash;</b> {escape(name)}</span>' for at, name in enumerate(names)]
    return f"<p class=keys>{''.join(keys)}</p>"


def _table(found: Table) -> str:
    columns = lines(found)
    head = "".join(f"<th>{escape(name)}" for name in columns)
    rows = ["<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in zip(*columns.values(), strict=True)]
    return f"<table><tr>{head}{''.join(rows)}</table><p>Times in seconds; short: prompts below 16,000 tokens.</p>"
