"""One replica's share of a rate limit, and eight of them together in simulated time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.access.rate_share import CALM_S, RateShare
from statesync.shares import ShareAsk, ShareGrant, ShareLedger
from tests.fakes.each_case import each_case
from tests.fakes.limited_replicas import ExactBucket, LimitedReplicas


def share(per_minute: float = 600, *, shared: bool = True, now: float = 0.0) -> RateShare:
    return RateShare("k", per_minute, now, shared=shared)


def holding(hand: float, level: float, replicas: int = 8, per_minute: float = 600) -> RateShare:
    """A share that was just granted at second 0."""
    made = share(per_minute)
    made.ask(0.0)
    made.answered(ShareGrant(hand, level, hand + level), replicas, 0.0)
    return made


def test_alone_it_is_a_token_bucket_of_one_minute() -> None:
    made = share(60, shared=False)
    for _ in range(60):
        assert made.admits(1, 0.0)
        made.use(1)
    assert not made.admits(1, 0.9)
    assert made.wait_s(1, 0.9) == pytest.approx(0.1)
    assert made.admits(1, 1.0)
    assert made.remaining(1000.0) == 60


def test_requests_use_what_is_in_hand_and_no_more() -> None:
    made = holding(2, 0)
    assert made.admits(1, 0.0)
    made.use(1)
    assert made.admits(1, 0.0)
    made.use(1)
    assert not made.admits(1, 0.0)


def test_it_says_when_there_will_be_room_and_what_is_left() -> None:
    made = holding(0, -5)
    assert not made.admits(1, 0.5)
    assert made.wait_s(1, 0.0) == pytest.approx(0.6)
    assert made.wait_s(1, 0.5) == pytest.approx(0.1)
    assert made.wait_s(601, 0.0) == math.inf
    made.use(10)
    assert made.wait_s(1, 0.0) == pytest.approx(1.6)
    made = holding(10, 50)
    made.use(10)
    assert made.remaining(0.0) == 50
    assert made.remaining(1.0) == 60
    assert made.refill_s(50.0) == pytest.approx(55)


def test_what_a_request_used_beyond_its_estimate_is_a_debt_that_is_paid_first() -> None:
    made = holding(10, 100)
    made.use(30)
    ask = made.ask(0.1)
    assert (ask.held, ask.owed) == (0.0, 20.0)
    made.answered(ShareGrant(5, 75, 80), 8, 0.1)
    assert made.hand == 5


def test_units_that_were_used_during_an_exchange_stay_used() -> None:
    made = holding(10, 100)
    made.admits(1, 0.9)
    ask = made.ask(1.0)
    made.use(4)
    made.answered(ShareGrant(ask.want, 90, 100), 8, 1.01)
    assert made.hand == pytest.approx(ask.want - 4)


def test_nothing_is_used_that_is_being_given_back() -> None:
    made = holding(50, 8)
    ask = made.ask(1.0)
    assert (ask.held, ask.want) == pytest.approx((50, 2.25))
    assert made.hand == ask.want


def test_a_replica_wants_what_half_a_second_of_its_requests_need() -> None:
    made = holding(0, -100)
    for _ in range(200):
        made.admits(1, 0.5)
    assert made.ask(1.0).want == pytest.approx(100)
    assert made.ask(2.0).want == 0
    assert made.ask(2.0).least == 0


def test_a_refused_request_is_asked_for_whole() -> None:
    made = holding(10, -100, per_minute=60_000)
    assert not made.admits(500, 0.5)
    ask = made.ask(0.51)
    assert (ask.want, ask.least) == (500, 490)


def test_one_request_may_go_beyond_an_empty_hand_where_each_replicas_part_is_less() -> None:
    made = holding(0, 4, per_minute=6)
    assert made.admits(1, 5.0)
    made.use(1)
    assert not made.admits(1, 5.0)
    assert made.ask(5.0).owed == 1
    made.answered(ShareGrant(0, 3, 3), 8, 5.0)
    assert not made.admits(1, 5.0 + CALM_S / 2)
    assert made.admits(1, 5.0 + 2 * CALM_S)


@each_case("level", [-3, 0, 0.5])
def test_none_goes_beyond_it_where_there_is_less_than_a_request(level: float) -> None:
    assert not holding(0, level, per_minute=6).admits(1, 2.0)


def test_without_the_ledger_an_equal_part_of_the_rate_flows_and_is_owed_later() -> None:
    made = holding(0, 300)
    made.ask(1.0)
    made.unanswered(1.0)
    assert made.admits(1, 2.0)
    assert made.hand == pytest.approx(600 / 60 / 8)
    made.admits(1, 1000.0)
    assert made.hand == pytest.approx(600 / 8)
    ask = made.ask(1000.0)
    assert (ask.owed, ask.age_s) == pytest.approx((75, 1000))
    made.answered(ShareGrant(10, 100, 110), 8, 1000.1)
    assert not made.alone
    assert made.ask(1000.2).owed == 0


def test_a_replica_that_never_reached_the_ledger_has_the_whole_limit() -> None:
    made = share(60)
    made.ask(0.0)
    made.unanswered(0.0)
    for _ in range(60):
        assert made.admits(1, 0.0)
        made.use(1)
    assert not made.admits(1, 0.5)


def test_a_limit_that_is_first_met_while_the_ledger_is_away_has_the_part_of_one_replica() -> None:
    made = share(80)
    made.ask(0.0)
    made.unanswered(0.0, replicas=8)
    assert made.admits(10, 0.0)
    made.use(10)
    assert not made.admits(1, 0.5)
    assert made.remaining(6.0) == pytest.approx(8)


def test_the_request_that_meets_a_limit_first_passes_and_is_paid_for() -> None:
    made = share(60)
    assert not made.admits(61, 0.0)
    made = share(60)
    assert made.admits(1, 0.0)
    made.use(1)
    assert not made.admits(1, 0.1)
    assert made.short
    assert made.ask(0.1).owed == 1


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    made = holding(5, 5)
    made.ask(1.0)
    made.unanswered(1.0)
    before = made.hand
    made.answered(ShareGrant(100, 0, 0), 8, 1.3)
    assert made.hand == before


# Eight replicas

SCENES = {
    "all replicas overloaded": (600, dict.fromkeys(range(8), 20.0)),
    "one replica overloaded": (600, {3: 160.0}),
    "below the limit": (600, dict.fromkeys(range(8), 0.9)),
    "uneven": (6000, {0: 300.0, 1: 50.0, 2: 10.0, 3: 2.0}),
    "a small limit": (60, dict.fromkeys(range(8), 0.6)),
}
SECONDS = 60


@each_case("scene", list(SCENES))
def test_eight_replicas_admit_what_one_bucket_would(scene: str) -> None:
    limit, loads = SCENES[scene]
    exact = ExactBucket(limit, 0.0)
    world = LimitedReplicas(8, lambda now: RateShare("k", limit, now), exact=exact)
    world.run(2.0)
    for at, per_s in loads.items():
        world.requests(f"r{at}", per_s)
    world.run(2.0 + SECONDS)
    assert world.admitted <= limit * (1 + SECONDS / 60) + 8  # one request beyond the hand of each
    assert world.admitted <= max(1.01 * exact.admitted, exact.admitted + 8)
    assert world.admitted >= 0.98 * exact.admitted - 8
    assert world.exchanges / 8 / SECONDS <= 15


def test_tokens_of_large_requests_are_not_spread_until_none_can_pass() -> None:
    limit = 100_000
    exact = ExactBucket(limit, 0.0)
    world = LimitedReplicas(8, lambda now: RateShare("k", limit, now), exact=exact)
    world.run(2.0)
    for at in range(8):
        world.requests(f"r{at}", 0.3, lambda rng: rng.uniform(5_000, 30_000))
    world.run(180.0)
    assert world.admitted <= limit * 4
    assert world.admitted >= 0.95 * exact.admitted


def test_a_tenant_that_moves_to_another_replica_gets_its_limit_there_within_seconds() -> None:
    limit = 6000
    world = LimitedReplicas(8, lambda now: RateShare("k", limit, now))
    world.requests("r0", 400.0)
    world.run(40.0)
    world.shares["r0"] = RateShare("other", limit, world.now)  # no request comes here any more
    world.requests("r1", 400.0)
    world.run(42.0)
    before = world.admitted
    world.run(52.0)
    assert world.admitted - before >= 0.98 * limit / 6


def test_a_killed_replica_costs_no_more_than_it_held_and_a_new_one_gets_its_part() -> None:
    limit = 6000
    world = LimitedReplicas(8, lambda now: RateShare("k", limit, now))
    for at in range(8):
        world.requests(f"r{at}", 30.0)
    world.run(70.0)
    before = world.admitted
    world.kill("r3")
    world.join("r8")
    world.requests("r8", 30.0)
    world.run(100.0)
    assert 0.97 * limit / 2 <= world.admitted - before <= 1.01 * limit / 2


@each_case("emptied", [False, True])
def test_limits_hold_while_the_ledger_is_away_and_after_it_comes_back(emptied: bool) -> None:
    limit = 6000
    world = LimitedReplicas(8, lambda now: RateShare("k", limit, now))
    for at in range(8):
        world.requests(f"r{at}", 30.0)
    world.run(70.0)
    marks = [world.admitted]
    world.reachable = False
    world.run(100.0)
    marks.append(world.admitted)
    world.reachable = True
    if emptied:
        world.restart_ledger()
    world.run(130.0)
    marks.append(world.admitted)
    for before, after in pairwise(marks):
        assert 0.96 * limit / 2 <= after - before <= 1.02 * limit / 2


class SharedLimit(RuleBasedStateMachine):
    """Replicas that ask, are answered late or never, use units, are killed and join."""

    LIMIT = 120.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.used = 0.0
        self.ledger = ShareLedger()
        self.shares = {name: RateShare("k", self.LIMIT, 0.0) for name in "abc"}
        self.waiting: dict[str, ShareAsk] = {}
        self.beyond = 0.0
        """Units that were used beyond a hand."""

    @rule(seconds=st.floats(0.01, 5))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(name=st.sampled_from("abcd"), cost=st.floats(0.1, 30), times=st.integers(1, 8))
    def request(self, name: str, cost: float, times: int) -> None:
        for _ in range(times):
            share = self.shares.get(name)
            if share is not None and share.admits(cost, self.now):
                self.beyond += max(0.0, cost - max(share.hand, 0.0))
                share.use(cost)
                self.used += cost

    @rule(name=st.sampled_from("abcd"))
    def ask(self, name: str) -> None:
        if name in self.shares and name not in self.waiting:
            self.waiting[name] = self.shares[name].ask(self.now)

    @rule(name=st.sampled_from("abcd"), lost=st.booleans())
    def answer(self, name: str, lost: bool) -> None:
        ask = self.waiting.pop(name, None)
        if ask is None:
            return
        answer = self.ledger.grant(name, self.shares, [ask], self.now)
        if not lost and name in self.shares:
            self.shares[name].answered(answer.grants[0], answer.replicas, self.now)

    @rule(name=st.sampled_from("abc"))
    def kill(self, name: str) -> None:
        self.shares.pop(name, None)

    @rule()
    def join(self) -> None:
        self.waiting.pop("d", None)
        self.shares["d"] = RateShare("k", self.LIMIT, self.now)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        assert self.used <= self.LIMIT + self.now * self.LIMIT / 60 + self.beyond + 1e-3

    @invariant()
    def no_debt_beyond_one_request(self) -> None:
        assert all(share.hand >= -30 for share in self.shares.values())


SharedLimit.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestSharedLimit = SharedLimit.TestCase
