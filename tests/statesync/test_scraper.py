"""Scraping real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from loopback import Page, engine, refusing

from schedulers.types import Pod
from statesync.scraper import ScrapeConfig, ScrapeListener, Scraper, restarted
from statesync.types import EngineReport

VLLM = Page(body=(pathlib.Path(__file__).parents[1] / "data" / "metrics-vllm-0.32.txt").read_bytes())
QUICK = ScrapeConfig(interval_s=0.005, max_per_s=10_000.0)


def page(queries: int, started: float = 1.7e9) -> Page:
    text = (
        "vllm:num_requests_running 1\n"
        f"vllm:prefix_cache_queries_total {queries}\n"
        f"process_start_time_seconds {started}\n"
    )
    return Page(body=text.encode())


def models(*ids: str) -> Page:
    return Page(body=json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in ids]}).encode())


class Heard:
    """All that a scraper said, in order."""

    def __init__(self) -> None:
        self.log: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.listener = ScrapeListener(
            on_report=lambda pod, report: self.log.put_nowait(("report", report)),
            on_models=lambda pod, names: self.log.put_nowait(("models", names)),
            on_restart=lambda pod: self.log.put_nowait(("restart", pod)),
        )

    async def next(self, kind: str) -> object:
        """The next thing of this kind; others before it are passed over."""
        async with asyncio.timeout(10):
            while True:
                said, what = await self.log.get()
                if said == kind:
                    return what


@asynccontextmanager
async def scraping(heard: Heard, *pods: Pod, config: ScrapeConfig = QUICK) -> AsyncIterator[Scraper]:
    scraper = Scraper(config, heard.listener)
    scraper.set_pods("pool", pods)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scraper.run())
        try:
            yield scraper
        finally:
            running.cancel()


def test_a_pod_s_report_and_models_are_handed_on() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM, "/v1/models": models("tiny", "tiny-lora")}
            heard = Heard()
            async with scraping(heard, a.pod):
                report = await heard.next("report")
                assert isinstance(report, EngineReport)
                assert (report.running, report.kv_capacity_tokens) == (6, 1048576)
                assert await heard.next("models") == {"tiny", "tiny-lora"}
                await heard.next("report")
            assert a.asked["/v1/models"] == 1, "models are asked for at their own interval"
            assert a.headers["accept-encoding"] == "identity"

    asyncio.run(story())


def test_models_are_learned_from_a_pod_without_metrics_and_again_at_the_interval() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages["/v1/models"] = models("one")
            heard = Heard()
            config = ScrapeConfig(
                interval_s=0.005, max_per_s=10_000.0, models_interval_s=0.01, headers={"authorization": "Bearer k"}
            )
            async with scraping(heard, a.pod, config=config):
                assert await heard.next("models") == {"one"}
                a.pages["/v1/models"] = models("one", "two")
                while await heard.next("models") != {"one", "two"}:
                    pass
            assert a.headers["authorization"] == "Bearer k"

    asyncio.run(story())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 5}', b'{"data": [{"name": "x"}]}', b"\xff\xfe"])
def test_a_list_of_models_that_is_none_is_passed_over(body: bytes) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM, "/v1/models": Page(body=body)}
            heard = Heard()
            async with scraping(heard, a.pod) as scraper:
                await a.until(lambda: a.asked["/v1/models"] > 0)
                await heard.next("report")
                await heard.next("report")
            assert scraper.failures_total == 1
            assert a.asked["/v1/models"] == 1, "not asked for with every scrape"

    asyncio.run(story())


def test_a_failure_is_said_once_counted_each_time_and_hands_on_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM, "/v1/models": models("m")}
            heard = Heard()
            async with scraping(heard, a.pod) as scraper:
                await heard.next("report")
                a.pages["/metrics"] = Page(500)
                asked = a.asked["/metrics"]
                await a.until(lambda: a.asked["/metrics"] > asked + 4)
                assert scraper.failures_total >= 3
                a.pages["/metrics"] = VLLM
                while not heard.log.empty():
                    heard.log.get_nowait()
                await heard.next("report")

    with caplog.at_level(logging.INFO, "turnout.scraper"):
        asyncio.run(story())
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert said == ["cannot read /metrics: status 500", "/metrics can be read again"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (Page(body=b"<html>hello</html>"), "no metrics of an engine known here"),
        (Page(body=VLLM.body, hang=True), "TimeoutError"),
        (Page(404), "status 404"),
    ],
    ids=["no metrics", "stalls half way", "404"],
)
def test_a_page_that_cannot_be_used_says_why(wrong: Page, word: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": wrong, "/v1/models": models("m")}
            heard = Heard()
            async with scraping(heard, a.pod, config=ScrapeConfig(timeout_s=0.1)):
                await heard.next("models")
            assert heard.log.empty()

    with caplog.at_level(logging.WARNING, "turnout.scraper"):
        asyncio.run(story())
    assert word in caplog.text


def test_a_pod_that_refuses_connections_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": VLLM, "/v1/models": models("m")}
            heard = Heard()
            async with scraping(heard, refusing(), a.pod):
                await heard.next("report")

    asyncio.run(story())


def test_a_restart_is_said_before_the_new_process_s_report_and_asks_for_models_anew() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": page(100), "/v1/models": models("old")}
            heard = Heard()
            async with scraping(heard, a.pod):
                assert await heard.next("models") == {"old"}
                a.pages = {"/metrics": page(100, started=1.8e9), "/v1/models": models("new")}
                assert await heard.next("restart") == a.pod.id
                said, report = await heard.log.get()
                assert said == "report"
                assert isinstance(report, EngineReport)
                assert report.started_at == 1.8e9
                assert await heard.next("models") == {"new"}

    asyncio.run(story())


def test_a_restart_while_the_page_could_not_be_read_is_noticed_afterwards() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages["/metrics"] = page(100)
            heard = Heard()
            async with scraping(heard, a.pod):
                await heard.next("report")
                a.pages["/metrics"] = Page(502)
                asked = a.asked["/metrics"]
                await a.until(lambda: a.asked["/metrics"] > asked + 1)
                a.pages["/metrics"] = page(3)
                assert await heard.next("restart") == a.pod.id

    asyncio.run(story())


def test_a_pod_that_leaves_and_comes_back_is_a_stranger() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages = {"/metrics": page(100), "/v1/models": models("m")}
            heard = Heard()
            async with scraping(heard, a.pod) as scraper:
                await heard.next("models")
                scraper.set_pods("pool", [])
                a.pages["/metrics"] = page(1)
                while not heard.log.empty():
                    heard.log.get_nowait()
                scraper.set_pods("pool", [a.pod])
                assert (await heard.log.get())[0] == "report", "and no restart"
                assert await heard.next("models") == {"m"}

    asyncio.run(story())


@pytest.mark.parametrize(
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
def test_two_reports_tell_a_restart(before: EngineReport, after: EngineReport, expected: bool) -> None:
    assert restarted(before, after) is expected
