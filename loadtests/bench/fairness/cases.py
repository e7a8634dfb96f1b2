"""The cases: which tenants send what to which processes, and the figures of each. `fleet.py` plays them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.bench.fairness.fleet import Fleet, Received, running
from loadtests.bench.fairness.traffic import UNIT, conversations, in_order, steady
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.traffic import quantile

FOUR: Final[Mapping[str, float]] = {f"t{number}": 6.0 for number in range(4)}
"""Requests a second of engines at full speed: about half of what each tenant may have, beside the big one and up to the
end. Conversations get longer: with 8 a second each had 0.84 of its share in the end, and one or the other more than
that by chance."""

BIG: Final = 150.0
"""The same of the tenant that sends ten times its share."""

GREEDY: Final[Mapping[str, float]] = {"t0": 40.0, "t1": 80.0, "t2": 300.0}
"""Tenants that all send more than their share."""

COLD_S: Final = 5.0
"""The first seconds, at the engines' full speed, in which caches are empty."""

BACK_S: Final = 10.0
"""Within which all is as before after an overload."""

OVERLOAD: Final = 5.0


class Plan(NamedTuple):
    """The size of a run, seconds of real time."""

    speed: float = 0.25
    """Of the engines: a small machine cannot play four H100s in real time."""
    alone_s: float = 100.0
    shares_s: float = 60.0
    overload_s: float = 300.0
    capacity_s: float = 40.0
    """For which the capacity is measured, and then the usual load after an overload."""


class Beside(NamedTuple):
    """Four tenants, alone and beside one that sends ten times its share."""

    ttft_p99_s: Mapping[str, float]
    """Of the four, by run: alone, fair, unfair."""
    cold_p99_s: Mapping[str, float]
    """Of their requests in the first seconds."""
    hit_rate: Mapping[str, float]
    failed: Mapping[str, int]
    """Requests of the four that got no answer."""
    cut: Mapping[str, int]
    """Those whose answer had begun when their gateway was killed."""
    late_p99_s: float
    """By which the clients were late themselves, in the worst run."""


def beside(plan: Plan, python: str) -> Beside:
    """Play all three; in the fair one a gateway is killed half way."""
    received = {}
    for name in ("alone", "fair", "unfair"):
        rates = {**FOUR} if name == "alone" else {**FOUR, "big": BIG}
        sent = conversations(rates, plan.alone_s * plan.speed, plan.speed)
        fleet = Fleet([*FOUR, "big"], speed=plan.speed, fair=name != "unfair", python=python)
        received[name] = play(fleet, sent, plan.alone_s / 2 if name == "fair" else 0.0)
    cold_s = COLD_S / plan.speed
    return Beside(
        {name: p99(each) for name, each in received.items()},
        {name: p99(each, until_s=cold_s) for name, each in received.items()},
        {name: hit_rate(each) for name, each in received.items()},
        {name: sum(_failed(one) and one.status != 200 for one in each) for name, each in received.items()},
        {name: sum(_failed(one) and one.status == 200 for one in each) for name, each in received.items()},
        max(quantile(sorted(one.late_s for one in each), 0.99) for each in received.values()),
    )


def shares(plan: Plan, python: str) -> dict[str, float]:
    """Tokens a second of tenants that all want more than their share, once all queues are full; a gateway is killed
    half way."""
    sent = conversations(GREEDY, plan.shares_s * plan.speed, plan.speed)
    fleet = Fleet([*GREEDY], speed=plan.speed, replicas=3, python=python)
    received = play(fleet, sent, plan.shares_s / 2)
    begin_s = plan.shares_s / 5
    return {name: tokens_per_s(received, name, begin_s, plan.shares_s) for name in GREEDY}


class Overload(NamedTuple):
    """One tenant that sends five times what the pods can do, and then half of it again."""

    capacity: float
    """Requests a second that are answered when somewhat more than that come."""
    goodput: float
    """The same in the overload."""
    refused: int
    back_s: float
    """After the overload, when the last request came that took longer than those before the overload; 0: none did."""
    seconds: float


SMALL: Final = Fleet(["t0"], pods=2, places=8, queue_timeout_s=4.0)
PROMPT, ANSWER = 1000, 100


def overload(plan: Plan, python: str) -> Overload:
    """Measure the capacity, then the usual load, the overload, and the usual load again, all in one run."""
    fleet = SMALL._replace(speed=plan.speed, python=python)
    capacity = _capacity(fleet, plan)
    usual, calm_s = capacity / 2, plan.capacity_s
    end_s = calm_s + plan.overload_s
    waves = steady("t0", usual, 0.0, end_s + calm_s, PROMPT, ANSWER)
    waves += steady("t0", OVERLOAD * capacity - usual, calm_s, end_s, PROMPT, ANSWER)
    received = play(fleet, in_order(waves), 0.0)
    slowest_s = max(each.ttft_s for each in received if each.at_s < calm_s - BACK_S and not each.failure)
    slow = [each.at_s - end_s for each in received if each.at_s >= end_s and (each.failure or each.ttft_s > slowest_s)]
    goodput = ended_per_s(received, calm_s + BACK_S / 2, end_s)
    return Overload(
        capacity, goodput, sum(each.status == 429 for each in received), max(slow, default=0.0), end_s - calm_s
    )


def _capacity(fleet: Fleet, plan: Plan) -> float:
    likely = fleet.pods * fleet.places * fleet.speed / (ANSWER * 0.0075)
    received = play(fleet, steady("t0", 1.5 * likely, 0.0, plan.capacity_s, PROMPT, ANSWER), 0.0)
    return ended_per_s(received, plan.capacity_s / 4, plan.capacity_s)


def play(fleet: Fleet, sent: Sequence[Arrival], kill_at_s: float) -> list[Received]:
    """One run with processes of its own."""
    with tempfile.TemporaryDirectory(prefix="turnout-fairness-") as directory, running(fleet, Path(directory)) as now:
        return now.play(sent, UNIT, kill_at_s)


def _failed(one: Received) -> bool:
    return one.tenant in FOUR and bool(one.failure)


def p99(received: Sequence[Received], until_s: float = float("inf")) -> float:
    """Of the times to a first token of the four tenants' requests."""
    return quantile(
        sorted(each.ttft_s for each in received if each.tenant in FOUR and not each.failure and each.at_s < until_s),
        0.99,
    )


def hit_rate(received: Sequence[Received]) -> float:
    """Cached tokens of all prompts, by the engines' usage."""
    return sum(each.cached_tokens for each in received) / max(1, sum(each.prompt_tokens for each in received))


def tokens_per_s(received: Sequence[Received], tenant: str, begin_s: float, end_s: float) -> float:
    """Of the tenant's answers that ended in that time, with their prompts."""
    ended = [
        each for each in received if each.tenant == tenant and begin_s <= each.ended_s < end_s and not each.failure
    ]
    return sum(each.prompt_tokens + each.answer_tokens for each in ended) / (end_s - begin_s)


def ended_per_s(received: Sequence[Received], begin_s: float, end_s: float) -> float:
    """Complete answers a second that ended in that time."""
    return sum(begin_s <= each.ended_s < end_s and not each.failure for each in received) / (end_s - begin_s)
