"""What `turnout top` and `turnout demo` show: two readings of a control port, turned into a screen or a line. Pure; no
network and no terminal.

Rates, hit rate and time to first token cover the time between the readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from router.cli.fleet_reading import PodReading, Reading, Recent, recent


class Size(NamedTuple):
    """Of the terminal, in characters."""

    columns: int
    lines: int


def line(now: Reading, before: Reading) -> str:
    """One line for a log or a pipe."""
    what = recent(now, before)
    spread = " ".join(f"{pod.id}={pod.requests}" for pod in now.pods)
    return (
        f"policy={now.policy} requests={now.requests} failed={now.failed} req/s={what.rate:.1f} "
        f"hit_rate={_percent(what.hit_rate)} ttft_p50={_seconds(what.ttft_p50_s)} "
        f"ttft_p90={_seconds(what.ttft_p90_s)} pods: {spread}"
    )


def screen(now: Reading, before: Reading, footer: Sequence[str], size: Size) -> RenderableType:
    """The whole terminal: sums, a row for each pod as far as there is room, and a footer."""
    head = _head(now, recent(now, before), size.columns)
    # The table has its titles, and a line may say what is left out.
    room = max(1, size.lines - len(head) - len(footer) - 2)
    pods = list(now.pods)
    left_out: list[Text] = []
    if len(pods) > room:
        pods = sorted(pods, key=lambda pod: (not pod.trouble, -pod.inflight, -pod.queued, pod.id))[: max(1, room - 1)]
        rest = now.pods[0]._replace(id="") if not pods else pods[-1]
        more = f"{len(now.pods) - len(pods):,} more pods, each with at most {rest.inflight:,} in flight"
        left_out = [_cut(more, size.columns, "dim")]
    shown = _table(pods, _changes(now, before), len(now.policies) > 1, size.columns)
    return Group(*head, shown, *left_out, *(_cut(text, size.columns, "dim") for text in footer))


def _cut(text: str, columns: int, style: str = "") -> Text:
    """Text of one line."""
    return Text(text if len(text) <= columns else text[: columns - 1] + "…", style=style, no_wrap=True)


def _head(now: Reading, what: Recent, columns: int) -> list[Text]:
    """Policies and pods in a line, and what happened in as many as it takes."""
    policies = [f"{pool}: {policy}" for pool, policy in now.policies.items()] if len(now.policies) > 1 else [now.policy]
    in_trouble = sum(bool(pod.trouble) for pod in now.pods)
    title = Text.assemble(("Turnout", "bold"), "  ", (f"{len(now.pods):,} pods", ""), no_wrap=True)
    if in_trouble:
        title.append(f", {in_trouble:,} not well", style="bold red")
    title.append("  ")
    title.append("  ".join(policies), style="bold green")
    title.truncate(columns, overflow="ellipsis")
    parts = (
        f"{what.rate:.1f} req/s",
        f"prefix hits {_percent(what.hit_rate)}",
        f"TTFT p50 {_seconds(what.ttft_p50_s)}, p90 {_seconds(what.ttft_p90_s)}",
        f"{now.requests:,} requests, {now.failed:,} failed",
    )
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}   {part}" if lines[-1] else part
        lines = [*lines[:-1], longer] if len(longer) <= columns else [*lines, part]
    return [title, *(_cut(text, columns) for text in lines)]


class _Change(NamedTuple):
    """A pod between two readings."""

    rate: float
    share: float
    """Of all requests."""


def _changes(now: Reading, before: Reading) -> Mapping[str, _Change]:
    """By pod; over all time where nothing happened in between."""
    seconds = now.at - before.at
    earlier = {pod.id: pod.requests for pod in before.pods}
    grown = {pod.id: max(0, pod.requests - earlier.get(pod.id, 0)) for pod in now.pods}
    shares = grown if any(grown.values()) else {pod.id: pod.requests for pod in now.pods}
    whole = max(1, sum(shares.values()))
    return {id_: _Change(count / seconds if seconds > 0 else 0.0, shares[id_] / whole) for id_, count in grown.items()}


class _Column(NamedTuple):
    """A column of numbers."""

    title: str
    shown: Callable[[PodReading, _Change], str]
    rank: int
    """Where the terminal is narrow, the highest goes first."""


_COLUMNS: Sequence[_Column] = (
    _Column("in flight", lambda pod, _: f"{pod.inflight:,}", 0),
    _Column("queued", lambda pod, _: f"{pod.queued:,}", 1),
    _Column("running", lambda pod, _: f"{pod.running:,}", 3),
    _Column("KV", lambda pod, _: f"{pod.kv_usage:.0%}", 2),
    _Column("req/s", lambda _, change: f"{change.rate:.1f}", 4),
    _Column("requests", lambda pod, _: f"{pod.requests:,}", 5),
)

_GAP: Final = 2
"""Blanks between two columns."""
_NAME: Final = 16
"""Characters of a pod's name, from its end, for which other columns go."""
_STATE, _POOL = 12, 14
"""Characters of a state and of a pool's name at most."""
_BAR, _LONGEST_BAR = 8, 24
"""A bar has as many characters, or there is none."""


