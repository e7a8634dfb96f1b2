"""The exchange of shares, over a store that answers, does not answer, and is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from router.access import limit_sharing
from router.access.limit_sharing import IDLE_PER_S, IDLE_S, LOOKED_AT, MOST, RENEW_S, LimitSharing
from router.access.limits import Share
from router.access.rate_share import RateShare
from router.access.slot_share import SlotShare
from statesync.errors import StoreUnavailable
from statesync.shares import ShareAnswer, ShareAsk, ShareGrant
from statesync.store.memory import MemoryStore
from tests.fakes.recording_listener import RecordingListener
from tests.fakes.virtual_time import Clock


def sharing(*shares: Share, clock: Clock | None = None) -> LimitSharing:
    return LimitSharing(shares, MemoryStore(), clock or Clock())


def test_shares_are_due_at_once_then_when_used_and_rarely_when_not() -> None:
    clock = Clock()
    used, unused = (RateShare(key, 60, clock(), shared=False) for key in "ab")
    one = sharing(used, unused)
    assert one.due(clock()) == [used, unused]
    for share in (used, unused):
        share.ask(clock())
    used.admits(0.001, clock())
    assert one.due(clock() + RENEW_S / 2) == []
    assert one.due(clock() + RENEW_S) == [used]
    assert one.due(clock() + IDLE_S) == [used, unused]


def test_a_share_that_ran_short_is_due_with_the_next_tick() -> None:
    clock = Clock(0.0)
    share = RateShare("a", 60, clock())
    share.ask(clock())
    share.answered(ShareGrant(0, 60, 60), 1, clock())
    share.ask(clock())
    assert not share.admits(30, clock())
    assert sharing(share).due(clock() + limit_sharing.TICK_S) == [share]


def test_of_too_many_shares_those_that_waited_longest_come_first() -> None:
    shares = [RateShare(str(at), 60, 1000.0) for at in range(MOST + 10)]
    for share in shares[:50]:
        share.ask(1000.5)
    due = sharing(*shares).due(1002.0)
    assert len(due) == MOST
    assert set(shares[50:]) <= set(due)


def test_many_shares_are_looked_at_in_turn() -> None:
    shares = [RateShare(str(at), 60, 1000.0) for at in range(2 * LOOKED_AT + 10)]
    for share in shares:
        share.ask(1001.0)
    short = shares[5::LOOKED_AT]
    for share in short:
        share.answered(ShareGrant(0, 60, 60), 1, 1001.0)
        share.ask(1001.0)
        assert not share.admits(30, 1001.0)
    one = sharing(*shares)
    assert [one.due(1001.1) for _ in range(6)] == [[share] for share in short] * 2


def test_two_replicas_share_a_limit_through_their_store() -> None:
    async def run() -> None:
        clock = asyncio.get_running_loop().time
        stores = [MemoryStore("limits") for _ in range(2)]
        rates = [RateShare("a", 60, clock()) for _ in stores]
        slots = [SlotShare("s", 10, clock()) for _ in stores]
        for at, store in enumerate(stores):
            await store.start(f"r{at}", RecordingListener())
            await LimitSharing([rates[at], slots[at]], store, clock).begin()
        assert 3 < rates[1].hand < rates[0].hand
        assert sum(share.hand for share in rates) <= 60
        assert [share.hand for share in slots] == [8, 1]
        for store in stores:
            await store.aclose()

    asyncio.run(run())


def test_while_the_store_is_gone_all_shares_go_on_alone() -> None:
    class Gone(MemoryStore):
        async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
            raise StoreUnavailable("gone")

    clock = Clock()
    shares: list[Share] = [RateShare("a", 60, clock()), SlotShare("s", 10, clock())]
    asyncio.run(LimitSharing(shares, Gone(), clock).exchange(shares[:1]))
    assert [share.alone for share in shares] == [True, True]


def test_a_limit_that_is_new_while_the_store_is_gone_counts_the_replicas_known_before() -> None:
    class Leaving(MemoryStore):
        live = 8

        async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
            if not self.live:
                raise StoreUnavailable("gone")
            return ShareAnswer(self.live, [ShareGrant(1, 1, 1) for _ in asks])

    async def run() -> None:
        clock, store = Clock(), Leaving()
        shares: list[Share] = [RateShare("a", 60, clock())]
        one = LimitSharing(shares, store, clock)
        await one.exchange(shares)
        store.live = 0
        rate, slots = RateShare("b", 80, clock()), SlotShare("s", 16, clock())
        shares += rate, slots
        await one.exchange([rate, slots])
        assert rate.hand == 10
        for _ in range(2):
            assert slots.admits(clock())
            slots.begin()
        assert not slots.admits(clock())

    asyncio.run(run())


def test_a_defect_of_the_store_is_logged_and_the_shares_go_on_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(MemoryStore):
        async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
            raise ValueError("no number")

    clock = Clock()
    share = RateShare("a", 60, clock())
    asyncio.run(LimitSharing([share], Wrong(), clock).exchange([share]))
    assert share.alone
    assert "limits were not shared" in caplog.text


def test_many_shares_without_requests_take_turns() -> None:
    shares = [RateShare(str(at), 60, 0.0) for at in range(4 * IDLE_PER_S)]
    for share in shares:
        share.ask(1.0)
    assert sharing(*shares).due(4.9) == []
    assert len(sharing(*shares).due(5.0)) == MOST


def test_a_store_that_does_not_answer_is_given_up_soon() -> None:
    class Hung(MemoryStore):
        async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
            await asyncio.Event().wait()
            raise AssertionError

    clock = Clock()
    share = RateShare("a", 60, clock())
    asyncio.run(LimitSharing([share], Hung(), clock).exchange([share]))
    assert share.alone
