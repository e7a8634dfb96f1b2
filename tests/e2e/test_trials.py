"""Trials on live traffic: two replicas on Redis in front of simulated pods, under load. The guard takes a policy that
sends all requests to one pod back on both; a good one stays and is promoted; a shadow decides no request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from loadtests.processes import redis_server
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.trial_load import Load
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

ONE_POD: Final = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo

@dataclass(frozen=True)
class OnePod:
    """All to the pod with the smallest name."""

    name: ClassVar[str] = "one_pod"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        left = sorted(each.pod.id for each in snapshot.candidates if each.pod.id not in request.tried)
        return Decision(left[0], self.name) if left else NO_UNTRIED_POD

@dataclass(frozen=True)
class Raises:
    """Fails at every other request."""

    name: ClassVar[str] = "raises"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        if request.entropy % 2:
            raise RuntimeError("no idea")
        return Decision(snapshot.candidates[0].pod.id, self.name)
'''


def install(directory: Path) -> None:
    """A package with two bad policies, as pip would leave it there."""
    about = directory / "bad_policies-1.0.dist-info"
    about.mkdir(parents=True)
    (directory / "bad_policies.py").write_text(ONE_POD)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-policies\nVersion: 1.0\n")
    entries = "one_pod = bad_policies:OnePod\nraises = bad_policies:Raises\n"
    (about / "entry_points.txt").write_text(f"[turnout.schedulers]\n{entries}")


@pytest.fixture(scope="module")
def busy_sims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """Four pods; one of them alone cannot serve the load."""
    with sim_pods(4, tmp_path_factory.mktemp("sims") / "busy.log", "--profile", "h100-8b") as pods:
        yield pods


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs the package with the bad policies for the gateways."""
    install(tmp_path / "packages")
    paths = str(tmp_path / "packages"), os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@contextmanager
def replicas(sims: SimPods, directory: Path, expected: list[str]) -> Iterator[list[GatewayProcess]]:
    """Two gateways that share a Redis."""
    with ExitStack() as stack:
        directory.mkdir(exist_ok=True)
        redis = stack.enter_context(redis_server.RedisServer(directory))
        pools = [pool("default", sims.urls, policy={"name": "p2c"})]
        settings = config((), pools=pools, state=redis.url, plugins={"entry_points": ["*"]})
        yield [
            stack.enter_context(running(settings | {"replica": name}, directory / name, expected))
            for name in ("east", "west")
        ]


def trial(gateway: GatewayProcess) -> dict[str, Any]:
    """GET the pool's report."""
    shown: dict[str, Any] = gateway.control.get("/admin/pools/default/trial").raise_for_status().json()
    return shown


def compared(gateway: GatewayProcess) -> float:
    """How many requests the shadow of this replica was given."""
    return gateway.metric("turnout_shadow_compared_total", pool="default")


def note(gateway: GatewayProcess) -> str:
    """The note of the pool's current record."""
    return str(gateway.control.get("/admin/pools/default/policy").raise_for_status().json()["note"])


def is_over(gateway: GatewayProcess) -> bool:
    """Whether no trial runs there."""
    return not trial(gateway)["running"]


def canary(gateway: GatewayProcess, policy: str, percent: float = 50, **guard: float) -> int:
    """Start a canary; returns its generation."""
    body = {"policy": policy, "percent": percent, "guard": guard}
    answer = gateway.control.put("/admin/pools/default/canary", json=body)
    return int(answer.raise_for_status().json()["generation"])


