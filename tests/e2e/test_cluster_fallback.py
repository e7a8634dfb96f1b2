"""Two clusters behind one gateway: who may choose one, when the other takes its requests, and that the counts add up.

Pods are real processes. Those of the cluster `east` are killed and started again under load.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Answer, Wire, chat, endless, post
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

KEY = "sk-research-0123456789abcdef"
PROFILE = {"name": "profile", "params": {"scorers": [{"name": "queue"}, {"name": "prefix", "weight": 3}]}}


class East:
    """The pods of the cluster `east`, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._times = 0
        self.pods = self._start()
        self.urls = self.pods.urls
        self.up = True

    def _start(self, first: int = 0) -> SimPods:
        self._times += 1
        return SimPods(2, self._directory / f"east-{self._times}.log", "--model", "llama-east", first=first)

    def goes(self) -> None:
        self.pods.kill()
        self.up = False

    def comes_back(self) -> None:
        if not self.up:
            self.pods = self._start(int(self.urls[0].rpartition(":")[2]))
            self.up = True


@pytest.fixture(scope="module")
def east(tmp_path_factory: pytest.TempPathFactory) -> Iterator[East]:
    pods = East(tmp_path_factory.mktemp("east"))
    yield pods
    pods.pods.kill()


@pytest.fixture(scope="module")
def west(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    with sim_pods(2, tmp_path_factory.mktemp("west") / "west.log", "--model", "llama-west") as pods:
        yield pods


@pytest.fixture(scope="module")
def gateway(east: East, west: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Retries and their budget are the defaults; probes and ejections are quicker, to make the tests quick."""
    pools = [
        pool("near", east.urls, cluster="east", models=["llama-east"], aliases={"llama": "llama-east"})
        | {"fallback": ["far"], "max_inflight_per_pod": 12, "allowed_policies": ["swift", "p2c"]},
        pool("far", west.urls, cluster="west", models=["llama-west"], aliases={"llama": "llama-west"})
        | {"policy": {"name": "steady"}},
        pool("spare", ["http://127.0.0.1:9"], models=["llama-spare"], cluster="north"),
    ]
    settings = config(
        (),
        pools=pools,
        policies={"swift": PROFILE, "steady": {"name": "least_load"}},
        targets={
            "allow": ["east"],
            "clients": [{"key_sha256": hashlib.sha256(KEY.encode()).hexdigest(), "name": "lab", "allow": ["west"]}],
        },
        health=PATIENT_HEALTH | {"interval_s": 0.25, "eject_s": 0.5, "eject_max_s": 1.0},
    )
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def all_is_well(east: East, gateway: GatewayProcess) -> None:
    """The pods of `east` run, and the gateway has found them usable."""
    east.comes_back()
    wait_for("east is back", lambda: routable(gateway, "near") == 2)


def routable(gateway: GatewayProcess, name: str) -> int:
    return sum(pod["routable"] for pod in gateway.pods() if pod["pool"] == name)


def ask(port: int, body: dict[str, object], *headers: str) -> Answer:
    with Wire("127.0.0.1", port) as wire:
        wire.send(post(body, *headers))
        return wire.answer()


def llama(text: str = "hello", **fields: object) -> dict[str, object]:
    return chat(text, model="llama", **fields)


def test_an_answer_names_its_pool_and_cluster(gateway: GatewayProcess) -> None:
    answer = ask(gateway.port, llama())
    assert (answer.headers["x-turnout-pool"], answer.headers["x-turnout-cluster"]) == ("near", "east")
    assert "x-turnout-fallback" not in answer.headers
    assert answer.json()["model"] == "llama-east"


def test_only_allowed_clients_may_choose_a_target(gateway: GatewayProcess) -> None:
    for header in ("x-turnout-pool: near", "x-turnout-cluster: east"):
        assert ask(gateway.port, llama(), header).headers["x-turnout-pool"] == "near"
    for header in ("x-turnout-pool: far", "x-turnout-cluster: west"):
        refused = ask(gateway.port, llama(), header)
        assert (refused.status, refused.error["code"]) == (403, "target_not_allowed")
        assert "it may choose: east" in refused.error["message"]
        let_in = ask(gateway.port, llama(), header, f"authorization: Bearer {KEY}")
        assert (let_in.headers["x-turnout-pool"], let_in.headers["x-turnout-cluster"]) == ("far", "west")
        assert let_in.json()["model"] == "llama-west"
    unknown = ask(gateway.port, llama(), "x-turnout-cluster: south")
    assert (unknown.status, unknown.error["code"]) == (404, "pool_not_found")
    assert KEY not in gateway.log.read_text()


def test_a_request_may_name_a_configured_policy(gateway: GatewayProcess) -> None:
    answer = ask(gateway.port, llama(), "x-turnout-policy: swift")
    assert (answer.status, answer.headers["x-turnout-policy"]) == (200, "swift")
    refused = ask(gateway.port, llama(), "x-turnout-policy: steady")
    assert (refused.status, refused.error["code"]) == (403, "policy_not_allowed")
    assert "swift, p2c" in refused.error["message"]
    assert gateway.metric("turnout_requests_total", pool="near", policy="swift", status="200") >= 1


def test_a_configured_policy_is_set_by_its_name(gateway: GatewayProcess) -> None:
    path = "/admin/pools/near/policy"
    assert gateway.control.put(path, json={"policy": "swift"}).raise_for_status().json()["policy"] == "swift"
    assert ask(gateway.port, llama()).headers["x-turnout-policy"] == "swift"
    wrong = gateway.control.put(path, json={"policy": "swift", "params": {"scorers": []}})
    assert wrong.status_code == 422
    assert "ready-made" in wrong.json()["error"]["message"]
    assert ask(gateway.port, llama()).headers["x-turnout-policy"] == "swift"
    gateway.control.put(path, json={"policy": "least_load"}).raise_for_status()
    shown = gateway.control.get("/admin/pools/far/policy").json()
    assert (shown["policy"], shown["params"]) == ("steady", {})


def test_pools_and_models_show_cluster_and_fall_back(gateway: GatewayProcess) -> None:
    shown = {each["name"]: each for each in gateway.control.get("/admin/pools").json()}
    assert (shown["near"]["cluster"], shown["near"]["fallback"]) == ("east", ["far"])
    with httpx.Client(base_url=gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as client:
        cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
    assert (cards["llama"]["cluster"], cards["llama"]["fallback"]) == ("east", ["far"])


class Crowd:
    """Users who send one request after the other; keeps every answer with the time of its request."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._over = asyncio.Event()
        self.seen: list[tuple[float, httpx.Response]] = []

    async def user(self, client: httpx.AsyncClient, at: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            asked_at = time.monotonic()
            answer = await client.post("/v1/chat/completions", json=llama(f"{at} {turn}"))
            self.seen.append((asked_at, answer))

    async def through(self, plot: Callable[[Crowd], Awaitable[float]]) -> float:
        """Send requests for as long as `plot` runs; returns its result."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with (
            httpx.AsyncClient(
                base_url=self._gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S, limits=limits
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for at in range(12):
                group.create_task(self.user(client, at))
            found = await plot(self)
            self._over.set()
        return found

    async def come(self, more: int, since: float = 0.0) -> None:
        """Wait for `more` further answers to requests that were sent at `since` or later."""
        async with asyncio.timeout(DEADLINE_S):
            goal = self._asked(since) + more
            while self._asked(since) < goal:  # noqa: ASYNC110  a list has no event
                await asyncio.sleep(0.01)

    def _asked(self, since: float) -> int:
        return sum(asked_at >= since for asked_at, _ in self.seen)


def test_a_cluster_that_is_killed_under_load_fails_no_request_and_is_used_again_when_it_is_back(
    gateway: GatewayProcess, east: East
) -> None:
    async def goes_and_comes_back(crowd: Crowd) -> float:
        await crowd.come(60)
        east.goes()
        await crowd.come(250)
        await asyncio.to_thread(east.comes_back)
        await asyncio.to_thread(wait_for, "east is back", lambda: routable(gateway, "near") == 2)
        home_at = time.monotonic()
        await crowd.come(60, home_at)
        return home_at

    crowd = Crowd(gateway)
    home_at = asyncio.run(crowd.through(goes_and_comes_back))
    answers = [answer for _, answer in crowd.seen]
    assert Counter(answer.status_code for answer in answers) == {200: len(answers)}
    ways = Counter((answer.headers["x-turnout-pool"], answer.headers.get("x-turnout-fallback")) for answer in answers)
    assert set(ways) == {("near", None), ("far", "from=near")}
    assert ways["far", "from=near"] > 200
    assert all(
        answer.json()["model"] == {"near": "llama-east", "far": "llama-west"}[answer.headers["x-turnout-pool"]]
        for answer in answers
    )
    at_home = [answer.headers["x-turnout-pool"] for asked_at, answer in crowd.seen if asked_at >= home_at]
    assert at_home == ["near"] * len(at_home)
    assert gateway.metric("turnout_fallbacks_total", **{"from": "near", "to": "far"}) >= ways["far", "from=near"]


def test_while_a_cluster_is_gone_streams_fall_back_too_and_a_refused_fall_back_is_an_error(
    gateway: GatewayProcess, east: East
) -> None:
    east.goes()
    stream = ask(gateway.port, llama(stream=True))
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert (stream.headers["x-turnout-cluster"], stream.headers["x-turnout-fallback"]) == ("west", "from=near")
    wait_for("no pod of east is routable", lambda: fails_at_once(gateway))
    refused = ask(gateway.port, llama(), "x-turnout-fallback: false")
    assert refused.status == 503
    assert "'near'" in refused.error["message"] and "refuses fall-back" in refused.error["message"]
    asked = ask(gateway.port, llama(), "x-turnout-cluster: east")
    assert (asked.headers["x-turnout-pool"], asked.headers["x-turnout-fallback"]) == ("far", "from=near")


def fails_at_once(gateway: GatewayProcess) -> bool:
    answer = ask(gateway.port, llama())
    return answer.headers["x-turnout-pool"] == "far" and answer.headers["x-turnout-attempts"] == "1"


@contextmanager
def drained(gateway: GatewayProcess, pods: list[str]) -> Iterator[None]:
    """These pods are drained for the block."""
    try:
        for pod in pods:
            gateway.control.post(f"/admin/pods/{pod}/drain").raise_for_status()
        yield
    finally:
        for pod in pods:
            gateway.control.delete(f"/admin/pods/{pod}/drain").raise_for_status()


def test_the_error_names_every_pool_when_none_can_serve(gateway: GatewayProcess) -> None:
    with drained(gateway, [pod["id"] for pod in gateway.pods() if pod["pool"] in ("near", "far")]):
        answer = ask(gateway.port, llama())
    assert (answer.status, answer.error["code"]) == (503, "no_pod_available")
    assert "'near' has no pod for it, 'far' has no pod for it" in answer.error["message"]


def test_a_full_cluster_overflows_into_the_other(gateway: GatewayProcess) -> None:
    before = gateway.metric("turnout_fallbacks_total", reason="saturated")
    with ExitStack() as stack:
        for _ in range(24):
            wire = stack.enter_context(Wire("127.0.0.1", gateway.port))
            wire.send(post(endless() | {"model": "llama"}))
            assert b"x-turnout-pool: near" in wire.some()
        answer = ask(gateway.port, llama())
    assert (answer.headers["x-turnout-pool"], answer.headers["x-turnout-fallback"]) == ("far", "from=near")
    assert gateway.metric("turnout_fallbacks_total", reason="saturated") == before + 1
    gateway.settle()
    assert ask(gateway.port, llama()).headers["x-turnout-pool"] == "near"


def test_requests_by_cluster_add_up_to_all_requests(gateway: GatewayProcess) -> None:
    ask(gateway.port, llama())
    ask(gateway.port, llama(), "x-turnout-cluster: west", f"authorization: Bearer {KEY}")
    ask(gateway.port, chat(model="nonesuch"))
    by_cluster = {
        name: gateway.metric("turnout_cluster_requests_total", cluster=name) for name in ("east", "west", "-")
    }
    assert all(by_cluster.values())
    assert sum(by_cluster.values()) == gateway.metric("turnout_cluster_requests_total")
    assert sum(by_cluster.values()) == gateway.metric("turnout_requests_total")
    assert by_cluster["west"] == gateway.metric("turnout_requests_total", pool="far")
    assert gateway.metric("turnout_cluster_requests_total", cluster="-", status_class="4xx") >= 1
