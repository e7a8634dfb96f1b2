"""The upgrade under load, and a new replica's state before its first request: real Redis, HAProxy and processes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.processes.redis_server import RedisServer
from loadtests.upgrade.__main__ import run
from loadtests.upgrade.fleet import Plan
from loadtests.upgrade.load import Mix
from loadtests.upgrade.report import table
from loadtests.upgrade.roll import Times
from tests.fakes.gateway_process import GatewayProcess, config, pool, starting
from tests.fakes.late_pod import LatePod, late_pod
from tests.fakes.raw_http_client import Wire, endless, post
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.needs("redis-server")

HELD = (0, 3, 6, 9)
"""Streams that the old replica keeps open on each pod."""
REQUESTS = 20_000
ALLOWED = 0.01
"""By how much the second hit rate may be below the first, besides random deviation."""
SIGMAS = 5
"""Standard errors that count as random deviation."""


@pytest.mark.realtime
@pytest.mark.timeout(1200)  # the load goes on until there are enough requests, however slow the machine is
@pytest.mark.needs("haproxy")
def test_rolling_every_replica_twice_under_load_loses_no_request(tmp_path: Path) -> None:
    said: list[str] = []
    # Long enough for HAProxy to see on a busy machine, too, that a replica is no longer ready.
    plan, mix = Plan(python=python_under_test(), settle_s=10.0), Mix()
    found = run(plan, mix, Times(requests=REQUESTS, most_s=1000.0), tmp_path, said.append)
    print(table({"shared state": found}))  # noqa: T201  -rP shows it
    assert (found.failed, found.truncated, found.faults) == (0, 0, {}), said
    assert found.requests >= REQUESTS, said
    assert found.spanning >= 200
    assert found.cut == 0, "a retired replica did not end by itself with status 0"
    before, after = found.acts["before"], found.acts["after"]
    assert before.hit_rate > 0.75
    margin = ALLOWED + SIGMAS * math.hypot(before.hit_rate_error, after.hit_rate_error)
    assert after.hit_rate > before.hit_rate - margin, "the upgrade lost the learned prefixes"
    # On a small machine a starting process slows new and other replicas equally.
    margin = ALLOWED + SIGMAS * math.hypot(found.newcomers_error, found.residents_error)
    assert found.newcomers_hit_rate > found.residents_hit_rate - margin, (
        "new replicas began without the learned prefixes"
    )
    # Short requests begin and end between the two readings; the other test of this file reads while none does.
    assert max(found.unseen) <= mix.talkers + mix.askers, found.seen_share


@pytest.fixture
def four(tmp_path: Path) -> Iterator[SimPods]:
    """Pods of ten tokens a second."""
    with sim_pods(4, tmp_path / "pods.log", "--profile", "paced") as pods:
        yield pods


@pytest.fixture
def late() -> Iterator[LatePod]:
    """A pod of another pool."""
    with late_pod() as pod:
        yield pod


@pytest.mark.slow
def test_a_new_replica_knows_the_true_load_before_it_is_ready_and_its_first_picks_use_it(
    four: SimPods, late: LatePod, tmp_path: Path
) -> None:
    """A pod that only the new replica has delays its readiness, so that its view can be read before that. What the old
    one knows of its own pods counts at once."""
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path))
        pools = [pool("default", four.urls)]
        more = [*pools, pool("late", [late.url], models=["late-model"])]
        shared = config((), pools=pools, state=server.url, warmup_timeout_s=600.0)
        old = stack.enter_context(starting(shared | {"replica": "old"}, tmp_path / "old"))
        old.wait_until_ready()
        for address, count in zip(four.addresses, HELD, strict=True):
            hold(stack, old, four, address, count)

        late.answers.clear()
        new = stack.enter_context(starting(shared | {"replica": "new", "pools": more}, tmp_path / "new"))
        truth = dict(zip(four.addresses, HELD, strict=True))
        wait_for("the view is true", lambda: {pod: count for pod, count in view(new).items() if pod in truth} == truth)
        assert new.control.get("/readyz").json() == {"status": "warming", "cold": False}
        assert view(old) == truth
        late.answers.set()
        new.wait_until_ready()
        assert not new.control.get("/readyz").json()["cold"]

        picked = [pod_of(opened(stack, new)) for _ in range(HELD[1])]
        assert set(picked) == {four.addresses[0]}, "the idle pod should get them all"
        assert [four.state(pod)["open_requests"] for pod in four.addresses] == [HELD[1], *HELD[1:]]


def hold(stack: ExitStack, gateway: GatewayProcess, pods: SimPods, address: str, count: int) -> None:
    """Open `count` streams on that pod, by draining all others meanwhile."""
    others = [each for each in pods.addresses if each != address]
    for each in others:
        assert gateway.control.post(f"/admin/pods/{each}/drain").status_code == 200
    assert {pod_of(wire) for wire in [opened(stack, gateway) for _ in range(count)]} <= {address}
    for each in others:
        assert gateway.control.delete(f"/admin/pods/{each}/drain").status_code == 200


def opened(stack: ExitStack, gateway: GatewayProcess) -> Wire:
    """A stream that lasts."""
    wire = stack.enter_context(Wire("127.0.0.1", gateway.port))
    wire.send(post(endless()))
    return wire


def pod_of(stream: Wire) -> str:
    """The pod that a stream went to."""
    return stream.some().decode("latin-1").partition("x-turnout-pod: ")[2].partition("\r\n")[0]


def view(gateway: GatewayProcess) -> dict[str, int]:
    """In flight by pod over all replicas, as this one sees it."""
    return {pod["address"]: pod["inflight"] for pod in gateway.pods()}


def python_under_test() -> str:
    """The Python whose gateway is tested."""
    return os.environ.get("TURNOUT_TESTED_PYTHON", Plan().python)