@pytest.mark.realtime
def test_a_canary_that_sends_all_to_one_pod_is_taken_back_on_both_replicas(
    busy_sims: SimPods, packages: None, tmp_path: Path
) -> None:
    with replicas(busy_sims, tmp_path, []) as (east, west), Load([east.port, west.port]) as load:
        wait_for("traffic flows", lambda: load.answers > 20)
        # Its crowded pod slows the pool, too; here the comparison of the two policies has to find it.
        canary(west, "one_pod", pool_p95_ratio=0.0, tpot_p50_ratio=0.0)
        seen = []
        for gateway in (east, west):
            wait_for("the canary is over", partial(is_over, gateway))
            assert note(gateway).startswith("canary one_pod rolled back: ttft_p")
            assert " over " in note(gateway) and " after " in note(gateway)
            last = trial(gateway)["last"]
            assert last["ended"] == note(gateway)
            arms = last["canary"]["arms"]
            seen.append({name: arm["requests"] for name, arm in arms.items()})
            median = {name: arm["ttft_s"]["p50"]["value"] for name, arm in arms.items()}
            assert median["canary"] > 1.5 * median["baseline"]
            assert last["canary"]["words"]
            assert len(last["replicas"]) == 2
        # The one that decided had seen enough; the other may not have read the last of its figures.
        assert all(max(each[name] for each in seen) >= 20 for name in ("canary", "baseline"))
        history = west.control.get("/admin/pools/default/history").json()
        assert [each["canary"] is None for each in history[:2]] == [True, False]
        load.policies.clear()
        before = load.answers
        wait_for("40 more requests are answered", lambda: load.answers > before + 40)
        taken_back = [gateway.metric("turnout_trial_rollbacks_total", pool="default") for gateway in (east, west)]
        assert sum(taken_back) == 1
    assert not load.errors
    assert load.policies["p2c"] > 20


def test_a_canary_whose_policy_fails_is_taken_back_and_no_request_is_lost(
    busy_sims: SimPods, packages: None, tmp_path: Path
) -> None:
    with replicas(busy_sims, tmp_path, ["raises"]) as (east, west), Load([east.port, west.port]) as load:
        wait_for("traffic flows", lambda: load.answers > 20)
        canary(east, "raises")
        for gateway in (east, west):
            wait_for("the canary is over", partial(is_over, gateway))
            assert note(gateway).startswith("canary raises rolled back: policy_failures")
    assert not load.errors


@pytest.mark.realtime
def test_a_good_canary_stays_and_is_promoted_once_it_has_enough_requests(busy_sims: SimPods, tmp_path: Path) -> None:
    with replicas(busy_sims, tmp_path, []) as (east, west), Load([east.port, west.port]) as load:
        wait_for("traffic flows", lambda: load.answers > 20)
        put = east.control.put("/admin/pools/default/shadow", json={"policy": "round_robin"})
        assert put.status_code == 200
        # Nor is it compared with the pool before it: this machine may be busier now.
        wide = {"error_rate": 0.1, "ttft_p50_ratio": 4.0, "ttft_p95_ratio": 4.0, "tpot_p50_ratio": 4.0}
        wide |= {"pool_p95_ratio": 0.0}
        generation = canary(east, "least_load", min_requests=100, **wide)
        too_early = east.control.post("/admin/pools/default/promote")
        assert too_early.status_code == 409
        assert "more requests" in too_early.json()["error"]["message"]
        wait_for("the other replica has the trial", lambda: trial(west).get("generation") == generation)
        wait_for("the canary is within its guard", lambda: trial(west)["canary"]["state"] == "within")
        shown = trial(west)
        assert shown["canary"]["verdict"] == "within its guard"
        assert set(shown["canary"]["comparisons"]) >= {"error_rate", "ttft_p50_ratio", "ttft_p95_ratio"}
        assert east.metric("turnout_trial_requests_total", arm="canary") > 0
        # Round robin and two choices of four pods agree once in four; 60 picks never agree with a probability of 3e-8.
        wait_for("both shadows were given 60 requests", lambda: all(compared(each) >= 60 for each in (east, west)))
        shadow = trial(west)["shadow"]
        assert 0 < shadow["agreement"]["value"] < 1
        assert shadow["failures"] == 0
        assert 0 < east.metric("turnout_shadow_agreement_ratio", pool="default") < 1

        promoted = west.control.post("/admin/pools/default/promote")
        assert promoted.status_code == 200, promoted.text
        wait_for(
            "both have it", lambda: all(each.metric("turnout_policy_generation") > generation for each in (east, west))
        )
        load.policies.clear()
        before = load.answers
        wait_for("it decides all", lambda: load.answers > before + 60)
        assert load.policies["least_load"] > 40
    assert not load.errors
