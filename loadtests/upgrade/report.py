"""From the records of a run to numbers, JSON and a table. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from loadtests.report.figures import mean
from loadtests.report.tables import grid
from loadtests.sim.traffic import quantile
from loadtests.upgrade.load import LONG, WHOLE, Record
from loadtests.upgrade.roll import Roll, Story, Window

TRUNCATED = ("truncated", "error_event")
"""Faults of answers that had begun; all others are failures."""


MINUTE_S = 60.0
FIRST_S = 4.0


class Act(NamedTuple):
    """The numbers of one window."""

    requests: int
    failed: int
    truncated: int
    hit_rate: float
    """Share of prompt tokens found in the engines' caches, by the engines' own count."""
    max_over_mean: float
    """Most loaded pod over the mean pod, in open requests, averaged over samples."""
    ttft_p50_s: float
    ttft_p99_s: float
    hit_rate_error: float
    """Its standard error."""


class Summary(NamedTuple):
    """The numbers of a whole run."""

    requests: int
    failed: int
    truncated: int
    faults: dict[str, int]
    spanning: int
    """Streams of a minute or more that were open on a replica at its SIGTERM and ended without a fault."""
    spanning_lost: int
    """Those that ended with a fault."""
    acts: dict[str, Act]
    newcomers_hit_rate: float
    """In the first seconds of every new replica: lower if it had to learn again."""
    residents_hit_rate: float
    """Of all other replicas in the same seconds, for comparison: both include the cost of a starting process."""
    newcomers_error: float
    residents_error: float
    """Their standard errors."""
    seen_share: list[float]
    """For each new replica: requests in flight in its view when it became ready, divided by the true number."""
    unseen: list[int]
    """For each new replica: how many requests its view missed."""
    cut: int
    """Retired replicas that did not end with status 0 by themselves."""
    ready_s: float
    """Start to ready, mean."""
    haproxy: dict[str, int]
    cpu: dict[str, float]
    took_s: float


def summary(story: Story) -> Summary:
    """All numbers of a run."""
    records = story.records
    faults = Counter(record.fault for record in records if record.fault)
    spans = spanning(records, story.rolls)
    truncated = sum(faults[fault] for fault in TRUNCATED)
    new, resident = (list(newcomers(records, story.rolls, new=new)) for new in (True, False))
    return Summary(
        requests=len(records),
        failed=faults.total() - truncated,
        truncated=truncated,
        faults=dict(faults),
        spanning=sum(not record.fault and record.ended_at - record.started_at >= MINUTE_S for record in spans),
        spanning_lost=sum(bool(record.fault) for record in spans),
        acts={name: act(story, window) for name, window in story.windows.items()},
        newcomers_hit_rate=hit_rate(new),
        residents_hit_rate=hit_rate(resident),
        newcomers_error=hit_rate_error(new),
        residents_error=hit_rate_error(resident),
        seen_share=[_share(roll) for roll in story.rolls],
        unseen=[sum(roll.truth.values()) - sum(roll.seen.values()) for roll in story.rolls],
        cut=sum(status != 0 for status in story.exits.values()),
        ready_s=mean([roll.ready_s for roll in story.rolls]),
        haproxy=story.haproxy,
        cpu=story.cpu,
        took_s=story.took_s,
    )


def act(story: Story, window: Window) -> Act:
    """The numbers of one window; a request belongs to the window in which it began."""
    inside = [record for record in story.records if window.holds(record.started_at)]
    truncated = sum(record.fault in TRUNCATED for record in inside)
    ttfts = sorted(record.ttft_s for record in inside if record.kind != WHOLE and not record.fault)
    loads = [[pod.open_requests for pod in pods] for at, pods in story.samples if window.holds(at)]
    return Act(
        requests=len(inside),
        failed=sum(bool(record.fault) for record in inside) - truncated,
        truncated=truncated,
        hit_rate=hit_rate(inside),
        max_over_mean=mean([max(each) / mean(each) for each in loads if any(each)]),
        ttft_p50_s=quantile(ttfts, 0.5),
        ttft_p99_s=quantile(ttfts, 0.99),
        hit_rate_error=hit_rate_error(inside),
    )


def hit_rate(records: Iterable[Record]) -> float:
    """Over the prompts of all whole answers."""
    prompt = cached = 0
    for record in records:
        prompt += record.usage.prompt_tokens
        cached += record.usage.cached_tokens
    return cached / prompt if prompt else 0.0


def hit_rate_error(records: Iterable[Record]) -> float:
    """The standard error of `hit_rate`, as the ratio of two sums over conversations, which are independent; requests of
    one conversation are not. With r the rate and c, p a conversation's cached and prompt tokens, of n conversations:
    sqrt(n / (n - 1) * sum((c - r p)^2)) / sum(p).
    """
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        sums[record.session][0] += record.usage.cached_tokens
        sums[record.session][1] += record.usage.prompt_tokens
    prompt = sum(each for _, each in sums.values())
    if len(sums) < 2 or not prompt:
        return 0.0
    rate = sum(each for each, _ in sums.values()) / prompt
    squares = sum((cached - rate * own) ** 2 for cached, own in sums.values())
    return math.sqrt(len(sums) / (len(sums) - 1) * squares) / prompt


def spanning(records: Iterable[Record], rolls: Iterable[Roll]) -> list[Record]:
    """Long streams that were open on their replica at its SIGTERM."""
    left_at = {roll.old: roll.left_at for roll in rolls}
    return [
        record
        for record in records
        if record.kind == LONG and record.started_at < left_at.get(record.replica, 0.0) < record.ended_at
    ]


def newcomers(records: Iterable[Record], rolls: Sequence[Roll], *, new: bool) -> Iterator[Record]:
    """Requests of each new replica's first seconds, or (`new` false) those of all others in the same seconds."""
    for record in records:
        for roll in rolls:
            if 0.0 <= record.started_at - roll.serving_at < FIRST_S and (record.replica == roll.new) == new:
                yield record


