"""Probing real servers on loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import ranks_of
from statesync.engines.access import PLAIN, Accesses, PoolAccess, fixed_key
from statesync.engines.health import HealthTracker, Outcome
from statesync.engines.prober import Prober
from statesync.settings import Health
from statesync.store.memory import MemoryStore
from tests.fakes.engine_pages import Page, engine, refusing
from tests.fakes.virtual_time import RunningClock, run_on
from tests.fakes.waiting import DEADLINE_S
from tests.fakes.whole_pools import set_ids, set_pods

WELL = Page()
TIMEOUT_S = 60.0


class Shared(MemoryStore):
    """Notes what a prober shares."""

    def __init__(self, noted: list[tuple[PodId, bool]]) -> None:
        super().__init__()
        self._noted = noted

    def probed(self, pod: PodId, well: bool, /) -> None:
        self._noted.append((pod, well))


class Scene:
    """A tracker and its prober, with the changes that the tracker reported."""

    def __init__(
        self,
        config: Health,
        *,
        health: Health | None = None,
        access: PoolAccess = PLAIN,
        shared: Shared | None = None,
    ) -> None:
        self.changes: asyncio.Queue[tuple[PodId, str, bool]] = asyncio.Queue()
        self.health = HealthTracker(health or Health(), lambda *change: self.changes.put_nowait(change))
        self.prober = Prober(config, self.health, Accesses({"pool": access}), shared)

    def set_pods(self, *pods: Pod) -> None:
        set_ids(self.health, "pool", [pod.id for pod in pods])
        set_pods(self.prober, "pool", pods)

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
            scene, gone = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S)), refusing()
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
            scene = Scene(Health(timeout_s=1000.0))
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
                scene.set_pods(stuck.pod)
                async with asyncio.TaskGroup() as group:
                    waiting = [group.create_task(scene.prober.first_round()) for _ in range(2)]
                    await stuck.until(lambda: stuck.asked["/health"] == 1)
                    assert not any(task.done() for task in waiting)
                    scene.set_pods()

    asyncio.run(story())


def test_verdicts_of_other_replicas_stand_for_first_probes_and_an_own_probe_overrides_them() -> None:
    """Case I 51. Of pods not probed here, one is well elsewhere, one fails elsewhere, and one is unknown to all."""

    async def story() -> None:
        shared: list[tuple[PodId, bool]] = []
        async with engine() as well, engine() as failing, engine() as new:
            new.pages["/health"] = failing.pages["/health"] = WELL
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S), shared=Shared(shared))
            scene.set_pods(well.pod, failing.pod, new.pod)
            verdicts = {well.pod.id: True, failing.pod.id: False, PodId("of no pool"): True}
            scene.prober.probed_elsewhere(verdicts)
            assert scene.changes.get_nowait() == (failing.pod.id, "probe", True)
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
                assert (well.asked["/health"], new.asked["/health"]) == (0, 1)
                assert await scene.next() == (failing.pod.id, "probe", False)
                scene.prober.probed_elsewhere(dict.fromkeys(verdicts, False))
                assert scene.changes.empty(), "its own probes know better"
            assert sorted(shared[:2]) == sorted([(well.pod.id, True), (failing.pod.id, False)])
            assert set(shared[2:]) == {(failing.pod.id, True), (new.pod.id, True)}

    asyncio.run(story())


def test_a_pod_that_fails_is_blocked_and_comes_back_when_it_is_healthy() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = b.pages["/health"] = WELL
            scene = Scene(Health(interval_s=0.005, timeout_s=TIMEOUT_S))
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                await scene.prober.first_round()
                a.pages["/health"] = Page(500)
                assert await scene.next() == (a.pod.id, "probe", True)
                a.pages["/health"] = WELL
                assert await scene.next() == (a.pod.id, "probe", False)

    asyncio.run(story())


@pytest.mark.parametrize("page", [Page(404), Page(302), Page(401), Page(500)], ids=lambda page: str(page.status))
def test_any_status_but_2xx_is_unhealthy(page: Page) -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = page
            b.pages["/health"] = WELL
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S))
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                assert await scene.next() == (a.pod.id, "probe", True)

    asyncio.run(story())


def test_a_pod_that_accepts_and_never_answers_is_unhealthy() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = Page(silent=True)
            b.pages["/health"] = WELL
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S))
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
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S))
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
            scene = Scene(Health(interval_s=0.001, timeout_s=TIMEOUT_S))
            scene.set_pods(a.pod)
            async with probing(scene):
                await a.until(lambda: a.asked["/health"] >= 3)
            assert a.connections >= a.asked["/health"], "the last may have been cut off before its request"

    asyncio.run(story())


def test_an_ejected_pod_is_unblocked_while_the_prober_runs() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = b.pages["/health"] = WELL
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S), health=Health(eject_s=0.01))
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
            scene = Scene(Health(timeout_s=1000.0))
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
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S))
            async with engine() as well:  # a pool's last pod is never blocked
                well.pages["/health"] = WELL
                scene.set_pods(Pod(PodId(address), address), well.pod)
                async with probing(scene):
                    assert await scene.next() == (PodId(address), "probe", True)

    asyncio.run(talk())


ONCE = Health(interval_s=1000.0, timeout_s=TIMEOUT_S)
AGAIN = Health(interval_s=0.005, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_is_well(status: int) -> None:
    """Case D 16."""

    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = b.pages["/health"] = Page(status)
            scene = Scene(ONCE)
            scene.set_pods(a.pod, b.pod)
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
            assert scene.changes.empty()
            assert a.asked.total() == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/api/version", "set engine: ollama"),
        ("/v2/health/ready", "set engine: triton"),
        ("/-/healthz", "set upstream: {health_path: /-/healthz}"),
        ("/v1/models", "set upstream: {health_path: /v1/models}"),
    ],
)
def test_a_pod_without_a_health_page_is_asked_where_other_engines_have_it(
    path: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case D 16: the log says what was answered and what to set, once a pool."""

    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages[path] = b.pages[path] = Page(200)
            scene = Scene(AGAIN)
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                await a.until(lambda: a.asked[path] > 2)
                await b.until(lambda: b.asked[path] > 2)
            assert scene.changes.empty()
            assert a.asked["/health"] == b.asked["/health"] == 1, "the path that answered is asked from then on"

    with caplog.at_level(logging.INFO, "turnout.prober"):
        asyncio.run(story())
    (said,) = [record.getMessage() for record in caplog.records]
    assert "GET /health answered 404" in said
    assert f"GET {path} answered 200" in said
    assert word in said


