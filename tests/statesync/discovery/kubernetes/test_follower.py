"""One collection followed: what is asked, what is handed on, and that nothing ends it but cancelling."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from statesync.discovery.kubernetes.client import Access, ApiServer
from statesync.discovery.kubernetes.follower import PAGE, Follower, ResourceKind
from statesync.discovery.kubernetes.pod_objects import decode_pod
from statesync.discovery.kubernetes.watch import Item, ListWatch
from tests.fakes.kube_api import PODS, KubeApi, kube_api
from tests.fakes.kube_objects import kubeconfig, pod_object
from tests.fakes.kube_pod_source import Passing

KIND = "/api/v1/namespaces/{}/pods"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that this machine may have does not reach 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def read(raw: msgspec.Raw) -> Item[str]:
    meta = decode_pod(raw).metadata
    if meta.name == "trap":
        raise RuntimeError("nobody thought of this")
    return Item(meta.uid, meta.resource_version, meta.name)


class Road(Passing):
    """A follower of pods' names on its way, and the server."""

    def __init__(self, api: KubeApi, server: ApiServer) -> None:
        super().__init__(api, followers=1)
        self.changes = 0
        self.follower = Follower(
            "llm",
            ResourceKind(KIND, "/api/v1/pods", "app=vllm", read),
            server,
            ListWatch[str](300.0, lambda: 0.5),
            on_change=self._changed,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def _changed(self) -> None:
        self.changes += 1

    async def until(self, met: Callable[[], bool], *, each_s: float = 0.1) -> None:
        await super().until(met, each_s=each_s)

    def __repr__(self) -> str:
        return f"it knows {list(self.follower.known.values())}"

    async def knows(self, *names: str) -> None:
        known = self.follower.known
        await self.until(lambda: known.synced and sorted(known.values()) == sorted(names))


@asynccontextmanager
async def road(tmp_path: Path, *names: str, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Road]:
    async with kube_api() as api:
        for name in names:
            api.put(PODS, pod_object(name))
        file = tmp_path / "kubeconfig"
        await asyncio.to_thread(file.write_text, json.dumps(settings or kubeconfig(api)))
        made = Road(api, ApiServer(Access(str(file)), quiet_s=30.0))
        running = asyncio.get_running_loop().create_task(made.follower.run())
        try:
            yield made
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def test_a_list_comes_in_pages_and_is_reported_once(tmp_path: Path) -> None:
    names = [f"v-{at}" for at in range(PAGE + 1)]

    async def main() -> None:
        async with road(tmp_path, *names) as here:
            await here.knows(*names)
            assert here.api.queries[0]["limit"] == str(PAGE)
            assert here.api.queries[0]["labelSelector"] == "app=vllm"
            assert "resourceVersion" not in here.api.queries[0], "a list from a cache may bring back the dead"
            assert "continue" in here.api.queries[1]
            assert here.changes <= 2

    asyncio.run(main())


def test_a_watch_begins_at_the_version_of_the_list_and_asks_for_bookmarks(tmp_path: Path) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            await here.until(lambda: here.api.watches == 1)
            assert here.api.queries[-1]["resourceVersion"] == str(here.api.version)
            assert here.api.queries[-1]["allowWatchBookmarks"] == "true"
            assert 240 <= int(here.api.queries[-1]["timeoutSeconds"]) <= 361

    asyncio.run(main())


def test_a_bookmark_moves_the_version_from_which_the_watch_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            for at in range(10):
                here.api.put(PODS, pod_object(f"x{at}", namespace="elsewhere"))
            here.pass_(61.0)
            here.api.put(PODS, pod_object("b"))
            await here.knows("a", "b")
            here.pass_(61.0)
            here.api.cut()
            await here.until(lambda: here.api.asked["watch pods"] == 2)
            assert int(here.api.queries[-1]["resourceVersion"]) == here.api.version

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b'{"items": 7}', b""])
def test_an_answer_that_is_no_list_is_a_failure_and_is_asked_again(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            lists = here.api._list
            here.api._list = lambda *_: (200, body)  # type: ignore[method-assign]
            here.api.compact()
            here.api.put(PODS, pod_object("b"))
            here.api.compact()
            here.api.cut()
            asked = here.api.asked["list pods"]
            await here.until(lambda: here.api.asked["list pods"] > asked + 1)
            assert list(here.follower.known.values()) == ["a"]
            here.api._list = lists  # type: ignore[method-assign]
            await here.knows("a", "b")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "no sensible answer" in caplog.text


@pytest.mark.parametrize("line", [b"not json\n", b'{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n'])
def test_an_event_that_is_none_ends_the_watch_and_takes_nothing_away(tmp_path: Path, line: bytes) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            here.api.mangles = lambda events: [line, *events] if events else []
            here.api.put(PODS, pod_object("b"))
            await here.until(lambda: here.api.asked["watch pods"] > 2)
            assert list(here.follower.known.values()) == ["a"]
            here.api.mangles = lambda events: events
            await here.knows("a", "b")

    asyncio.run(main())


def test_an_unforeseen_error_does_not_end_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            here.api.put(PODS, pod_object("trap"))
            here.api.put(PODS, pod_object("b"))
            await here.until(lambda: "nobody thought of this" in caplog.text)
            here.api.delete(PODS, "llm", "trap")
            here.api.compact()
            here.api.cut()
            await here.knows("a", "b")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())


def test_cancelling_closes_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with road(tmp_path, "a") as here:
            await here.knows("a")
            await here.until(lambda: here.api.watches == 1)
            assert here.api._writers
        assert not here.api._writers

    asyncio.run(main())
