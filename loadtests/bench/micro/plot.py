"""Cost against size as an SVG: logarithmic axes, one line a series, its name at its end. Pure: numbers in, text out.

The file has colours for light and dark, chosen by the reader's setting, so that it fits any page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]
"""(size, microseconds), by size."""

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 530, 40, 350
Y_LABEL = "microseconds (best round)"
LINE_GAP = 15
"""Pixels between two names at the lines' ends."""

_COLOURS = ("#3987d4", "#d9662b", "#16a37a", "#b56bb0", "#b8860b", "#5f9ea0", "#c0504d")
"""Of middle lightness: visible on white and on near-black."""

_STYLE = """
svg { font: 12px system-ui, sans-serif; }
.paper { fill: #ffffff; } .ink { fill: #1f2328; } .faint { fill: #59636e; } .grid { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117; } .ink { fill: #f0f6fc; } .faint { fill: #9198a1; } .grid { stroke: #3d444d; }
}
"""


class Axis(NamedTuple):
    """A logarithmic axis over whole decades; `start` and `end` are pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies."""
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Every power of ten on it."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


def axis(values: Sequence[float], start: float, end: float) -> Axis:
    """The decades that hold all the values; at least one."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(10.0**low, 10.0 ** max(high, low + 1), start, end)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """The positions, moved down just as far as needed for `gap` between neighbours."""
    placed = [0.0] * len(wanted)
    last = -math.inf
    for at in sorted(range(len(wanted)), key=wanted.__getitem__):
        last = placed[at] = max(wanted[at], last + gap)
    return placed


def svg(title: str, x_label: str, series: Mapping[str, Points]) -> str:
    """The whole file."""
    x = axis([size for points in series.values() for size, _ in points], LEFT, RIGHT)
    y = axis([cost for points in series.values() for _, cost in points], BOTTOM, TOP)
    middle = 'text-anchor="middle"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="ink" x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
        *_grid(x, y),
        f'<text class="faint" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 38}" {middle}>{escape(x_label)}</text>',
        f'<text class="faint" transform="translate(16 {(TOP + BOTTOM) / 2}) rotate(-90)" {middle}>{Y_LABEL}</text>',
        *_lines(x, y, series),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in x.ticks():
        at = round(x.at(tick), 1)
        parts.append(f'<line class="grid" x1="{at}" y1="{TOP}" x2="{at}" y2="{BOTTOM}"/>')
        parts.append(f'<text class="faint" x="{at}" y="{BOTTOM + 18}" text-anchor="middle">{number(tick)}</text>')
    for tick in y.ticks():
        at = round(y.at(tick), 1)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{at}" x2="{RIGHT}" y2="{at}"/>')
        parts.append(f'<text class="faint" x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{number(tick)}</text>')
    return parts


def _lines(x: Axis, y: Axis, series: Mapping[str, Points]) -> list[str]:
    names = spread([y.at(points[-1][1]) for points in series.values()], LINE_GAP)
    parts = []
    for at, (name, points) in enumerate(series.items()):
        colour = _COLOURS[at % len(_COLOURS)]
        places = [(round(x.at(size), 1), round(y.at(cost), 1)) for size, cost in points]
        path = " ".join(f"{left},{top}" for left, top in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{left}" cy="{top}" r="3.5" fill="{colour}"/>' for left, top in places]
        end = places[-1]
        if abs(names[at] - end[1]) > 1 or end[0] < RIGHT - 1:
            parts.append(
                f'<line x1="{end[0] + 5}" y1="{end[1]}" x2="{RIGHT + 14}" y2="{names[at]:.1f}" stroke="{colour}" '
                'stroke-width="0.7" stroke-dasharray="2 2"/>'
            )
        parts.append(f'<text x="{RIGHT + 18}" y="{names[at] + 4:.1f}" fill="{colour}">{escape(name)}</text>')
    return parts


def number(value: float) -> str:
    """1000 -> 1k, 1e6 -> 1M, 0.1 as it is."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
