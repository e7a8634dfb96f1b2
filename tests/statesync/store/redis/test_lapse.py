"""Other replicas' leases lapse on the loop's clock."""

from __future__ import annotations

import asyncio

from statesync.store.redis.lease import LapseTimer, LiveReplicas
from tests.fakes.virtual_time import Clock, pass_time, run_on

LEASE_S = 5.0


async def later(seconds: float) -> None:
    """Moves the clock and runs what is due."""
    pass_time(seconds)
    for _ in range(3):
        await asyncio.sleep(0)


def test_each_silent_replica_lapses_once_and_a_live_one_does_not() -> None:
    async def story() -> None:
        now = asyncio.get_running_loop().time
        lapsed: list[str] = []
        live = LiveReplicas("me", LEASE_S)
        timer = LapseTimer(live, LEASE_S, lapsed.append)
        timer.watch()
        live.seen("early", "t", now())
        timer.watch()
        timer.watch()
        await later(1.0)
        live.seen("late", "t", now())
        await later(3.9)
        assert lapsed == []
        await later(0.1)
        assert lapsed == ["early"]
        await later(1.0)
        assert lapsed == ["early", "late"]
        await later(2 * LEASE_S)
        assert lapsed == ["early", "late"]
        timer.stop()

    run_on(Clock(), story())


def test_after_a_pause_of_this_process_unread_messages_are_waited_for() -> None:
    async def story() -> None:
        now = asyncio.get_running_loop().time
        lapsed: list[str] = []
        live = LiveReplicas("me", LEASE_S)
        live.seen("other", "t", now())
        timer = LapseTimer(live, LEASE_S, lapsed.append)
        timer.watch()
        await later(3 * LEASE_S)
        assert lapsed == []
        live.seen("other", "t", now())
        await later(LEASE_S / 2)
        assert lapsed == []
        timer.stop()
        await later(3 * LEASE_S)
        assert lapsed == []

    run_on(Clock(), story())