def test_an_engine_that_moves_its_health_page_is_found_again() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/v1/models"] = b.pages["/health"] = WELL
            scene = Scene(AGAIN)
            scene.set_pods(a.pod, b.pod)
            async with probing(scene):
                await a.until(lambda: a.asked["/v1/models"] > 1)
                a.pages = {"/health": WELL}
                await a.until(lambda: a.asked["/health"] > 3)
            assert scene.changes.empty()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("page", "word"),
    [
        (Page(404), "set `engine`, or upstream.health_path"),
        (Page(401), "answered 401; set upstream.api_key_file or api_key_env"),
        (Page(503), "GET /health answered 503"),
    ],
    ids=lambda what: str(what.status) if isinstance(what, Page) else "",
)
def test_a_failing_probe_is_logged_once_with_what_to_do(
    page: Page, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Case D 16."""

    async def story() -> None:
        async with engine() as a:
            a.pages["/health"] = page
            scene = Scene(AGAIN, access=PoolAccess("vllm"))
            scene.set_pods(a.pod)
            async with probing(scene):
                await a.until(lambda: a.asked["/health"] > 3)
                a.pages["/health"] = WELL
                asked = a.asked["/health"]
                await a.until(lambda: a.asked["/health"] > asked + 3)

    with caplog.at_level(logging.INFO, "turnout.prober"):
        asyncio.run(story())
    failed, again = [record.getMessage() for record in caplog.records]
    assert word in failed
    assert "answered again" in again


def test_a_probe_has_the_pool_s_key_headers_and_path() -> None:
    """Case A 3."""

    async def story() -> None:
        async with engine() as a:
            a.pages["/base/up"] = WELL
            access = PoolAccess(key=fixed_key("k"), headers={"X-Tenant": "t", "Host": "vhost"}, health="/up")
            scene = Scene(ONCE, access=access)
            scene.set_pods(Pod(PodId("a"), f"http://{a.pod.address}/base"))
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
            assert a.asked == {"/base/up": 1}
            assert (a.headers["authorization"], a.headers["x-tenant"]) == ("Bearer k", "t")
            assert a.headers["host"] == "vhost"

    asyncio.run(story())


def test_a_pod_that_cannot_be_connected_to_is_unhealthy_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        scene, gone = Scene(ONCE), refusing()
        scene.set_pods(gone, Pod(PodId("odd"), "no address"))
        async with probing(scene), asyncio.timeout(DEADLINE_S):
            await scene.prober.first_round()

    asyncio.run(story())
    assert "Connect call failed" in caplog.text or "refused" in caplog.text
    assert "'no address'" in caplog.text


def test_one_probe_counts_for_all_ranks_of_a_process() -> None:
    async def story() -> None:
        async with engine() as a, engine() as b:
            a.pages["/health"] = WELL
            b.pages["/health"] = Page(503)
            scene = Scene(Health(interval_s=1000.0, timeout_s=TIMEOUT_S))
            scene.set_pods(*ranks_of(a.pod, 2), *ranks_of(b.pod, 2))
            async with probing(scene), asyncio.timeout(DEADLINE_S):
                await scene.prober.first_round()
                assert [scene.changes.get_nowait() for _ in range(2)] == [
                    (PodId(f"{b.pod.id}@0"), "probe", True),
                    (PodId(f"{b.pod.id}@1"), "probe", True),
                ]
                assert scene.changes.empty()
            assert (a.asked["/health"], b.asked["/health"]) == (1, 1)

    asyncio.run(story())
