"""The gateway's own queue in virtual time: fairness between tenants, a replica that is killed, and overload."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from loadtests.bench.fairness import traffic
from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.simulate.queued import QueuedReplicas, QueueOptions
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.simulate.world import World
from schedulers import registry
from statesync.types import LEARNED
from tests.fakes.simulated_world import SMALL, UNIT, arrival, trace

PODS, PLACES = 4, 32
"""Together 97,000 tokens a second of the traffic below."""


def conversations(rates: Mapping[str, float], seconds: float) -> Trace:
    return Trace("tenants", UNIT, traffic.conversations(rates, seconds))


class Run:
    """What became of a trace."""

    def __init__(
        self,
        played: Trace,
        *,
        fair: bool = True,
        replicas: int = 2,
        places: int = PLACES,
        act: Callable[[World, QueuedReplicas], None] | None = None,
    ) -> None:
        world = World([H100_8B] * PODS, UNIT)
        options = QueueOptions(dict.fromkeys({each.tenant for each in played.arrivals}, (1.0, 0)), fair=fair)
        self.router = QueuedReplicas(
            world, registry.create("prefix_aware"), UNIT, options, places, Sharing(replicas, age_s=0.005)
        )
        if act is not None:
            act(world, self.router)
        world.play(played, self.router)
        self.shed = world.shed
        self.tenants = [each.tenant for each in played.arrivals]
        self.outcomes = world.outcomes

    def ttft_p99(self, *tenants: str) -> float:
        """From the start, with empty caches."""
        outcomes = [each for number, each in self.outcomes.items() if self.tenants[number] in tenants]
        times = sorted(each.ttft_s for each in outcomes)
        return times[len(times) * 99 // 100]

    def served(self, *tenants: str) -> int:
        """Requests of these tenants that were answered."""
        return sum(self.tenants[number] in tenants for number in self.outcomes)

    def tokens(self, begin_s: float, end_s: float) -> Counter[str]:
        """Tokens a second of the requests that ended in that time, by tenant."""
        got: Counter[str] = Counter()
        for number, each in self.outcomes.items():
            if begin_s <= each.at_s + each.e2e_s < end_s:
                got[self.tenants[number]] += round((each.prompt_tokens + each.output_tokens) / (end_s - begin_s))
        return got

    @property
    def hit_rate(self) -> float:
        every = self.outcomes.values()
        return sum(each.cached_tokens for each in every) / sum(each.prompt_tokens for each in every)


def kills_one(at_s: float) -> Callable[[World, QueuedReplicas], None]:
    return lambda world, router: world.at(at_s, lambda: router.kill(0))


SMALL_ONES = {f"t{number}": 8.0 for number in range(4)}


@pytest.mark.slow
def test_a_tenant_at_ten_times_its_share_does_not_slow_the_others_down_though_a_replica_is_killed() -> None:
    alone = Run(conversations(SMALL_ONES, 40))
    both = conversations({**SMALL_ONES, "big": 150.0}, 40)
    unfair, fair = Run(both, fair=False), Run(both, act=kills_one(20.0))
    p99 = [run.ttft_p99(*SMALL_ONES) for run in (alone, fair, unfair)]
    assert p99[1] <= 1.2 * p99[0] < 0.05 * p99[2]
    assert fair.hit_rate >= 0.95 * unfair.hit_rate
    assert fair.served(*SMALL_ONES) == alone.served(*SMALL_ONES), (
        "they ask for less than their share, and get all of it"
    )
    got = fair.tokens(10, 40)
    assert got["big"] > max(got[tenant] for tenant in SMALL_ONES), "and it gets the rest"


@pytest.mark.slow
def test_tenants_that_all_want_more_than_their_share_get_equal_shares_over_all_replicas() -> None:
    run = Run(conversations({"t0": 40.0, "t1": 80.0, "t2": 300.0}, 30), replicas=3, act=kills_one(15.0))
    got = run.tokens(6, 30)
    mean = sum(got.values()) / 3
    assert all(abs(tokens - mean) <= 0.1 * mean for tokens in got.values()), got


def steady(rate: float, begin_s: float, end_s: float) -> list[Arrival]:
    rng, at, made = random.Random(rate), begin_s, []
    while (at := at + rng.expovariate(rate)) < end_s:
        made.append(arrival(at, prompt=100, output=20))
    return made


def served(waves: Sequence[Arrival], queue_timeout_s: float = 8.0) -> tuple[World, QueuedReplicas]:
    """These requests on a small pod with ten a second, all of one tenant."""
    world = World([SMALL], UNIT)
    router = QueuedReplicas(
        world, registry.create("least_load"), UNIT, QueueOptions({}, queue_timeout_s=queue_timeout_s), 8
    )
    world.play(trace(*sorted(waves, key=lambda each: each.at_s)), router)
    return world, router


def ended(world: World, begin_s: float, end_s: float) -> float:
    """Requests a second that ended in that time."""
    return sum(begin_s <= each.at_s + each.e2e_s < end_s for each in world.outcomes.values()) / (end_s - begin_s)


def test_five_times_the_load_for_five_minutes_costs_no_goodput_and_is_over_in_ten_seconds() -> None:
    capacity = ended(served(steady(12.0, 0, 60))[0], 10, 60)
    usual = 0.5 * capacity
    waves = steady(usual, 0, 330) + steady(4.5 * capacity, 0, 300)
    world, router = served(waves, queue_timeout_s=4.0)
    goodput = ended(world, 10, 300)
    after = [each.ttft_s for each in world.outcomes.values() if each.at_s >= 310]
    waited = max(each.ttft_s for each in world.outcomes.values())
    assert goodput >= 0.9 * capacity
    assert len(after) > 20 * 0.4 * capacity and max(after) < 1.5
    assert waited < 4.0 + 1.5
    assert router.waiting == 0


def test_requests_that_would_wait_too_long_are_refused_when_they_come_and_not_after_the_wait() -> None:
    refused_at: list[float] = []
    world = World([SMALL], UNIT)
    router = QueuedReplicas(world, registry.create("least_load"), UNIT, QueueOptions({}, queue_timeout_s=8.0), 8)
    waves = steady(50.0, 0, 120)
    world.on_end = lambda number: (
        refused_at.append(world.now - waves[number].at_s) if number not in world.outcomes else None
    )
    world.play(trace(*waves), router)
    at_once = sum(waited == 0 for waited in refused_at)
    assert at_once > 0.9 * len(refused_at) > 1000


def test_a_killed_replicas_waiting_requests_are_served_by_the_others() -> None:
    world = World([SMALL], UNIT)
    options = QueueOptions({"a": (1.0, 0)})
    router = QueuedReplicas(world, registry.create("least_load"), UNIT, options, 1, Sharing(2, age_s=0.001))
    world.at(0.5, lambda: router.kill(0))
    ended = world.play(trace(*[arrival(0.01 * number) for number in range(20)]), router)
    assert (len(ended), world.shed, router.waiting) == (20, 0, 0)


def test_a_request_is_refused_after_its_time_in_the_queue() -> None:
    world = World([SMALL], UNIT)
    router = QueuedReplicas(world, registry.create("least_load"), UNIT, QueueOptions({}, queue_timeout_s=0.5), 1)
    ended = world.play(trace(arrival(0.0, output=200), arrival(0.1)), router)
    assert (len(ended), world.shed) == (1, 1)


@pytest.mark.slow
def test_a_learned_limit_serves_as_much_as_the_right_one_and_as_fairly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "H100_8B", H100_8B._replace(max_num_seqs=PLACES))
    both = conversations({**SMALL_ONES, "big": 150.0}, 30)
    configured, learned = Run(both), Run(both, places=LEARNED)
    rates = [sum(run.tokens(10, 30).values()) for run in (configured, learned)]
    assert rates[1] >= 0.98 * rates[0]
    assert learned.hit_rate >= 0.98 * configured.hit_rate
    limits = [status.limit for status in learned.router.replicas[0].view.statuses()]
    assert all(PLACES < limit <= 2 * PLACES for limit in limits if limit is not None) and any(limits)
