"""Scraping real servers on loopback."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pathlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import ranks_of
from statesync.engines.access import NO_ACCESSES, Accesses, PoolAccess
from statesync.engines.scraper import ABSENT_S, ScrapeListener, Scraper, restarted
from statesync.settings import Scrape
from statesync.store.memory import MemoryStore
from statesync.store.protocol import StateStore
from statesync.types import EngineReport, PrefixPage
from tests.fakes.each_case import each_case
from tests.fakes.engine_pages import Page, engine, refusing
from tests.fakes.virtual_time import Clock, RunningClock, run_on
from tests.fakes.waiting import DEADLINE_S
from tests.fakes.whole_pools import set_pods

VLLM = Page(body=(pathlib.Path(__file__).parents[2] / "data" / "metrics-vllm-0.32.txt").read_bytes())
TIMEOUT_S = 60.0
QUICK = Scrape(interval_s=0.005, max_per_s=10_000.0, timeout_s=TIMEOUT_S)
"""Reads repeatedly. No read times out, also on a busy machine."""
SLOW = replace(QUICK, interval_s=1e6)
"""Reads once."""


def page(queries: int, started: float = 1.7e9) -> Page:
    text = (
        "vllm:num_requests_running 1\n"
        f"vllm:prefix_cache_queries_total {queries}\n"
        f"process_start_time_seconds {started}\n"
    )
    return Page(body=text.encode())


class Events:
    """All that a scraper handed on, in order."""

    def __init__(self) -> None:
        self.log: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.listener = ScrapeListener(
            on_report=lambda pod, report, age_s: self.log.put_nowait(("report", report)),
            on_restart=lambda pod: self.log.put_nowait(("restart", pod)),
        )

    async def next(self, kind: str) -> object:
        """The next entry of this kind; others before it are skipped."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found, what = await self.log.get()
                if found == kind:
                    return what


async def read_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until a page could not be read."""
    async with asyncio.timeout(DEADLINE_S):
        while not any(words in caplog.text for words in ("cannot read", "no metrics (")):  # noqa: ASYNC110  a log line has no event
            await asyncio.sleep(0)


@asynccontextmanager
async def scraping(
    events: Events,
    *pods: Pod,
    config: Scrape = QUICK,
    absent_s: float = ABSENT_S,
    shared: StateStore | None = None,
    accesses: Accesses = NO_ACCESSES,
) -> AsyncIterator[Scraper]:
    scraper = Scraper(config, events.listener, shared or MemoryStore(), accesses, absent_s=absent_s)
    set_pods(scraper, "pool", pods)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scraper.run())
        try:
            yield scraper
        finally:
            running.cancel()


def test_a_pod_s_report_is_handed_on() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM}
            events = Events()
            async with scraping(events, a.pod):
                report = await events.next("report")
                assert isinstance(report, EngineReport)
                assert (report.running, report.kv_capacity_tokens) == (6, 1048576)
                await events.next("report")
            assert a.headers["accept-encoding"] == "identity"

    asyncio.run(story())


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_pod_without_metrics_is_asked_seldom_and_counted_as_no_failure(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Case D 18."""

    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages = b.pages = {"/metrics": Page(status), "/prometheus/metrics": Page(status)}
            async with engine() as metered:
                metered.pages["/metrics"] = VLLM
                events = Events()
                async with scraping(events, a.pod, b.pod, metered.pod) as scraper:
                    await a.until(lambda: a.asked["/prometheus/metrics"] == 1)
                    await b.until(lambda: b.asked["/prometheus/metrics"] == 1)
                    for _ in range(5):
                        await events.next("report")
                    assert scraper.failures_total == 0
            assert a.asked == b.asked == {"/metrics": 1, "/prometheus/metrics": 1}

    with caplog.at_level(logging.WARNING, "turnout.scraper"):
        asyncio.run(story())
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"/metrics: status {status}" in said
    assert "its queue is estimated; set `engine`, or upstream.metrics_path" in said


def test_metrics_are_found_where_the_engine_has_them_and_asked_there_from_then_on() -> None:
    """Case D 18: trtllm-serve has JSON under /metrics."""

    async def story() -> None:
        async with engine() as a:
            trtllm = Page(body=b"trtllm_num_requests_waiting 3\n")
            a.pages = {"/metrics": Page(body=b"[]"), "/prometheus/metrics": trtllm}
            events = Events()
            async with scraping(events, a.pod):
                for _ in range(3):
                    assert await events.next("report") == EngineReport(queued=3)
            assert a.asked["/metrics"] == 1

    asyncio.run(story())


