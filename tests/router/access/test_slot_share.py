"""One replica's share of a limit of requests at a time, and several of them together."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.access.rate_share import CALM_S
from router.access.slot_share import SlotShare
from statesync.shares import ShareAsk, ShareGrant, ShareLedger
from tests.fakes.each_case import each_case
from tests.fakes.limited_replicas import LimitedReplicas


def holding(hand: int, level: float, replicas: int = 4, most: int = 100) -> SlotShare:
    """A share that was just granted at second 0."""
    made = SlotShare("k", most, 0.0)
    made.ask(0.0)
    made.answered(ShareGrant(hand, level, level), replicas, 0.0)
    return made


def fill(share: SlotShare, now: float = 0.0) -> int:
    """Begin requests until one is refused; returns how many began."""
    began = 0
    while share.admits(now):
        share.begin()
        began += 1
    return began


def test_alone_it_admits_the_whole_limit_and_one_more_for_each_that_ends() -> None:
    share = SlotShare("k", 5, 0.0, shared=False)
    assert fill(share) == 5
    share.end(1.0)
    assert fill(share) == 1


def test_it_admits_as_many_as_it_holds_and_asks_for_more() -> None:
    share = holding(3, 40)
    assert fill(share) == 3
    assert share.short
    ask = share.ask(1.0)
    assert (ask.held, ask.rate_s) == (3, 0.0)
    assert ask.want == 3 + 10  # an equal part of the 40 that none holds


def test_a_replica_without_requests_gives_back_what_others_may_need() -> None:
    share = holding(50, 10)
    assert share.ask(1.0).want == 2
    assert fill(share, 1.0) == 2


def test_one_request_may_go_beyond_the_slots_where_each_replicas_part_is_less_than_one() -> None:
    share = holding(0, 2, most=3)
    assert fill(share, 5.0) == 1
    assert share.ask(5.0).held == 1
    share.answered(ShareGrant(1, 1, 1), 4, 5.0)
    assert fill(share, 5.0 + CALM_S / 2) == 0
    assert fill(share, 5.0 + 2 * CALM_S) == 1


@each_case("replicas, each", [(1, 10), (4, 2), (40, 1)])
def test_without_the_ledger_each_replica_admits_an_equal_part_and_at_least_one(replicas: int, each: int) -> None:
    share = holding(8, 0, replicas=replicas, most=10)
    share.ask(1.0)
    share.unanswered(1.0)
    assert fill(share, 2.0) == each
    assert not share.short


def test_the_time_until_a_slot_is_free_is_learned_from_the_requests() -> None:
    share = holding(10, 0, most=10)
    for _ in range(100):
        share.begin()
        share.end(30.0)
    assert 2.9 < share.wait_s() <= 3.0


def test_a_slot_that_is_left_over_is_given_back_soon_where_others_may_wait_for_one() -> None:
    share = holding(2, 0)
    share.begin()
    share.begin()
    assert not share.short
    share.end(1.0)
    assert share.short


class Streams:
    """Requests of two seconds at eight replicas."""

    def __init__(self, most: int, per_s: float) -> None:
        self.world = world = LimitedReplicas(8, lambda now: SlotShare("k", most, now))
        world.run(2.0)
        self.open = self.peak = 0
        self._until = world.now
        self._area = 0.0
        for name, share in world.shares.items():
            assert isinstance(share, SlotShare), name
            self._arrive(share, per_s / 8)
        world.run(22.0)
        self._count(0)
        self.mean = self._area / 20.0

    def _arrive(self, share: SlotShare, per_s: float) -> None:
        def arrive() -> None:
            if share.admits(self.world.now):
                share.begin()
                self._count(1)
                self.world.at(self.world.now + 2.0, end)
            self._arrive(share, per_s)

        def end() -> None:
            share.end(2.0)
            self._count(-1)

        self.world.at(self.world.now + self.world.rng.expovariate(per_s), arrive)

    def _count(self, more: int) -> None:
        self._area += self.open * (self.world.now - self._until)
        self._until = self.world.now
        self.open += more
        self.peak = max(self.peak, self.open)


@each_case("most, per_s, least", [(200, 300, 0.85), (40, 100, 0.85), (40, 10, 0.4)])
def test_eight_replicas_have_as_many_requests_at_a_time_as_the_limit_says(
    most: int, per_s: float, least: float
) -> None:
    streams = Streams(most, per_s)
    assert streams.peak <= most
    assert streams.mean >= least * most


class SharedSlots(RuleBasedStateMachine):
    """Replicas that ask, are answered late or never, and are killed."""

    MOST = 12

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.ledger = ShareLedger()
        self.shares = {name: SlotShare("k", self.MOST, 0.0) for name in "abc"}
        self.waiting: dict[str, ShareAsk] = {}
        self.beyond: dict[str, int] = dict.fromkeys("abc", 0)
        """The most that a replica's use was beyond its slots."""

    @rule(seconds=st.floats(0.01, 3), name=st.sampled_from("abc"), began=st.integers(0, 6), ended=st.integers(0, 6))
    def requests(self, seconds: float, name: str, began: int, ended: int) -> None:
        self.now += seconds
        share = self.shares.get(name)
        for _ in range(began if share is not None else 0):
            assert share is not None
            if share.admits(self.now):
                share.begin()
                self.beyond[name] += share.used > share.hand
        for _ in range(min(ended, share.used) if share is not None else 0):
            assert share is not None
            share.end(1.0)

    @rule(name=st.sampled_from("abc"))
    def ask(self, name: str) -> None:
        if name in self.shares and name not in self.waiting:
            self.waiting[name] = self.shares[name].ask(self.now)

    @rule(name=st.sampled_from("abc"), lost=st.booleans())
    def answer(self, name: str, lost: bool) -> None:
        ask = self.waiting.pop(name, None)
        if ask is not None:
            answer = self.ledger.grant(name, self.shares, [ask], self.now)
            if not lost and name in self.shares:
                self.shares[name].answered(answer.grants[0], answer.replicas, self.now)

    @rule(name=st.sampled_from("abc"))
    def kill(self, name: str) -> None:
        self.shares.pop(name, None)

    @invariant()
    def all_slots_together_are_at_most_the_limit(self) -> None:
        held = sum(max(share.hand, share.used) for share in self.shares.values())
        assert held <= self.MOST + sum(self.beyond.values())


SharedSlots.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestSharedSlots = SharedSlots.TestCase
