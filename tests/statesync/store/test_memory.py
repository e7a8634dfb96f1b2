"""The memory store's own behaviour; the behaviour of all stores is in `test_protocol_contract.py`."""

from __future__ import annotations

import asyncio
import gc
import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence

import pytest

from schedulers.types import PodId
from statesync.errors import StateError
from statesync.store.memory import PLACEMENTS, REPORTS, MemoryStore
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord
from statesync.types import EngineReport, InflightNumbers, KnownPod, PrefixPage

A = PodId("10.0.0.1:8000")


class Diary:
    """A listener that writes down its calls, in order."""

    def __init__(self, fails: bool = False) -> None:
        self.lines: list[str] = []
        self.pages: list[PrefixPage] = []
        self._fails = fails

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        self._write(f"inflight {replica} {sum(n.requests for n in numbers.values())}")

    def replica_gone(self, replica: str, /) -> None:
        self._write(f"gone {replica}")

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        self._write(f"placed {len(blocks)}")

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        self._write("forgot")

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        assert age_s >= 0.0
        self._write(f"report {report.queued}")

    def models_changed_elsewhere(self, pod: PodId, /) -> None:
        self._write(f"models {pod}")

    def served_elsewhere(self, replica: str, served: Mapping[str, int], /) -> None:
        self._write(f"served {dict(served)}")

    def pods_elsewhere(self, known: Mapping[PodId, KnownPod], /) -> None:
        if known:
            self._write(f"pods {dict(known)}")

    def checkpoint(self) -> Iterable[PrefixPage]:
        return self.pages

    def restored(self, page: PrefixPage, /) -> None:
        self._write(f"restored {len(page.sizes)}")

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        self._write(f"policy {pool} {record.generation}")

    def _write(self, line: str) -> None:
        self.lines.append(line)
        if self._fails:
            raise RuntimeError("listener broke")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_unnamed_stores_are_private() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore(), MemoryStore(), Diary()
        await one.start("one", Diary())
        await two.start("two", diary)
        one.announce(A, InflightNumbers(1, 1, 1))
        one.placed(A, [1])
        await one.put_policy("default", PolicyRecord("p2c", {}), if_generation=None)
        await settle()
        assert diary.lines == []
        assert await two.policy("default") is None
        assert [r.id for r in two.replicas()] == ["two"]

    asyncio.run(run())


def test_differently_named_hubs_share_nothing() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("hub-one"), MemoryStore("hub-two"), Diary()
        await one.start("one", Diary())
        await two.start("two", diary)
        one.announce(A, InflightNumbers(1, 1, 1))
        await settle()
        assert diary.lines == []

    asyncio.run(run())


def test_announcements_of_one_turn_are_received_as_one() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("coalesce"), MemoryStore("coalesce"), Diary()
        await two.start("two", diary)
        await one.start("one", Diary())
        diary.lines.clear()
        for requests in (1, 2, 3):
            one.announce(A, InflightNumbers(requests, 0, 0))
        await settle()
        assert diary.lines == ["inflight one 3"]

    asyncio.run(run())


def test_what_was_announced_before_the_start_is_sent_after_it() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("early"), MemoryStore("early"), Diary()
        one.announce(A, InflightNumbers(2, 0, 0))
        await two.start("two", diary)
        await one.start("one", Diary())
        await settle()
        assert diary.lines == ["inflight one 2"]

    asyncio.run(run())


def test_a_replica_that_comes_back_under_its_name_is_gone_first() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("back"), MemoryStore("back"), Diary()
        await two.start("two", diary)
        await one.start("one", Diary())
        one.announce(A, InflightNumbers(2, 0, 0))
        await one.aclose()
        await one.start("one", Diary())
        one.announce(A, InflightNumbers(1, 0, 0))
        await settle()
        assert diary.lines == ["inflight one 2", "gone one", "inflight one 1"]

    asyncio.run(run())


def test_a_live_replica_s_name_is_refused() -> None:
    async def run() -> None:
        one, two = MemoryStore("names"), MemoryStore("names")
        await one.start("same", Diary())
        with pytest.raises(StateError, match="'same' is live on memory://names"):
            await two.start("same", Diary())
        with pytest.raises(StateError, match="is live"):
            await one.start("other", Diary())

    asyncio.run(run())


def test_a_listener_that_raises_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        one, broken, fine, diary = MemoryStore("raise"), MemoryStore("raise"), MemoryStore("raise"), Diary()
        await broken.start("broken", Diary(fails=True))
        await fine.start("fine", diary)
        await one.start("one", Diary())
        one.announce(A, InflightNumbers(1, 0, 0))
        await settle()
        assert diary.lines == ["inflight one 1"]

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        asyncio.run(run())
    assert "listener broke" in caplog.text


def test_a_store_that_closed_receives_nothing_more() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("deaf"), MemoryStore("deaf"), Diary()
        await one.start("one", Diary())
        await two.start("two", diary)
        one.announce(A, InflightNumbers(1, 0, 0))
        await asyncio.sleep(0)
        await two.aclose()
        diary.lines.clear()
        await settle()
        assert diary.lines == []

    asyncio.run(run())


