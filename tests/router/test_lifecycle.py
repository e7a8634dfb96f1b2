"""The phases of a replica and the steps from SIGTERM to exit, on a clock that only the test advances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from router.lifecycle import DrainReport, IllegalTransition, Lifecycle, Phase, PhaseChange, drain_sequence
from router.settings import Drain
from tests.fakes.each_case import each_case


class Replica:
    """A replica with a test's clock: each pause advances it and then calls `each_pause`."""

    def __init__(self, inflight: int = 0) -> None:
        self.now = 100.0
        self.inflight = inflight
        self.hurry = asyncio.Event()
        self.events: list[str] = []
        self.each_pause: Callable[[], None] = lambda: None
        self.lifecycle = Lifecycle(lambda: self.now)
        self.lifecycle.listen(lambda step: self.events.append(f"{step.at:g} {step.after}"))

    def to(self, *phases: Phase) -> Replica:
        for phase in phases:
            self.lifecycle.enter(phase)
        self.events.clear()
        return self

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        self.each_pause()

    async def stop_accepting(self) -> None:
        self.events.append("stop accepting")

    def cut_off(self) -> None:
        self.events.append(f"cut {self.inflight}")

    async def drain(self, settings: Drain) -> DrainReport:
        return await drain_sequence(
            self.lifecycle,
            settings,
            stop_accepting=self.stop_accepting,
            inflight=lambda: self.inflight,
            cut_off=self.cut_off,
            hurry=self.hurry,
            clock=lambda: self.now,
            pause=self.pause,
        )


def ready(inflight: int = 0) -> Replica:
    return Replica(inflight).to(Phase.WARMING, Phase.READY)


def test_only_the_ready_phase_is_ready_and_every_phase_after_it_closes_connections() -> None:
    lifecycle = Replica().lifecycle
    seen = [(lifecycle.phase, lifecycle.ready, lifecycle.closing)]
    for phase in (Phase.WARMING, Phase.READY, Phase.SETTLING, Phase.DRAINING, Phase.CLOSED):
        lifecycle.enter(phase)
        seen.append((phase, lifecycle.ready, lifecycle.closing))
    assert seen == [
        (Phase.STARTING, False, False),
        (Phase.WARMING, False, False),
        (Phase.READY, True, False),
        (Phase.SETTLING, False, True),
        (Phase.DRAINING, False, True),
        (Phase.CLOSED, False, True),
    ]


@each_case(
    ("path", "illegal"),
    [
        ((), Phase.READY),
        ((), Phase.SETTLING),
        ((Phase.WARMING,), Phase.SETTLING),
        ((Phase.WARMING, Phase.READY), Phase.WARMING),
        ((Phase.WARMING, Phase.READY), Phase.READY),
        ((Phase.WARMING, Phase.READY, Phase.SETTLING), Phase.READY),
        ((Phase.DRAINING,), Phase.READY),
        ((Phase.CLOSED,), Phase.STARTING),
    ],
)
def test_a_phase_that_cannot_follow_is_refused_and_changes_nothing(path: tuple[Phase, ...], illegal: Phase) -> None:
    replica = Replica().to(*path)
    before = replica.lifecycle.phase
    with pytest.raises(IllegalTransition, match=f"{illegal} cannot follow {before}"):
        replica.lifecycle.enter(illegal)
    assert replica.lifecycle.phase is before
    assert replica.events == []


def test_each_phase_has_its_start_time_and_listeners_get_every_step() -> None:
    replica = Replica()
    steps: list[PhaseChange] = []
    replica.lifecycle.listen(steps.append)
    replica.now = 101.5
    replica.lifecycle.enter(Phase.WARMING)
    assert replica.lifecycle.since == {Phase.STARTING: 100.0, Phase.WARMING: 101.5}
    assert steps == [PhaseChange(Phase.STARTING, Phase.WARMING, 101.5)]


def test_the_durations_of_the_phases_add_up_and_the_current_one_grows() -> None:
    replica = Replica()
    replica.now = 101.5
    replica.lifecycle.enter(Phase.WARMING)
    replica.now = 104.0
    assert replica.lifecycle.lasted_s() == {Phase.STARTING: 1.5, Phase.WARMING: 2.5}
    replica.lifecycle.enter(Phase.READY)
    replica.now = 110.0
    assert replica.lifecycle.lasted_s() == {Phase.STARTING: 1.5, Phase.WARMING: 2.5, Phase.READY: 6.0}


def test_the_log_has_every_step_and_the_number_of_requests_left(caplog: pytest.LogCaptureFixture) -> None:
    replica = ready(inflight=3)

    def some_end() -> None:
        replica.inflight = 1 if replica.now > 118 else 2 if replica.now > 108 else 3

    replica.each_pause = some_end
    with caplog.at_level(logging.INFO, "turnout.lifecycle"):
        asyncio.run(replica.drain(Drain(settle_s=5, timeout_s=20)))
    assert [record.getMessage() for record in caplog.records] == [
        "not ready any more, accepting for 5 s more: load balancers need time to notice",
        "accepting no more; 3 requests in flight have up to 20 s",
        "2 requests in flight; they have 10 s more",
        "cutting off 1 requests in flight",
    ]


