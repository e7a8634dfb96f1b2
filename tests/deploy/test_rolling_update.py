"""`kubectl rollout restart deployment/turnout` under load, by Kubernetes' rules: no request is lost.

Real gateways with the rendered container (args, environment, ports, probes, settle and drain), the rendered Redis,
simulated engines, a controller that applies the Deployment's rules, and nodes that see new endpoints up to 3 s late.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import pytest
import uvloop

from loadtests.sim.ports import HOST
from loadtests.upgrade.load import LONG, STREAM, WHOLE, Load, Mix, Record
from statesync.tasks import spawn
from tests.fakes.deployment_controller import Counts, Deployment, Service, Threshold, next_step
from tests.fakes.each_case import each_case
from tests.fakes.gateway_container import Configuration, GatewayContainer, Place, RedisContainer
from tests.fakes.l4_balancer import Balancer
from tests.fakes.programs import need
from tests.fakes.rendered_manifests import Render, render
from tests.fakes.sim_process import sim_pods
from tests.fakes.waiting import DEADLINE_S

PROPAGATION_S = 3.0
NODES = 2
MIX = Mix(talkers=6, askers=12, period_s=0.4, listeners=16, long_tokens=150, ramp_s=3.0)
"""Users of each node. A long stream takes 15 s: some begin before a replica gets SIGTERM and end long after."""

Change = Callable[[Configuration], None]
Plot = Callable[["Cluster"], Awaitable["Story"]]


class Story(NamedTuple):
    """The course of a rollout."""

    records: list[Record]
    left_at: dict[str, float]
    """When each retired replica got SIGTERM, by name."""
    exits: dict[str, int | None]
    killed: dict[str, str]


class Cluster(NamedTuple):
    """A Deployment, and users at each node."""

    deployment: Deployment
    loads: list[Load]

    @contextlib.asynccontextmanager
    async def loaded(self) -> AsyncIterator[None]:
        """Run the users for the block and until their last answer has arrived."""
        loading = [spawn(load.run(), "load") for load in self.loads]
        yield
        for load in self.loads:
            load.no_more.set()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*loading)

    def records(self) -> list[Record]:
        """The records of all users."""
        return [record for load in self.loads for record in load.records]

    def replicas(self) -> set[str]:
        """The replicas that have answered."""
        return {record.replica for record in self.records()}


@contextlib.asynccontextmanager
async def cluster(
    rendered: Render, place: Place, change: Change, delay_s: Callable[[], float]
) -> AsyncIterator[Cluster]:
    """Replicas that are available and known to every node, for the block. Nodes see each change `delay_s` late."""
    nodes = [Balancer(random.Random(number)) for number in range(NODES)]
    for node in nodes:
        await node.start()
    service = Service(nodes, delay_s)
    deployment = Deployment(
        rendered.gateway.owner, service, lambda name: GatewayContainer(rendered, name, place, change)
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            await deployment.scale_up()
            await until(lambda: all(len(node.endpoints) == deployment.replicas for node in nodes))
        yield Cluster(deployment, [Load(HOST, node.port, MIX, seed) for seed, node in enumerate(nodes)])
    finally:
        for pod in deployment.pods:
            pod.end()
        for node in nodes:
            node.stop()


async def until(met: Callable[[], bool]) -> None:
    """Wait until `met`, at most until a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not met():  # noqa: ASYNC110  counts of many tasks, no event
            await asyncio.sleep(0.02)


async def roll(found: Cluster) -> Story:
    """Load, a rollout, and load until every replica has received requests."""
    first, left_at = list(found.deployment.pods), dict[str, float]()
    async with found.loaded():
        await until(lambda: all(load.open[LONG] == MIX.listeners for load in found.loads))
        rolling = spawn(found.deployment.rollout_restart(), "rollout")
        while not rolling.done():
            for pod in first:
                if pod.terminating:
                    left_at.setdefault(pod.name, perf_counter())
            await asyncio.sleep(0.02)
        rolling.result()
        await until(lambda: len(found.records()) > 1000 and len(found.replicas()) == len(found.deployment.pods))
    await found.deployment.gone()
    exits = {pod.name: pod.container.process.poll() for pod in first}
    return Story(found.records(), left_at, exits, {pod.name: pod.killed for pod in found.deployment.pods})


