"""The order of a queue: shares in tokens by weight, groups, priorities without starvation, and one lane as a plain
queue."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.fair_queue import LOWER_SHARE, TURN_TOKENS, FairQueue
from router.dataplane.fair_share import FairShares, TenantCounter


class Request:
    """A request of a tenant."""

    def __init__(self, tenant: str, tokens: int, kind: str = "") -> None:
        self.queued = True
        self.tenant = tenant
        self.tokens = tokens
        self.kind = kind


def none_holds(counter: TenantCounter) -> bool:
    return False


class Line:
    """A queue and what is served of it."""

    def __init__(self, **tenants: tuple[float, int]) -> None:
        self.shares = FairShares(tenants)
        self.queue = FairQueue[Request](self.shares.pool("p"))
        self.served: list[Request] = []
        self._ticket = 0

    def add(self, request: Request, priority: int = 0) -> Request:
        lane = self.queue.lane(request.tenant, self.shares.counter("p", request.tenant))
        self._ticket += 1
        lane.begins(priority)
        lane.entries.append((-priority, self._ticket, request))
        lane.entries.sort()
        return request

    def serve(self, requests: int) -> list[str]:
        """The tenants of the next requests."""
        before = len(self.served)

        def attempt(request: Request) -> bool:
            if len(self.served) - before == requests:
                return False
            self.take(request)
            return True

        self.queue.serve(attempt, none_holds)
        return [request.tenant for request in self.served[before:]]

    def take(self, request: Request) -> None:
        request.queued = False
        self.queue.lanes[request.tenant].ends(0)
        self.shares.begin("p", request.tenant, request.tokens, 1)
        self.served.append(request)

    def tokens(self) -> Mapping[str, int]:
        """What each tenant got."""
        got: Counter[str] = Counter()
        for request in self.served:
            got[request.tenant] += request.tokens
        return got


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=100))
def test_one_lane_is_served_by_priority_and_then_first_come(arrivals: list[tuple[int, bool]]) -> None:
    line = Line()
    kept = []
    for number, (priority, leaves) in enumerate(arrivals):
        request = line.add(Request("", number), priority)
        request.queued = not leaves
        if request.queued:
            kept.append((-priority, number))
    out: list[int] = []
    line.queue.serve(lambda request: out.append(request.tokens) or True, none_holds)  # type: ignore[func-returns-value]
    assert out == [number for _, number in sorted(kept)]
    assert len(line.queue) == 0


def test_a_tenant_with_ten_times_the_requests_gets_no_more_than_the_other() -> None:
    line = Line(big=(1.0, 0), small=(1.0, 0))
    for _ in range(1000):
        line.add(Request("big", 500))
    for _ in range(100):
        line.add(Request("small", 500))
    line.serve(180)
    got = line.tokens()
    assert got["small"] == pytest.approx(got["big"], abs=TURN_TOKENS + 1000)


def test_shares_are_in_tokens_whatever_the_size_of_the_requests() -> None:
    rng = random.Random(1)
    line = Line(long=(1.0, 0), short=(1.0, 0), mixed=(1.0, 0))
    for _ in range(3000):
        line.add(Request("long", 8000))
        line.add(Request("short", 100))
        line.add(Request("mixed", rng.randrange(50, 8000)))
    line.serve(2000)
    got = line.tokens()
    mean = sum(got.values()) / 3
    assert all(abs(tokens - mean) <= 0.1 * mean for tokens in got.values()), got


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=5))
def test_shares_follow_the_weights(weights: list[float]) -> None:
    line = Line(**{f"t{at}": (weight, 0) for at, weight in enumerate(weights)})
    for _ in range(600):
        for at in range(len(weights)):
            line.add(Request(f"t{at}", 1000))
    line.serve(500)
    got, total = line.tokens(), sum(weights)
    for at, weight in enumerate(weights):
        assert abs(got[f"t{at}"] - 500_000 * weight / total) <= 2 * (TURN_TOKENS + 1000), got


def test_a_tenants_requests_go_in_groups() -> None:
    line = Line(a=(1.0, 0), b=(1.0, 0))
    for _ in range(40):
        line.add(Request("a", 500))
        line.add(Request("b", 500))
    order = line.serve(40)
    changes = sum(one != following for one, following in pairwise(order))
    assert changes <= 12


def test_a_tenant_that_comes_late_saves_nothing_up() -> None:
    line = Line(early=(1.0, 0), late=(1.0, 0))
    for _ in range(200):
        line.add(Request("early", 1000))
    line.serve(100)
    for _ in range(200):
        line.add(Request("late", 1000))
    assert 8 <= Counter(line.serve(20))["late"] <= 14


def test_a_higher_priority_goes_first_and_the_lower_ones_keep_their_share() -> None:
    line = Line(urgent=(1.0, 5), batch=(1.0, 0), other=(1.0, -1))
    for _ in range(3000):
        for tenant in ("batch", "other", "urgent"):
            line.add(Request(tenant, 100))
    assert line.serve(1) == ["urgent"]
    line.serve(2000)
    got = line.tokens()
    assert got["batch"] + got["other"] == pytest.approx(LOWER_SHARE * sum(got.values()), rel=0.05)
    assert min(got.values()) > 0.2 * LOWER_SHARE * sum(got.values())


def test_a_lower_priority_has_all_that_the_higher_ones_leave() -> None:
    line = Line(urgent=(1.0, 5), batch=(1.0, 0))
    for _ in range(10):
        line.add(Request("batch", 100))
    line.add(Request("urgent", 100))
    assert line.serve(20) == ["urgent"] + 10 * ["batch"]


def test_of_each_kind_requests_are_served_until_there_is_no_room_for_it() -> None:
    line = Line(a=(1.0, 0), b=(1.0, 0))
    for kind in "xyxy":
        line.add(Request("a", 100, kind))
        line.add(Request("b", 100, kind))
    room = {"x": 1, "y": 3}
    tried: list[str] = []

    def attempt(request: Request) -> bool:
        tried.append(request.kind)
        room[request.kind] -= 1
        if room[request.kind] < 0:
            return False
        line.take(request)
        return True

    line.queue.serve_kinds(attempt, none_holds, lambda request: request.kind)
    assert Counter(tried) == {"x": 2, "y": 4}
    assert Counter(request.kind for request in line.served) == {"x": 1, "y": 3}
    assert len(line.queue) == 4
    assert len(line.serve(10)) == 4


def test_a_request_that_joins_during_a_pass_keeps_its_place() -> None:
    line = Line()
    line.add(Request("", 1, "x"))

    def attempt(request: Request) -> bool:
        if not line.served:
            line.served.append(request)
            line.add(Request("", 2, "x"))
        return False

    line.queue.serve_kinds(attempt, none_holds, lambda request: request.kind)
    assert [entry[2].tokens for entry in line.queue.lanes[""].entries] == [1, 2]


def test_requests_of_a_tenant_that_has_to_wait_stay_in_the_queue_of_several_kinds() -> None:
    line = Line(a=(1.0, 0), b=(1.0, 0))
    for tokens in (1, 2, 3):
        line.add(Request("a", tokens, "x"))
    line.add(Request("b", 1, "x"))
    a = line.shares.counter("p", "a")

    def attempt(request: Request) -> bool:
        line.take(request)
        return True

    line.queue.serve_kinds(attempt, lambda counter: counter is a, lambda request: request.kind)
    assert [request.tenant for request in line.served] == ["b"]
    assert [entry[2].tokens for entry in line.queue.lanes["a"].entries] == [1, 2, 3]
    assert len(line.serve(10)) == 3


def test_how_many_go_first_counts_each_other_tenant_up_to_its_share() -> None:
    line = Line(big=(1.0, 0), small=(1.0, 0), double=(2.0, 0), urgent=(1.0, 1), batch=(1.0, -1))
    for tenant, number in (("big", 100), ("small", 3), ("double", 50), ("urgent", 4), ("batch", 40)):
        for _ in range(number):
            line.add(Request(tenant, 1))

    def ahead(tenant: str, priority: int) -> float:
        lane = line.queue.lanes[tenant]
        return line.queue.ahead(lane, lane.ahead(priority))

    assert ahead("small", 0) == 3 + 3 + 6 + 4
    assert ahead("big", 0) == 100 + 3 + 50 + 4
    assert ahead("urgent", 0) == 4
    assert ahead("small", 1) == 4


def test_entries_of_requests_that_left_and_lanes_without_any_are_dropped() -> None:
    line = Line(a=(1.0, 0), b=(1.0, 0))
    for tenant in ("a", "b"):
        for _ in range(10):
            line.add(Request(tenant, 1))
    for entry in line.queue.lanes["a"].entries:
        entry[2].queued = False
        line.queue.lanes["a"].ends(0)
    line.queue.compact()
    assert (len(line.queue), list(line.queue.lanes)) == (10, ["b"])
