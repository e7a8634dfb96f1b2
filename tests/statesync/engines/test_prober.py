"""Probing real servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtests.sim.ports import HOST
from schedulers.types import Pod, PodId
from statesync.engines.health import HealthConfig, HealthTracker, Outcome
from statesync.engines.prober import ProbeConfig, Prober
from tests.fakes.engine_pages import Page, engine, refusing
from tests.fakes.stream_server import stream_server
from tests.fakes.virtual_time import RunningClock, run_on
from tests.fakes.waiting import DEADLINE_S

WELL = Page()
TIMEOUT_S = 60.0


class Scene:
    """A tracker and its prober, with the changes that the tracker reported."""

    def __init__(self, config: ProbeConfig, *, health: HealthConfig | None = None) -> None:
        self.changes: asyncio.Queue[tuple[PodId, str, bool]] = asyncio.Queue()
        self.health = HealthTracker(health or HealthConfig(), lambda *change: self.changes.put_nowait(change))
        self.prober = Prober(config, self.health)

    def set_pods(self, *pods: Pod) -> None:
        self.health.set_pods("pool", [pod.id for pod in pods])
        self.prober.set_pods("pool", pods)

    async def next(self) -> tuple[PodId, str, bool]:
        return await asyncio.wait_for(self.changes.get(), DEADLINE_S)


@asynccontextmanager
async def probing(scene: Scene) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(scene.prober.run())
        try:
            yield
        finally:
            running.cancel()


def test_after_the_first_round_every_pod_has_been_probed_once() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = WELL
            b.pages["/health"] = Page(503)
            scene, gone = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S)), refusing()
            scene.set_pods(a.pod, b.pod, gone)
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
            assert a.asked["/health"] == b.asked["/health"] == 1
            # Of three pods one may be blocked: the one that failed first.
            assert scene.changes.qsize() == 1
            pod, reason, blocked = scene.changes.get_nowait()
            assert pod in (b.pod.id, gone.id)
            assert (reason, blocked) == ("probe", True)

    asyncio.run(story())


def test_the_first_round_does_not_wait_for_pods_that_left_or_for_none() -> None:
    async def story() -> None:
        async with engine() as stuck:
            stuck.pages["/health"] = Page(silent=True)
            scene = Scene(ProbeConfig(timeout_s=1000.0))
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
                scene.set_pods(stuck.pod)
                async with asyncio.TaskGroup() as group:
                    waiting = [group.create_task(scene.prober.first_round()) for _ in range(2)]
                    await stuck.until(lambda: stuck.asked["/health"] == 1)
                    assert not any(task.done() for task in waiting)
                    scene.set_pods()

    asyncio.run(story())


def test_a_pod_that_fails_is_blocked_and_comes_back_when_it_is_healthy() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = b.pages["/health"] = WELL
            scene = Scene(ProbeConfig(interval_s=0.005, timeout_s=TIMEOUT_S, max_per_s=10_000.0))
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                await scene.prober.first_round()
                a.pages["/health"] = Page(500)
                assert await scene.next() == (a.pod.id, "probe", True)
                a.pages["/health"] = WELL
                assert await scene.next() == (a.pod.id, "probe", False)

    asyncio.run(story())


@pytest.mark.parametrize("page", [Page(404), Page(302), Page(204), Page(500)], ids=lambda page: str(page.status))
def test_any_status_but_200_is_unhealthy(page: Page) -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = page
            b.pages["/health"] = WELL
            scene = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S))
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                assert await scene.next() == (a.pod.id, "probe", True)

    asyncio.run(story())


def test_a_pod_that_accepts_and_never_answers_is_unhealthy() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = Page(silent=True)
            b.pages["/health"] = WELL
            scene = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S))
            scene.set_pods(b.pod)
            async with probing(scene):
                await scene.prober.first_round()
                scene.set_pods(a.pod, b.pod)
                await a.until(lambda: a.asked["/health"] == 1)
                clock.now += TIMEOUT_S
                assert await scene.next() == (a.pod.id, "probe", True)

    clock = RunningClock()
    run_on(clock, story())


def test_a_new_pod_is_probed_at_once_with_any_interval() -> None:
    async def story() -> None:
        async with engine() as a, engine() as late:
            a.pages["/health"] = WELL
            scene = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S))
            scene.set_pods(a.pod)
            async with probing(scene):
                await scene.prober.first_round()
                scene.set_pods(a.pod, late.pod)
                assert await scene.next() == (late.pod.id, "probe", True)

    asyncio.run(story())


def test_each_probe_has_its_own_connection() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages["/health"] = Page(body=b"ok")
            scene = Scene(ProbeConfig(interval_s=0.001, timeout_s=TIMEOUT_S, max_per_s=10_000.0))
            scene.set_pods(a.pod)
            async with probing(scene):
                await a.until(lambda: a.asked["/health"] >= 3)
            assert a.connections >= a.asked["/health"], "the last may have been cut off before its request"

    asyncio.run(story())


def test_an_ejected_pod_is_unblocked_while_the_prober_runs() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = b.pages["/health"] = WELL
            scene = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S), health=HealthConfig(eject_s=0.01))
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                await scene.prober.first_round()
                for _ in range(3):
                    scene.health.outcome(a.pod.id, Outcome.FAILURE, asyncio.get_running_loop().time())
                assert await scene.next() == (a.pod.id, "ejected", True)
                assert await scene.next() == (a.pod.id, "ejected", False)

    asyncio.run(story())


def test_stopping_cancels_probes_and_leaves_no_task_behind() -> None:
    async def story() -> None:
        async with engine() as a:
            a.pages["/health"] = Page(silent=True)
            scene = Scene(ProbeConfig(timeout_s=1000.0))
            scene.set_pods(a.pod)
            async with probing(scene):
                await a.until(lambda: a.asked["/health"] == 1)
                assert _background()
            await asyncio.sleep(0)
            assert not _background()

    asyncio.run(story())


def _background() -> set[str]:
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith(("probe ", "readmission"))}


@pytest.mark.parametrize("said", [b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"x" * 70_000, b""])
def test_an_incomplete_answer_is_unhealthy(said: bytes) -> None:
    async def talk() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()

        async with stream_server(serve) as port:
            address = f"{HOST}:{port}"
            scene = Scene(ProbeConfig(interval_s=1000.0, timeout_s=TIMEOUT_S))
            async with engine() as well:  # a pool's last pod is never blocked
                well.pages["/health"] = WELL
                scene.set_pods(Pod(PodId(address), address), well.pod)
                async with probing(scene):
                    assert await scene.next() == (PodId(address), "probe", True)

    asyncio.run(talk())