def test_a_pod_with_an_empty_metrics_page_is_asked_for_no_other() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": Page(body=b""), "/prometheus/metrics": VLLM}
            async with scraping(Events(), a.pod, absent_s=0.01):
                await a.until(lambda: a.asked["/metrics"] > 2)
            assert a.asked["/prometheus/metrics"] == 0

    asyncio.run(story())


def test_metrics_that_appear_later_are_found() -> None:
    async def story() -> None:
        async with engine() as a:
            events = Events()
            async with scraping(events, a.pod, absent_s=0.01):
                await a.until(lambda: a.asked["/metrics"] > 0)
                a.pages["/metrics"] = VLLM
                await events.next("report")

    asyncio.run(story())


def test_an_engine_without_metrics_is_not_asked_for_them() -> None:
    async def story() -> None:
        async with engine() as a, engine() as metered:
            metered.pages["/metrics"] = VLLM
            events = Events()
            scraper = Scraper(QUICK, events.listener, MemoryStore(), Accesses({"none": PoolAccess("ollama")}))
            set_pods(scraper, "none", [a.pod])
            set_pods(scraper, "pool", [metered.pod])
            async with asyncio.TaskGroup() as group:
                running = group.create_task(scraper.run())
                for _ in range(5):
                    await events.next("report")
                running.cancel()
            assert not a.asked

    asyncio.run(story())


def test_metrics_are_read_from_another_port_where_the_setting_says_so() -> None:
    """Case D 18: Triton and Ray have theirs beside the API."""

    async def story() -> None:
        async with engine() as a, engine() as beside:
            beside.pages["/metrics"] = Page(body=b'nv_inference_pending_request_count{model="m"} 4\n')
            port = beside.pod.address.rpartition(":")[2]
            events, accesses = Events(), Accesses({"pool": PoolAccess("triton", metrics=f":{port}/metrics")})
            pod = Pod(PodId("a"), f"http://{a.pod.address}/base")
            async with scraping(events, pod, accesses=accesses):
                assert await events.next("report") == EngineReport(queued=4)
            assert not a.asked

    asyncio.run(story())


def test_a_failure_is_logged_once_counted_each_time_and_hands_on_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM}
            events = Events()
            async with scraping(events, a.pod) as scraper:
                await events.next("report")
                a.pages["/metrics"] = Page(500)
                asked = a.asked["/metrics"]
                await a.until(lambda: a.asked["/metrics"] > asked + 4)
                assert scraper.failures_total >= 3
                a.pages["/metrics"] = VLLM
                while not events.log.empty():
                    events.log.get_nowait()
                await events.next("report")

    with caplog.at_level(logging.INFO, "turnout.scraper"):
        asyncio.run(story())
    messages = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    found = "/metrics is of engine vllm; to say so, set engine: vllm of pool pool"
    assert messages == [found, "cannot read /metrics: status 500", "/metrics can be read again"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (Page(body=b"<html>hello</html>"), "no metrics of an engine known here"),
        (Page(body=VLLM.body, hang=True), "TimeoutError"),
        (Page(404), "status 404"),
    ],
    ids=["no metrics", "stalls half way", "404"],
)
def test_an_unusable_page_is_logged_with_the_reason(wrong: Page, word: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = RunningClock()

    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": wrong}
            events = Events()
            async with scraping(events, a.pod, config=SLOW):
                await a.until(lambda: a.asked["/metrics"] == 1)
                if wrong.hang:
                    clock.now += TIMEOUT_S
                await read_failed(caplog)
            assert events.log.empty()

    with caplog.at_level(logging.WARNING, "turnout.scraper"):
        run_on(clock, story())
    assert word in caplog.text


def test_a_pod_that_refuses_connections_delays_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM}
            events = Events()
            async with scraping(events, refusing(), a.pod):
                await events.next("report")

    asyncio.run(story())


def test_a_restart_is_handed_on_before_the_new_process_s_report() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": page(100)}
            events = Events()
            async with scraping(events, a.pod):
                await events.next("report")
                a.pages = {"/metrics": page(100, started=1.8e9)}
                assert await events.next("restart") == a.pod.id
                kind, report = await events.log.get()
                assert kind == "report"
                assert isinstance(report, EngineReport)
                assert report.started_at == 1.8e9

    asyncio.run(story())


def test_a_restart_while_the_page_could_not_be_read_is_noticed_afterwards() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages["/metrics"] = page(100)
            events = Events()
            async with scraping(events, a.pod):
                await events.next("report")
                a.pages["/metrics"] = Page(502)
                asked = a.asked["/metrics"]
                await a.until(lambda: a.asked["/metrics"] > asked + 1)
                a.pages["/metrics"] = page(3)
                assert await events.next("restart") == a.pod.id

    asyncio.run(story())