def test_history_and_placements_are_bounded() -> None:
    async def run() -> None:
        one, late, diary = MemoryStore("bounds"), MemoryStore("bounds"), Diary()
        await one.start("one", Diary())
        for generation in range(POLICY_HISTORY + 5):
            await one.put_policy("a", PolicyRecord("p2c", {}), if_generation=generation)
        for block in range(PLACEMENTS + 5):
            one.placed(A, [block])
        await settle()
        assert [r.generation for r in await one.policy_history("a")] == list(range(POLICY_HISTORY + 5, 5, -1))
        await late.start("late", diary)
        assert diary.lines.count("placed 1") == PLACEMENTS

    asyncio.run(run())


def test_a_restart_is_sent_in_order_with_the_placements_and_to_replicas_that_start_later() -> None:
    async def run() -> None:
        one, two, late = MemoryStore("restart"), MemoryStore("restart"), MemoryStore("restart")
        diary, late_diary = Diary(), Diary()
        await two.start("two", diary)
        await one.start("one", Diary())
        one.placed(A, [1, 2])
        one.forgot(A)
        one.placed(A, [3])
        await settle()
        await late.start("late", late_diary)
        assert diary.lines == late_diary.lines == ["placed 2", "forgot", "placed 1"]

    asyncio.run(run())


def test_the_last_report_of_a_turn_is_sent_and_kept_for_replicas_that_start_later() -> None:
    async def run() -> None:
        one, two, late = MemoryStore("report"), MemoryStore("report"), MemoryStore("report")
        diary, late_diary = Diary(), Diary()
        await two.start("two", diary)
        await one.start("one", Diary())
        for queued in (1, 2):
            one.report(A, EngineReport(queued=queued))
        await settle()
        await late.start("late", late_diary)
        assert diary.lines == late_diary.lines == ["report 2"]

    asyncio.run(run())


def test_reports_are_kept_of_a_bounded_number_of_engines() -> None:
    async def run() -> None:
        one, late, diary = MemoryStore("reports"), MemoryStore("reports"), Diary()
        await one.start("one", Diary())
        for number in range(REPORTS + 2):
            one.report(PodId(f"p{number}"), EngineReport(queued=number))
        await settle()
        await late.start("late", diary)
        assert (len(diary.lines), diary.lines[0]) == (REPORTS, "report 2")

    asyncio.run(run())


def test_a_replica_that_starts_after_the_log_was_cut_gets_a_checkpoint_first() -> None:
    async def run() -> None:
        one, late, own, diary = MemoryStore("log"), MemoryStore("log"), Diary(), Diary()
        await one.start("one", own)
        own.pages = [PrefixPage(A, array("Q", range(1, PLACEMENTS + 2)).tobytes(), bytes(PLACEMENTS + 1))]
        for block in range(PLACEMENTS + 1):
            one.placed(A, [block + 1])
        await settle()
        await late.start("late", diary)
        assert diary.lines == [f"restored {PLACEMENTS + 1}"] + ["placed 1"] * PLACEMENTS

    asyncio.run(run())


def test_each_pod_has_one_scraper_among_the_live_and_another_when_it_leaves() -> None:
    async def run() -> None:
        stores = {name: MemoryStore("election") for name in ("one", "two", "three")}
        assert all(store.elected(A) for store in stores.values()), "no other replica is known yet"
        for name, store in stores.items():
            await store.start(name, Diary())
        pods = [PodId(f"p{number}") for number in range(60)]

        def scrapers(pod: PodId) -> list[str]:
            return [name for name, store in stores.items() if store.elected(pod)]

        before = {pod: scrapers(pod) for pod in pods}
        assert all(len(each) == 1 for each in before.values())
        assert {each[0] for each in before.values()} == set(stores)
        gone = stores.pop("two")
        await gone.aclose()
        assert gone.elected(A)
        for pod in pods:
            assert len(scrapers(pod)) == 1
            assert before[pod] == ["two"] or scrapers(pod) == before[pod], "no other replica's pods move"

    asyncio.run(run())


def test_a_store_is_healthy_from_start_to_close() -> None:
    async def run() -> None:
        store = MemoryStore("well")
        seen = [store.health()]
        await store.start("one", Diary())
        seen.append(store.health())
        await store.aclose()
        seen.append(store.health())
        assert [(each.connected, each.warm) for each in seen] == [(False, False), (True, True), (False, False)]

    asyncio.run(run())


def test_a_closed_store_sends_nothing_about_engines() -> None:
    async def run() -> None:
        one, two, diary = MemoryStore("mute"), MemoryStore("mute"), Diary()
        await two.start("two", diary)
        await one.start("one", Diary())
        await one.aclose()
        one.forgot(A)
        one.report(A, EngineReport(queued=1))
        await settle()
        assert diary.lines == ["gone one"]

    asyncio.run(run())


def test_a_hub_ends_with_its_last_store() -> None:
    async def run() -> None:
        one = MemoryStore("mortal")
        await one.start("one", Diary())
        await one.put_policy("a", PolicyRecord("p2c", {}), if_generation=None)
        await one.aclose()
        del one
        gc.collect()
        assert await MemoryStore("mortal").policy("a") is None

    asyncio.run(run())


def test_repr_has_the_state_of_a_store() -> None:
    async def run() -> None:
        store = MemoryStore("words")
        assert repr(store) == "<MemoryStore ? on <MemoryHub words: no store>, not started>"
        await store.start("one", Diary())
        assert repr(store) == "<MemoryStore one on <MemoryHub words: one>, serving>"

    asyncio.run(run())