def test_a_ready_replica_settles_then_stops_accepting_and_closes_when_nothing_is_in_flight() -> None:
    replica = ready()
    report = asyncio.run(replica.drain(Drain(settle_s=5, timeout_s=300)))
    assert replica.events == ["100 settling", "105 draining", "stop accepting", "105 closed"]
    assert report == DrainReport(cut=0, hurried=False, took_s=5.0)


def test_a_replica_that_was_handed_over_does_not_settle_and_its_address_stays_ready() -> None:
    """Its successor accepts on the same sockets. A connection accepted just before must not be refused."""
    replica = ready(inflight=2)
    replica.lifecycle.handed_over = True
    seen: list[tuple[bool, bool]] = []
    replica.each_pause = lambda: seen.append((replica.lifecycle.ready, replica.lifecycle.closing))
    asyncio.run(replica.drain(Drain(settle_s=5, timeout_s=1)))
    assert replica.events == ["100 draining", "stop accepting", "cut 2", "101 closed"]
    assert set(seen) == {(True, True)}
    assert not replica.lifecycle.ready


def test_streams_that_end_in_time_are_waited_for_and_not_cut() -> None:
    replica = ready(inflight=3)

    def one_ends() -> None:
        if replica.lifecycle.phase is Phase.DRAINING:
            replica.inflight -= 1

    replica.each_pause = one_ends
    report = asyncio.run(replica.drain(Drain(settle_s=5, timeout_s=300)))
    assert replica.events[-1] == "105.15 closed"
    assert report.cut == 0


def test_streams_that_outlast_the_drain_are_cut_at_its_end() -> None:
    replica = ready(inflight=2)
    report = asyncio.run(replica.drain(Drain(settle_s=1, timeout_s=30)))
    assert replica.events == ["100 settling", "101 draining", "stop accepting", "cut 2", "131 closed"]
    assert report == DrainReport(cut=2, hurried=False, took_s=31.0)


@pytest.mark.parametrize(("stops", "steps"), [((), 4), ((4,), 5), ((2,), 5), ((4, 5), 5)])
def test_a_step_in_which_the_process_stood_still_does_not_count_as_settling(stops: tuple[int, ...], steps: int) -> None:
    replica, taken = ready(), 0

    def step() -> None:
        nonlocal taken
        taken += 1
        replica.now += 45.0 if taken in stops else 0.0

    replica.each_pause = step
    asyncio.run(replica.drain(Drain(settle_s=1.0, timeout_s=9.0)))
    assert taken == steps
    assert replica.lifecycle.phase is Phase.CLOSED


def test_a_second_signal_while_settling_ends_everything_at_once() -> None:
    replica = ready(inflight=1)
    replica.hurry.set()
    report = asyncio.run(replica.drain(Drain(settle_s=5, timeout_s=300)))
    assert replica.events == ["100 settling", "100 draining", "stop accepting", "cut 1", "100 closed"]
    assert report == DrainReport(cut=1, hurried=True, took_s=0.0)


def test_a_second_signal_while_draining_ends_the_wait() -> None:
    replica = ready(inflight=1)

    def signal_at_102() -> None:
        if replica.now >= 102:
            replica.hurry.set()

    replica.each_pause = signal_at_102
    report = asyncio.run(replica.drain(Drain(settle_s=1, timeout_s=300)))
    assert report.hurried
    assert 102 <= replica.now < 102.1


def test_a_replica_that_was_never_ready_does_not_settle() -> None:
    replica = Replica().to(Phase.WARMING)
    asyncio.run(replica.drain(Drain()))
    assert replica.events == ["100 draining", "stop accepting", "100 closed"]


def test_a_failure_while_draining_still_ends_closed_and_is_not_swallowed() -> None:
    replica = ready()

    async def broken() -> None:
        raise OSError("socket")

    replica.stop_accepting = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="socket"):
        asyncio.run(replica.drain(Drain(settle_s=0)))
    assert replica.lifecycle.phase is Phase.CLOSED


def test_with_real_time_the_hurry_event_ends_a_long_settle() -> None:
    replica = ready()
    loop_clock: list[Callable[[], float]] = []

    async def run() -> DrainReport:
        loop = asyncio.get_running_loop()
        loop_clock.append(loop.time)
        loop.call_soon(replica.hurry.set)
        return await asyncio.wait_for(
            drain_sequence(
                replica.lifecycle,
                Drain(settle_s=3600, timeout_s=3600),
                stop_accepting=replica.stop_accepting,
                inflight=lambda: 1,
                cut_off=replica.cut_off,
                hurry=replica.hurry,
                clock=loop.time,
            ),
            60,
        )

    assert asyncio.run(run()).hurried
