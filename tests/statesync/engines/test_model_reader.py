"""Lists of models, read from real servers on loopback: by turns, on demand, and corrected by refusals."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from schedulers.types import Pod, PodId
from statesync.engines.access import PLAIN, Accesses, PoolAccess, fixed_key
from statesync.engines.model_list import ModelCards
from statesync.engines.model_reader import (
    DOUBT_S,
    LOOK_LIMIT_S,
    OWN_READ_S,
    RETRY_S,
    TRUSTED,
    LookWaiter,
    ModelReader,
)
from statesync.settings import Scrape
from statesync.store.memory import MemoryStore
from tests.fakes.engine_pages import Engine, Page, engine, refusing
from tests.fakes.virtual_time import RunningClock, run_on
from tests.fakes.waiting import DEADLINE_S
from tests.fakes.whole_pools import set_pods

PATH = "/v1/models"
QUICK = Scrape(models_interval_s=0.005, timeout_s=60.0)
MOST_PER_S = 10_000.0
RARE = replace(QUICK, models_interval_s=1e6)
"""Reads by turns only once."""


def models(*ids: str, **fields: object) -> Page:
    return Page(body=json.dumps({"object": "list", "data": [{"id": name, **fields} for name in ids]}).encode())


def waiter(note: Callable[[bool], None], *, done: bool = False) -> LookWaiter:
    """Notes its calls; says `done` to each."""

    def call(last: bool) -> bool:
        note(last)
        return done

    return call


class Shared(MemoryStore):
    """Stands for the store."""

    def __init__(self, *, elected: bool = True) -> None:
        super().__init__()
        self.is_elected = elected
        self.sent: list[PodId] = []
        self.pages: dict[PodId, bytes] = {}

    def elected(self, pod: PodId, /) -> bool:
        return self.is_elected

    def models_changed(self, pod: PodId, /) -> None:
        self.sent.append(pod)

    def listed(self, pod: PodId, page: bytes, /) -> None:
        self.pages[pod] = page


class Reading:
    """A reader, what it handed on, and its clock, which a test may put forward."""

    def __init__(self, config: Scrape = QUICK, *, elected: bool = True, access: PoolAccess = PLAIN) -> None:
        self.clock = RunningClock()
        self.shared = Shared(elected=elected)
        self.lists: asyncio.Queue[tuple[PodId, ModelCards | None]] = asyncio.Queue()
        accesses = Accesses({"pool": access})

        def on_models(pod: PodId, cards: ModelCards | None) -> None:
            self.lists.put_nowait((pod, cards))

        self.reader = ModelReader(config, on_models, self.shared, accesses, max_per_s=MOST_PER_S, clock=self.clock)

    @asynccontextmanager
    async def of(self, *pods: Pod) -> AsyncIterator[ModelReader]:
        set_pods(self.reader, "pool", pods)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            running = group.create_task(self.reader.run())
            try:
                yield self.reader
            finally:
                running.cancel()

    async def next(self) -> set[str] | None:
        """The ids of the next list that was handed on; None for a pod without one."""
        _, cards = await self.lists.get()
        return None if cards is None else set(cards)

    async def read_again(self, a: Engine, times: int = 2) -> None:
        """Wait until the page was read so often, so that at least one reading began after the call and has ended."""
        asked = a.asked[PATH]
        await a.until(lambda: a.asked[PATH] >= asked + times)


def test_lists_that_other_replicas_have_read_stand_for_first_readings_until_the_pods_turn() -> None:
    """Case I 51: of a list, of a pod without one, and of one that cannot be parsed."""
    reading = Reading(RARE, elected=False)

    async def story() -> None:
        async with engine() as a, engine() as b, engine() as c:
            c.pages[PATH] = models("own")
            set_pods(reading.reader, "pool", [a.pod, b.pod, c.pod])
            pages = {a.pod.id: models("m", "n").body, b.pod.id: b"", c.pod.id: b"{", PodId("gone"): b""}
            reading.reader.read_elsewhere(pages)
            found = dict(reading.lists.get_nowait() for _ in range(2))
            assert {pod: cards and set(cards) for pod, cards in found.items()} == {a.pod.id: {"m", "n"}, b.pod.id: None}
            async with reading.of(a.pod, b.pod, c.pod) as reader:
                await reader.first_round()
                assert await reading.next() == {"own"}
                assert (a.asked[PATH], b.asked[PATH], c.asked[PATH]) == (0, 0, 1)
                reader.read_elsewhere({c.pod.id: models("other").body})
                assert reading.lists.empty(), "its own reading counts"
                assert set(reading.shared.pages) == {a.pod.id, b.pod.id, c.pod.id}
                a.pages[PATH] = models("m")
                reader.changed_elsewhere(a.pod.id)
                assert await reading.next() == {"m"}

    run_on(reading.clock, story())


def test_a_list_is_handed_on_with_all_fields_and_again_only_when_it_changes() -> None:
    """Case A 3: with the pool's key, where it has one."""
    reading = Reading(access=PoolAccess(key=fixed_key("k")))

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("base", max_model_len=9, odd=[1])
            async with reading.of(a.pod):
                pod, cards = await reading.lists.get()
                assert cards is not None
                assert (pod, cards["base"].fields) == (a.pod.id, {"id": "base", "max_model_len": 9, "odd": [1]})
                await reading.read_again(a)
                assert reading.lists.empty()
                assert reading.shared.sent == [], "every replica reads a new pod for itself"
                a.pages[PATH] = models("base", "lora")
                assert await reading.next() == {"base", "lora"}
                a.pages[PATH] = models("base")
                assert await reading.next() == {"base"}
                await reading.read_again(a)
                assert reading.shared.sent == [a.pod.id] * 2
            assert a.headers["authorization"] == "Bearer k"
            assert "1 of 1 pods list" in repr(reading.reader)

    run_on(reading.clock, story())


