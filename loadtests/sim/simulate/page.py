"""The HTML report: one file without scripts or links, its charts inline SVG. Pure: runs and rows in, text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from loadtests.sim.simulate.runs import Run
from loadtests.sim.simulate.summary import NOTES, Table, lines

WIDTH: Final = 720
HEIGHT: Final = 300
LEFT: Final = 84
RIGHT: Final = 28
BOTTOM: Final = 52
TOP: Final = 12

COLOURS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "currentColor", "#a0674f", "#7f7f7f"),
)
"""Okabe and Ito's palette, distinguishable with any colour vision, and two more; each shows on white and on black."""

DASHES: Final = ("none", "7 4", "2 3", "10 3 2 3")
"""One after the other, so that a line under another one shows in its gaps."""

_STYLE: Final = """
:root { color-scheme: light dark; --text: #222; --quiet: #555; --line: #ddd; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --quiet: #aaa; --line: #3a3a3a; --ground: #161616; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: var(--text); background: var(--ground); overflow-wrap: break-word; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } .chart text { font-size: 12px; fill: var(--quiet); }
.chart line { stroke: var(--line); } .keys { margin: 0; } .keys span { margin-right: 1.2rem; white-space: nowrap; }
@media (max-width: 600px) { .chart text { font-size: 19px; } }
"""


_VIEW: Final = '<meta name=viewport content="width=device-width, initial-scale=1">'


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
    limit = f"the first {found.limit:,} requests (--limit), " if found.limit is not None else ""
    about = (
        f"{limit}{found.pods} pods of {found.profile} with {found.kv_tokens:,} KV tokens, rate {found.rate:g}, "
        f"{replicas}, seed {found.seed}{more}"
    )
    cdfs = [Curve(run.policy, cdf(each.ttft_s for each in run.outcomes)) for run in runs]
    loads = [Curve(run.policy, [(at, max(requests)) for at, requests in run.samples]) for run in runs]
    means = [Curve(run.policy, [(at, sum(requests) / len(requests)) for at, requests in run.samples]) for run in runs]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8>{_VIEW}<title>{escape(found.trace)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(found.trace)}</h1><p>{escape(about)}</p>",
        _table(found),
        "<h2>Time to first token: share of requests that had it within</h2>",
        _keys(cdfs),
        chart(
            cdfs,
            _log_axis("time to first token, seconds", cdfs),
            Axis("share of requests", 0.0, 1.0, (0, 0.25, 0.5, 0.75, 0.9, 1)),
        ),
        "<h2>Requests on the fullest pod</h2>",
        _keys(loads),
        chart(loads, _time_axis(loads), _count_axis(loads)),
        "<h2>Requests on a pod, mean over pods</h2>",
        _keys(means),
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
    name = escape(f"{up.label} by {across.label}", quote=True)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{name}">']
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{tick:g}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{middle[0]}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.label)}</text>')
    turned = f'transform="translate(16 {middle[1]}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>{escape(up.label)}</text>")
    for at, (name, points) in enumerate(curves):
        path = " ".join(f"{_x(across, x)},{_y(up, y)}" for x, y in points)
        line = f'<polyline points="{path}" fill="none" {_stroke(at)}>'
        parts.append(f"{line}<title>{escape(name)}</title></polyline>")
    return "\n".join([*parts, "</svg>"])


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - BOTTOM - TOP), 1)


def _log_axis(label: str, curves: Sequence[Curve]) -> Axis:
    values = [x for curve in curves for x, _ in curve.points if x > 0]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(math.ceil(math.log10(max(values, default=1.0))), low + 1)
    return Axis(label, 10.0**low, 10.0**high, [10.0**at for at in range(low, high + 1)], math.log10)


def _time_axis(curves: Sequence[Curve]) -> Axis:
    return _from_zero("time, seconds", max((x for curve in curves for x, _ in curve.points), default=1.0))


def _count_axis(curves: Sequence[Curve]) -> Axis:
    return _from_zero("requests", max((y for curve in curves for _, y in curve.points), default=1.0))


def _from_zero(label: str, high: float) -> Axis:
    """0 to a bit beyond `high`, with four to ten round ticks."""
    step = 10.0 ** math.floor(math.log10(max(high, 1e-9) / 2))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 8)
    count = math.ceil(high / step) or 1
    return Axis(label, 0.0, count * step, [at * step for at in range(count + 1)])


def _stroke(at: int) -> str:
    """How the curve at this place is drawn."""
    dashes = DASHES[at % len(DASHES)]
    return f'stroke="{COLOURS[at % len(COLOURS)]}" stroke-width="2" stroke-dasharray="{dashes}"'


def _keys(curves: Sequence[Curve]) -> str:
    samples = [f'<svg width="36" height="10"><path d="M0 5H34" {_stroke(at)}/></svg>' for at in range(len(curves))]
    keys = [f"<span>{drawn} {escape(each.name)}</span>" for drawn, each in zip(samples, curves, strict=True)]
    return f"<p class=keys>{' '.join(keys)}</p>"


def _table(found: Table) -> str:
    columns = lines(found)
    head = "".join(f"<th>{escape(name)}" for name in columns)
    rows = ["<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in zip(*columns.values(), strict=True)]
    return f"<div class=scroll tabindex=0><table><tr>{head}{''.join(rows)}</table></div><p>{escape(NOTES)}</p>"