def lose_one(fault: str, *kinds: str) -> Plot:
    """Load, and one replica that is deleted: only its requests fail, in these ways."""

    async def plot(found: Cluster) -> Story:
        loading = [spawn(load.run(), "load") for load in found.loads]
        await until(lambda: all(load.open[LONG] == MIX.listeners for load in found.loads))
        found.deployment.stop(found.deployment.pods[0])
        await until(lambda: any(each.fault == fault and each.kind in kinds for each in found.records()))
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        return Story(found.records(), {}, {}, {})

    return plot


def played(
    plot: Plot, rendered: Render, directory: Path, change: Change, delay_s: Callable[[], float] = lambda: PROPAGATION_S
) -> Story:
    """Run a plot with its own engines and Redis."""

    async def play(place: Place) -> Story:
        async with cluster(rendered, place, change, delay_s) as found:
            return await plot(found)

    redis = RedisContainer(rendered, directory, need("redis-server"))
    try:
        with sim_pods(4, directory / "sims.log", "--profile", "paced") as engines:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(play(Place(directory, redis.port, engines.urls)))
    finally:
        redis.end()


def as_rendered(config: Configuration) -> None:
    """Keep the rendered configuration, settle and drain included."""


@pytest.mark.realtime
def test_a_rollout_under_load_fails_no_request_and_cuts_no_stream(tmp_path: Path) -> None:
    rng = random.Random(7)
    story = played(roll, render("quickstart"), tmp_path, as_rendered, lambda: rng.uniform(0.0, PROPAGATION_S))

    faults = Counter(record.fault for record in story.records if record.fault)
    assert not faults, f"{faults} of {len(story.records)}"
    assert story.exits == dict.fromkeys(story.left_at, 0)
    assert set(story.killed.values()) == {""}
    replicas = {record.replica for record in story.records}
    assert len(replicas) == 4, "both old and both new replicas answered requests"
    spanning = [each for each in story.records if each.kind == LONG and _spans(each, story.left_at)]
    assert len(spanning) > 10, "streams outlived the order to leave"
    late = [each for each in story.records if each.started_at > story.left_at.get(each.replica, perf_counter())]
    assert late, "nodes with old endpoints sent requests to a replica that was draining"


def _spans(record: Record, left_at: dict[str, float]) -> bool:
    retired = left_at.get(record.replica)
    return retired is not None and record.started_at < retired < record.ended_at


def hasty() -> Render:
    """The quickstart with replicas that count as available as soon as they are ready."""
    found = render("quickstart")
    found.gateway.owner["spec"]["minReadySeconds"] = 0
    return found


def without_settling(config: Configuration) -> None:
    """A replica closes its port at once on SIGTERM."""
    config["drain"]["settle_s"] = 0.0


@pytest.mark.realtime
def test_requests_are_lost_where_replicas_do_not_settle(tmp_path: Path) -> None:
    story = played(lose_one("no_answer", WHOLE, STREAM), hasty(), tmp_path, without_settling)
    assert "no_answer" in {record.fault for record in story.records}


@pytest.mark.realtime
def test_streams_are_cut_where_the_grace_period_is_shorter_than_the_drain(tmp_path: Path) -> None:
    impatient = hasty()
    impatient.gateway.spec["terminationGracePeriodSeconds"] = 2
    story = played(lose_one("truncated", LONG), impatient, tmp_path, as_rendered)
    assert "truncated" in {record.fault for record in story.records if record.kind == LONG}


def test_a_probe_s_result_changes_after_its_threshold_of_answers_in_a_row() -> None:
    readiness = Threshold({"failureThreshold": 2, "successThreshold": 1}, False)
    answers = [True, False, True, False, False, True]
    assert [readiness.observe(each) for each in answers] == [True, True, True, True, False, True]
    liveness = Threshold({}, True)
    assert [liveness.observe(False) for _ in range(3)] == [True, True, False]


@each_case(
    ("counts", "step"),
    [
        (Counts(2, 0, 2, 0), "start"),
        (Counts(2, 1, 2, 0), "wait"),
        (Counts(2, 1, 2, 1), "stop"),
        (Counts(1, 1, 1, 1), "start"),
        (Counts(1, 2, 1, 1), "wait"),
        (Counts(1, 2, 1, 2), "stop"),
        (Counts(0, 2, 0, 1), "wait"),
        (Counts(2, 1, 1, 1), "wait"),
    ],
)
def test_a_rolling_update_surges_by_one_and_never_has_less_than_all(counts: Counts, step: str) -> None:
    assert next_step(2, 1, 0, counts) == step