@pytest.mark.parametrize(
    "page",
    [Page(404), Page(405), Page(401), Page(body=b"<html>"), Page(body=b'{"data": [{"name": "x"}]}')],
    ids=["404", "405", "401", "html", "no ids"],
)
def test_a_pod_that_answers_without_a_list_is_handed_on_as_such_once_and_logged_once(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading()

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = page
            async with reading.of(a.pod):
                assert await reading.next() is None
                reading.clock.now += RETRY_S
                await a.until(lambda: a.asked[PATH] > 1)
                set_pods(reading.reader, "pool", [a.pod._replace(models=frozenset({"label"}))])
                assert await reading.next() is None, "discovery may name other models"
                a.pages[PATH] = models("m")
                reading.clock.now += RETRY_S
                assert await reading.next() == {"m"}

    with caplog.at_level(logging.INFO, "turnout.models"):
        run_on(reading.clock, story())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "cannot read its models at /v1/models" in caplog.text


def test_a_list_outlasts_errors_but_not_the_answer_that_there_is_none() -> None:
    reading = Reading()

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("m")
            async with reading.of(refusing(), a.pod):
                assert await reading.next() == {"m"}
                for trouble in (Page(503), Page(body=b"[]")):
                    a.pages[PATH] = trouble
                    asked = a.asked[PATH]
                    reading.clock.now += RETRY_S
                    await a.until(lambda asked=asked: a.asked[PATH] > asked)  # type: ignore[misc]
                a.pages[PATH] = Page(404)
                reading.clock.now += RETRY_S
                assert await reading.next() is None

    run_on(reading.clock, story())


def test_a_replica_that_is_not_elected_reads_a_new_pod_then_on_a_message_and_rarely() -> None:
    reading = Reading(elected=False)

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("m")
            async with reading.of(a.pod) as reader:
                assert await reading.next() == {"m"}
                a.pages[PATH] = models("m", "n")
                reader.changed_elsewhere(PodId("stranger"))
                reader.changed_elsewhere(a.pod.id)
                assert await reading.next() == {"m", "n"}
                assert reading.shared.sent == [], "what came by a message is not sent on"
                a.pages[PATH] = models("o")
                reading.clock.now += OWN_READ_S
                assert await reading.next() == {"o"}
                assert a.asked[PATH] == 3

    run_on(reading.clock, story())


def test_a_restarted_engine_s_list_is_read_at_once_and_its_cards_are_compared() -> None:
    reading = Reading(RARE)

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("m", max_model_len=1)
            async with reading.of(a.pod) as reader:
                assert await reading.next() == {"m"}
                a.pages[PATH] = models("m", max_model_len=2)
                reader.restarted(PodId("stranger"))
                reader.restarted(a.pod.id)
                _, cards = await reading.lists.get()
                assert cards is not None
                assert cards["m"].fields["max_model_len"] == 2

    run_on(reading.clock, story())


def test_a_refused_model_leaves_at_once_and_a_pod_that_lists_it_all_the_same_is_doubted_longer_and_longer() -> None:
    reading = Reading()

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("base", "lora")
            async with reading.of(a.pod) as reader:
                assert await reading.next() == {"base", "lora"}
                for wait_s in (*(0.0,) * TRUSTED, DOUBT_S, 2 * DOUBT_S):
                    reader.refused(a.pod.id, "lora")
                    reader.refused(a.pod.id, "lora")
                    assert reading.lists.get_nowait() == (a.pod.id, reading_of(reading, "base"))
                    if wait_s:
                        await reading.read_again(a)
                        assert reading.lists.empty(), "its list does not count for the model for a while"
                        reading.clock.now += wait_s
                    assert await reading.next() == {"base", "lora"}
                reader.refused(a.pod.id, "never-listed")
                reader.refused(PodId("stranger"), "lora")
                assert reading.lists.empty()

    run_on(reading.clock, story())


def reading_of(reading: Reading, *ids: str) -> object:
    """Equal to cards with these ids."""

    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, dict) and set(other) == set(ids)

        __hash__ = None  # type: ignore[assignment]

    return Same()