def _share(roll: Roll) -> float:
    truth = sum(roll.truth.values())
    return sum(roll.seen.values()) / truth if truth else 1.0


def as_json(found: Mapping[str, Summary]) -> dict[str, Any]:
    """By name of the run."""
    return {
        name: {**each._asdict(), "acts": {act: numbers._asdict() for act, numbers in each.acts.items()}}
        for name, each in found.items()
    }


def table(found: Mapping[str, Summary]) -> str:
    """The runs side by side, a column each."""
    rows = [(label, *(say(each) for each in found.values())) for label, say in _LINES]
    for name in next(iter(found.values())).acts:
        acts = [each.acts[name] for each in found.values()]
        rows += [(f"{label}, {name}", *map(say_of, acts)) for label, say_of in _ACT_LINES]
    return grid(("", *found), rows)


_LINES: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("requests", lambda s: f"{s.requests:,}"),
    ("failed", lambda s: f"{s.failed}"),
    ("truncated", lambda s: f"{s.truncated}"),
    ("streams of 60 s open on a replica as it left", lambda s: f"{s.spanning}"),
    ("such streams lost", lambda s: f"{s.spanning_lost}"),
    ("load in a new replica's view before its first request", lambda s: f"{mean(s.seen_share):.0%}"),
    ("prompt tokens found in cache, first 4 s of new replicas", lambda s: f"{s.newcomers_hit_rate:.1%}"),
    ("the same seconds, all other replicas", lambda s: f"{s.residents_hit_rate:.1%}"),
    ("start to ready, mean", lambda s: f"{s.ready_s:.1f} s"),
    ("HAProxy's connect retries", lambda s: f"{s.haproxy.get('wretr', 0)}"),
)
_ACT_LINES: tuple[tuple[str, Callable[[Act], str]], ...] = (
    ("prompt tokens found in cache", lambda a: f"{a.hit_rate:.1%}"),
    ("most loaded pod / mean", lambda a: f"{a.max_over_mean:.2f}"),
    ("TTFT p50", lambda a: f"{a.ttft_p50_s * 1e3:.0f} ms"),
    ("TTFT p99", lambda a: f"{a.ttft_p99_s * 1e3:.0f} ms"),
)
