"""Deadlines: which members expire, when, and that one that raises does not stop the others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from router.dataplane.http.deadlines import NEVER, Deadlines, resolution_for
from tests.fakes.virtual_time import Clock


class Member:
    def __init__(self, expires_at: float, breaks: bool = False) -> None:
        self.expires_at = expires_at
        self.breaks = breaks
        self.expired: list[float] = []

    def expire(self, now: float, /) -> None:
        self.expired.append(now)
        self.expires_at = NEVER
        if self.breaks:
            raise RuntimeError("broken")


def test_each_member_whose_time_is_up_is_expired_once() -> None:
    clock = Clock(0.0)
    deadlines = Deadlines(clock, 0.1)
    early, late, never = Member(5.0), Member(7.0), Member(NEVER)
    deadlines.members |= {early, late, never}
    for clock.now in (4.9, 5.0, 6.0, 7.5, 9.0):
        deadlines.look()
    assert (early.expired, late.expired, never.expired) == ([5.0], [7.5], [])


def test_a_member_that_raises_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    deadlines = Deadlines(Clock(10.0), 0.1)
    members = [Member(1.0, breaks=True), Member(1.0), Member(1.0, breaks=True), Member(1.0)]
    deadlines.members |= set(members)
    with caplog.at_level(logging.ERROR, "turnout.deadlines"):
        deadlines.look()
    assert [member.expired for member in members] == [[10.0]] * 4
    assert len(caplog.records) == 2


def test_a_member_may_leave_or_join_while_it_expires() -> None:
    deadlines = Deadlines(Clock(10.0), 0.1)

    class Leaver(Member):
        def expire(self, now: float, /) -> None:
            super().expire(now)
            deadlines.members.discard(self)
            deadlines.members.add(Member(NEVER))

    leavers = [Leaver(1.0) for _ in range(20)]
    deadlines.members |= set(leavers)
    deadlines.look()
    assert deadlines.members.isdisjoint(leavers)
    assert len(deadlines.members) == 20


def test_passes_follow_each_other_until_they_are_stopped() -> None:
    async def run() -> None:
        expired = asyncio.Event()

        class Signals(Member):
            def expire(self, now: float, /) -> None:
                super().expire(now)
                expired.set()

        deadlines = Deadlines(Clock(10.0), 0.001)
        deadlines.start()
        for _ in range(3):
            expired.clear()
            deadlines.members = {Signals(1.0)}
            await asyncio.wait_for(expired.wait(), 60)
        deadlines.stop()
        deadlines.stop()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "expected"), [([], 0.25), ([0.0, 0.0], 0.25), ([60.0, 0.4], 0.1), ([0.001], 0.005), ([300.0], 0.25)]
)
def test_the_resolution_is_a_quarter_of_the_shortest_limit(limits: list[float], expected: float) -> None:
    assert resolution_for(*limits) == expected