def test_a_pod_that_leaves_and_comes_back_starts_over() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": page(100)}
            events = Events()
            async with scraping(events, a.pod) as scraper:
                await events.next("report")
                set_pods(scraper, "pool", [])
                a.pages["/metrics"] = page(1)
                while not events.log.empty():
                    events.log.get_nowait()
                set_pods(scraper, "pool", [a.pod])
                assert (await events.log.get())[0] == "report", "and no restart"

    asyncio.run(story())


# Several replicas


class Twin:
    """The scraping part of a replica: a store, and a scraper that gets what the store receives."""

    def __init__(self, hub: str) -> None:
        self.store = MemoryStore(hub)
        self.events = Events()
        self.scraper: Scraper | None = None
        self.received = asyncio.Queue[str]()

    def replica_inflight(self, *_: object) -> None: ...

    def replica_gone(self, *_: object) -> None: ...

    def placed_elsewhere(self, *_: object) -> None: ...

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        self.received.put_nowait("forgotten")
        if self.scraper is not None:
            self.scraper.forgotten_elsewhere(pod)

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        self.received.put_nowait("report")
        if self.scraper is not None:
            self.scraper.reported_elsewhere(pod, report, age_s)

    def policy_changed(self, *_: object) -> None: ...

    def models_changed_elsewhere(self, *_: object) -> None: ...
    def pods_elsewhere(self, *_: object) -> None: ...
    def served_elsewhere(self, *_: object) -> None: ...

    def checkpoint(self) -> Iterable[PrefixPage]:
        return ()

    def restored(self, *_: object) -> None: ...


async def twins(hub: str, pod: Pod) -> tuple[Twin, Twin]:
    """Two started replicas; the first is elected for the pod."""
    hub = f"scraper: {hub}"  # a process has one hub of a name, and other tests use short names
    each = Twin(hub), Twin(hub)
    await each[0].store.start("one", each[0])
    await each[1].store.start("two", each[1])
    return each if each[0].store.elected(pod.id) else each[::-1]


def test_one_replica_reads_a_pod_s_metrics_and_both_hand_them_on() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM}
            mine, other = await twins("one reads", a.pod)
            async with scraping(other.events, a.pod, config=SLOW, shared=other.store) as other.scraper:
                async with scraping(mine.events, a.pod, config=SLOW, shared=mine.store) as mine.scraper:
                    for twin in (mine, other):
                        assert await twin.events.next("report")
                    assert mine.scraper.pods_read_here == 1
                    assert other.scraper.pods_read_here == 0

    asyncio.run(story())


def test_a_pod_without_reports_is_read_by_every_replica_that_misses_them() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM}
            mine, other = await twins("silent", a.pod)
            async with scraping(other.events, a.pod, shared=other.store) as other.scraper:
                await other.events.next("report")
                assert await mine.received.get() == "report", "the elected replica gets it as well"

    asyncio.run(story())


def test_a_restart_is_sent_to_the_other_replica_which_does_not_detect_it_again() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": page(100)}
            mine, other = await twins("restart", a.pod)
            other.scraper = Scraper(QUICK, other.events.listener, other.store)
            set_pods(other.scraper, "pool", [a.pod])
            async with scraping(mine.events, a.pod, shared=mine.store) as mine.scraper:
                await other.events.next("report")
                a.pages["/metrics"] = page(100, started=1.8e9)
                assert await mine.events.next("restart") == a.pod.id
                while await other.received.get() != "forgotten":
                    pass
                while (await other.received.get(), other.events.log.qsize())[1] == 0:
                    pass
            kinds = [other.events.log.get_nowait()[0] for _ in range(other.events.log.qsize())]
            assert set(kinds) == {"report"}

    asyncio.run(story())