def test_a_refused_model_that_was_unloaded_is_back_as_soon_as_it_is_listed_again() -> None:
    reading = Reading()

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("base", "lora")
            async with reading.of(a.pod) as reader:
                await reading.next()
                a.pages[PATH] = models("base")
                reader.refused(a.pod.id, "lora")
                assert await reading.next() == {"base"}
                await reading.read_again(a)
                a.pages[PATH] = models("base", "lora")
                while await reading.next() != {"base", "lora"}:
                    pass

    run_on(reading.clock, story())


def test_a_look_reads_every_list_calls_its_waiters_and_is_bounded_in_rate() -> None:
    reading = Reading(RARE)

    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages[PATH] = b.pages[PATH] = models("base")
            async with reading.of(a.pod, b.pod, refusing()) as reader:
                assert [await reading.next(), await reading.next()] == [{"base"}] * 2
                b.pages[PATH] = models("base", "lora")
                ended: asyncio.Queue[bool] = asyncio.Queue()
                early: list[bool] = []
                assert reader.look_again(waiter(early.append, done=True), patient=False)
                assert reader.look_again(waiter(ended.put_nowait), patient=False)
                assert await ended.get() is False
                assert await ended.get() is True
                assert (early, await reading.next()) == ([False], {"base", "lora"})
                assert (a.asked[PATH], b.asked[PATH]) == (2, 2)
                assert not reader.look_again(lambda last: True, patient=False), "a moment ago"
                for _ in range(2):
                    assert reader.look_again(waiter(ended.put_nowait), patient=True), "in a moment"
                reading.clock.now += 1.0
                assert [await ended.get(), await ended.get()] == [True, True]
                assert (a.asked[PATH], b.asked[PATH]) == (3, 3)

    run_on(reading.clock, story())


def test_who_comes_during_a_look_gets_the_answer_of_the_next() -> None:
    reading = Reading(RARE)

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("base")
            async with reading.of(a.pod) as reader:
                await reading.next()
                a.pages[PATH] = Page(silent=True)
                first: asyncio.Queue[bool] = asyncio.Queue()
                second: asyncio.Queue[bool] = asyncio.Queue()
                assert reader.look_again(waiter(first.put_nowait), patient=True)
                await a.until(lambda: a.asked[PATH] == 2)
                assert reader.look_again(waiter(second.put_nowait), patient=True)
                a.pages[PATH] = models("base", "lora")
                reading.clock.now += LOOK_LIMIT_S
                assert await first.get() is True
                reading.clock.now += 1.0
                assert [await second.get(), await second.get()] == [False, True]

    run_on(reading.clock, story())


def test_a_look_waits_for_no_pod_that_is_silent() -> None:
    reading = Reading(RARE)

    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages[PATH] = b.pages[PATH] = models("base")
            async with reading.of(a.pod, b.pod) as reader:
                assert [await reading.next(), await reading.next()] == [{"base"}] * 2
                b.pages[PATH] = Page(silent=True)
                ended: asyncio.Queue[bool] = asyncio.Queue()
                assert reader.look_again(waiter(ended.put_nowait), patient=False)
                await b.until(lambda: b.asked[PATH] == 2)
                reading.clock.now += LOOK_LIMIT_S
                assert await ended.get() is True

    run_on(reading.clock, story())


def test_a_pod_that_left_is_not_read_and_without_pods_there_is_nothing_to_look_at() -> None:
    reading = Reading()

    async def story() -> None:
        async with engine() as a:
            a.pages[PATH] = models("m")
            async with reading.of(a.pod) as reader:
                await reading.next()
                set_pods(reader, "pool", [])
                assert not reader.look_again(lambda last: True, patient=True)
                set_pods(reader, "pool", [a.pod])
                assert await reading.next() == {"m"}, "a pod that comes back is a new one"

    run_on(reading.clock, story())