class _Widths(NamedTuple):
    """Of the columns, without the gaps between them."""

    name: int
    pool: int
    """0 without this column."""
    state: int
    numbers: Mapping[str, int]
    """By title: those that there is room for."""
    bar: int
    """0 without this column."""


def _widths(pods: Sequence[PodReading], cells: Mapping[str, Sequence[str]], pools: bool, columns: int) -> _Widths:
    """The least important columns go until the rest fits, then names lose their beginnings."""
    longest = max([3, *(len(pod.id) for pod in pods)])
    state = max([2, *(min(_STATE, len(pod.trouble)) for pod in pods)])
    pool = min(_POOL, max([4, *(len(pod.pool) for pod in pods)])) if pools else 0
    numbers = {title: max(len(title), *map(len, found), 0) for title, found in cells.items()}
    room = columns - state - _GAP - (pool + _GAP if pool else 0)
    for least in sorted(_COLUMNS, key=lambda each: each.rank, reverse=True):
        taken = sum(numbers.values()) + _GAP * len(numbers)
        if min(longest, _NAME) + taken <= room:
            break
        del numbers[least.title]
    room -= sum(numbers.values()) + _GAP * len(numbers)
    name = max(4, min(longest, room))
    bar = min(_LONGEST_BAR, room - name - _GAP)
    return _Widths(name, pool, state, numbers, bar if bar >= _BAR else 0)


def _table(pods: Sequence[PodReading], changes: Mapping[str, _Change], pools: bool, columns: int) -> Table:
    cells = {each.title: [each.shown(pod, changes[pod.id]) for pod in pods] for each in _COLUMNS}
    widths = _widths(pods, cells, pools, columns)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column("pod", width=widths.name, no_wrap=True)
    if widths.pool:
        table.add_column("pool", width=widths.pool, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=widths.state, no_wrap=True, overflow="ellipsis")
    for title, width in widths.numbers.items():
        table.add_column(title, justify="right", width=width, no_wrap=True)
    if widths.bar:
        table.add_column("share", width=widths.bar, no_wrap=True)
    for at, pod in enumerate(pods):
        row: list[RenderableType] = [_end_of(pod.id, widths.name), *([pod.pool] if widths.pool else []), _state(pod)]
        row += [cells[title][at] for title in widths.numbers]
        table.add_row(*row, *([_bar(pod, changes[pod.id].share, widths.bar)] if widths.bar else []))
    return table


def _end_of(name: str, width: int) -> str:
    """What is left of a name: its end, in which pods differ."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


def _state(pod: PodReading) -> Text:
    return Text(pod.trouble, style="bold red") if pod.trouble else Text("ok", style="green")


def _bar(pod: PodReading, share: float, width: int) -> ProgressBar:
    style = "red" if pod.trouble else "cyan"
    return ProgressBar(total=1.0, completed=share, width=width, complete_style=style, finished_style=style)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.0f} ms"