class Scene:
    """A scraper that only receives reports of other replicas; only the test moves its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pod = Pod(PodId("a"), "a")
        self.handed_on: list[object] = []
        listener = ScrapeListener(
            on_report=lambda pod, report, age_s: self.handed_on.append((report.prefix_queries_tokens, age_s)),
            on_restart=lambda pod: self.handed_on.append("restart"),
        )
        self.scraper = Scraper(Scrape(), listener, MemoryStore(), clock=self.clock)
        set_pods(self.scraper, "pool", [self.pod])

    def reported(self, queries: int, age_s: float = 0.0, started: float | None = None, after_s: float = 1.0) -> None:
        self.clock.now += after_s
        report = EngineReport(prefix_queries_tokens=queries, started_at=started)
        self.scraper.reported_elsewhere(self.pod.id, report, age_s)


def test_a_report_older_than_the_pod_here_counts_and_later_only_newer_ones() -> None:
    scene = Scene()
    scene.reported(100, age_s=30.0)
    scene.reported(110, age_s=0.5)
    scene.reported(105, age_s=5.0)
    scene.scraper.reported_elsewhere(PodId("stranger"), EngineReport(), 0.0)
    assert scene.handed_on == [(100, 30.0), (110, 0.5)]


def test_a_restart_in_another_replica_s_report_is_handed_on_here() -> None:
    scene = Scene()
    scene.reported(100, started=1.7e9)
    scene.reported(2, started=1.8e9)
    assert scene.handed_on == [(100, 0.0), "restart", (2, 0.0)]


def test_a_falling_counter_is_a_restart_only_after_a_gap() -> None:
    scene = Scene()
    scene.reported(100)
    scene.reported(98, after_s=0.1)
    assert scene.handed_on == [(100, 0.0), (98, 0.0)]
    scene.reported(3, after_s=10.0)
    assert scene.handed_on[2:] == ["restart", (3, 0.0)]


def test_a_restart_that_was_received_is_not_detected_again() -> None:
    scene = Scene()
    scene.reported(100, started=1.7e9)
    scene.scraper.forgotten_elsewhere(scene.pod.id)
    scene.scraper.forgotten_elsewhere(PodId("stranger"))
    scene.reported(2, started=1.8e9)
    assert scene.handed_on == [(100, 0.0), (2, 0.0)]


def test_a_page_older_than_another_replica_s_report_is_skipped() -> None:
    async def story() -> None:
        asked, may_answer = asyncio.Event(), asyncio.Event()
        pages = itertools.chain([page(90).body], itertools.repeat(page(110).body))

        async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await may_answer.wait()
            body = next(pages)
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            writer.close()

        config = QUICK
        async with stream_server(slowly) as port:
            events, pod = Events(), Pod(PodId(f"{HOST}:{port}"), f"{HOST}:{port}")
            async with scraping(events, pod, config=config) as scraper:
                await asked.wait()
                scraper.reported_elsewhere(pod.id, EngineReport(prefix_queries_tokens=100), 0.0)
                may_answer.set()
                counts = []
                while 110 not in counts:
                    report = await events.next("report")
                    assert isinstance(report, EngineReport)
                    counts.append(report.prefix_queries_tokens)
        assert counts == [100, 110]

    asyncio.run(story())


@each_case(
    ("before", "after", "expected"),
    [
        (EngineReport(), EngineReport(started_at=5.0), False),
        (EngineReport(started_at=5.0), EngineReport(), False),
        (EngineReport(started_at=5.0), EngineReport(started_at=5.4), False),
        (EngineReport(started_at=5.0), EngineReport(started_at=9.0), True),
        (EngineReport(prefix_queries_tokens=5), EngineReport(prefix_queries_tokens=5), False),
        (EngineReport(prefix_queries_tokens=5), EngineReport(prefix_queries_tokens=4), True),
        (EngineReport(prefix_hits_tokens=5), EngineReport(prefix_hits_tokens=0), True),
        (EngineReport(prefix_hits_tokens=5), EngineReport(prefix_hits_tokens=None), False),
        (EngineReport(started_at=5.0, prefix_hits_tokens=5), EngineReport(started_at=5.0, prefix_hits_tokens=4), True),
    ],
)
def test_two_reports_show_a_restart(before: EngineReport, after: EngineReport, expected: bool) -> None:
    assert restarted(before, after) is expected


def test_one_page_is_read_for_all_ranks_of_a_process() -> None:
    body = b'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} 5\n'

    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": Page(body=body)}
            found: dict[PodId, int | None] = {}
            read = asyncio.Event()

            def on_report(pod: PodId, report: EngineReport, age_s: float) -> None:
                found[pod] = report.running
                if len(found) == 2:
                    read.set()

            listener = ScrapeListener(on_report, lambda pod: None)
            scraper = Scraper(SLOW, listener, MemoryStore())
            set_pods(scraper, "pool", ranks_of(a.pod, 2))
            async with asyncio.TaskGroup() as group:
                running = group.create_task(scraper.run())
                await asyncio.wait_for(read.wait(), DEADLINE_S)
                running.cancel()
            assert found == {f"{a.pod.id}@0": 3, f"{a.pod.id}@1": 5}
            assert (a.asked["/metrics"], scraper.pods_read_here) == (1, 1)

    asyncio.run(story())
