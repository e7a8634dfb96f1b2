"""One collection is followed: its requests, its changes, and that only cancelling ends it."""

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

from loadtests.kubernetes.api import PODS, KubeApi, kube_api
from loadtests.kubernetes.objects import kubeconfig, pod_object
from statesync.discovery.kubernetes.client import Access, ApiServer
from statesync.discovery.kubernetes.follower import PAGE, Follower, ResourceKind
from statesync.discovery.kubernetes.pod_objects import decode_pod
from statesync.discovery.kubernetes.watch import Item, ListWatch
from tests.fakes.kube_pod_source import Passing

KIND = "/api/v1/namespaces/{}/pods"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps requests to 127.0.0.1 away from a proxy in the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def read(raw: msgspec.Raw) -> Item[str]:
    meta = decode_pod(raw).metadata
    if meta.name == "trap":
        raise RuntimeError("an unforeseen error")
    return Item(meta.uid, meta.resource_version, meta.name)


class Scene(Passing):
    """A running follower that keeps pod names, and its server."""

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
async def following(tmp_path: Path, *names: str, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Scene]:
    async with kube_api() as api:
        for name in names:
            api.put(PODS, pod_object(name))
        file = tmp_path / "kubeconfig"
        await asyncio.to_thread(file.write_text, json.dumps(settings or kubeconfig(api)))
        scene = Scene(api, ApiServer(Access(str(file)), quiet_s=30.0))
        running = asyncio.get_running_loop().create_task(scene.follower.run())
        try:
            yield scene
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def test_a_list_comes_in_pages_and_is_reported_once(tmp_path: Path) -> None:
    names = [f"v-{at}" for at in range(PAGE + 1)]

    async def main() -> None:
        async with following(tmp_path, *names) as scene:
            await scene.knows(*names)
            assert scene.api.queries[0]["limit"] == str(PAGE)
            assert scene.api.queries[0]["labelSelector"] == "app=vllm"
            assert "resourceVersion" not in scene.api.queries[0], "a list from a cache may contain deleted pods"
            assert "continue" in scene.api.queries[1]
            assert scene.changes <= 2

    asyncio.run(main())


def test_a_watch_begins_at_the_version_of_the_list_and_asks_for_bookmarks(tmp_path: Path) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            await scene.until(lambda: scene.api.watches == 1)
            assert scene.api.queries[-1]["resourceVersion"] == str(scene.api.version)
            assert scene.api.queries[-1]["allowWatchBookmarks"] == "true"
            assert 240 <= int(scene.api.queries[-1]["timeoutSeconds"]) <= 361

    asyncio.run(main())


def test_a_bookmark_moves_the_version_from_which_the_watch_resumes(tmp_path: Path) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            for at in range(10):
                scene.api.put(PODS, pod_object(f"x{at}", namespace="elsewhere"))
            scene.pass_(61.0)
            scene.api.put(PODS, pod_object("b"))
            await scene.knows("a", "b")
            scene.pass_(61.0)
            scene.api.cut()
            await scene.until(lambda: scene.api.asked["watch pods"] == 2)
            assert int(scene.api.queries[-1]["resourceVersion"]) == scene.api.version

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b'{"items": 7}', b""])
def test_an_answer_that_is_not_a_list_is_a_failure_and_is_asked_for_again(
    tmp_path: Path, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            lists = scene.api._list
            scene.api._list = lambda *_: (200, body)  # type: ignore[method-assign]
            scene.api.compact()
            scene.api.put(PODS, pod_object("b"))
            scene.api.compact()
            scene.api.cut()
            asked = scene.api.asked["list pods"]
            await scene.until(lambda: scene.api.asked["list pods"] > asked + 1)
            assert list(scene.follower.known.values()) == ["a"]
            scene.api._list = lists  # type: ignore[method-assign]
            await scene.knows("a", "b")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "no sensible answer" in caplog.text


@pytest.mark.parametrize("line", [b"not json\n", b'{"type":"ERROR","object":{"code":500,"message":"etcd"}}\n'])
def test_an_invalid_event_ends_the_watch_and_removes_nothing(tmp_path: Path, line: bytes) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            scene.api.mangles = lambda events: [line, *events] if events else []
            scene.api.put(PODS, pod_object("b"))
            await scene.until(lambda: scene.api.asked["watch pods"] > 2)
            assert list(scene.follower.known.values()) == ["a"]
            scene.api.mangles = lambda events: events
            await scene.knows("a", "b")

    asyncio.run(main())


def test_an_unforeseen_error_does_not_end_the_follower(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            scene.api.put(PODS, pod_object("trap"))
            scene.api.put(PODS, pod_object("b"))
            await scene.until(lambda: "an unforeseen error" in caplog.text)
            scene.api.delete(PODS, "llm", "trap")
            scene.api.compact()
            scene.api.cut()
            await scene.knows("a", "b")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())


def test_cancelling_closes_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with following(tmp_path, "a") as scene:
            await scene.knows("a")
            await scene.until(lambda: scene.api.watches == 1)
            assert scene.api._writers
        assert not scene.api._writers

    asyncio.run(main())
