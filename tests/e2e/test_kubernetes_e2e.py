"""A gateway process that finds its pods through an API server: pods come, fail probes, terminate and go under load, the
API server goes too, and no request fails. Engines and API server are simulated, over real sockets.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.kubernetes.api import PODS
from loadtests.kubernetes.objects import kubeconfig, pod_object
from loadtests.kubernetes.thread import KubeThread, kube_thread
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import chat
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

CLIENTS = 6
ROUNDS = 2


class ClientResults:
    """The answers of all clients."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.pods: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self._latest: deque[str] = deque(maxlen=60)

    def lately(self) -> set[str]:
        """The pods of the last answers."""
        return set(self._latest)

    def answer(self, answer: httpx.Response) -> None:
        """Add an answer, which must be whole."""
        if answer.status_code != 200 or not answer.text.endswith("data: [DONE]\n\n"):
            self.wrong.append(f"{answer.status_code} {answer.text[-200:]}")
            return
        pod = answer.headers["x-turnout-pod"]
        self.pods[pod] += 1
        self._latest.append(pod)
        self.attempts[answer.headers["x-turnout-attempts"]] += 1


class Cluster:
    """Pods on the simulated engines' ports. Each port may belong to one pod after the other."""

    def __init__(self, kube: KubeThread, sims: SimPods) -> None:
        self.kube = kube
        self._sims = sims
        self._made = 0
        self.names: dict[str, str] = {}
        """Engine's address -> the pod that uses it."""

    def apply(self, address: str, **fields: Any) -> None:
        """Make the API server report these fields of the pod at `address`."""
        host, _, port = address.rpartition(":")
        name = self.names[address]
        uid = f"{int(name.rpartition('-')[2]):08x}-0000-4000-8000-000000000000"
        found = pod_object(name, host, uid=uid, annotations={"turnout.dev/port": port}, **fields)
        self.kube.do(lambda api: api.put(PODS, found))

    def create(self, address: str) -> None:
        """Add a pod that is not ready yet."""
        self.names[address] = f"engine-{self._made}"
        self._made += 1
        self.apply(address, ready=False)

    def delete(self, address: str) -> None:
        """Remove the pod."""
        name = self.names.pop(address)
        self.kube.do(lambda api: api.delete(PODS, "llm", name))


@pytest.fixture
def cluster(sims: SimPods) -> Iterator[Cluster]:
    """Half of the engines are pods."""
    with kube_thread() as kube:
        made = Cluster(kube, sims)
        for address in sims.addresses[:3]:
            made.create(address)
            made.apply(address)
        yield made


def test_pods_that_come_flap_terminate_and_go_under_load_fail_no_request(
    sims: SimPods, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with gateway_on(cluster, tmp_path) as gateway, load(gateway) as results:
        wait_for("every pod has answered", lambda: len(results.lately()) == 3)
        there, free = list(sims.addresses[:3]), list(sims.addresses[3:])
        for _ in range(ROUNDS):
            for _ in range(3):
                old, new = there.pop(0), free.pop(0)
                come(cluster, gateway, sims, new)
                flap(cluster, gateway, there[0])
                go(cluster, gateway, sims, old)
                there.append(new)
                free.append(old)
            without_api_server(cluster, gateway, results)
        wait_for("every pod that is there has answered lately", lambda: len(results.lately()) == 3)
    assert results.wrong == []
    assert results.attempts == {"1": sum(results.attempts.values())}, "a request needed a second attempt"
    assert len(results.pods) == 3 + 3 * ROUNDS


@contextmanager
def load(gateway: GatewayProcess) -> Iterator[ClientResults]:
    """Clients that read one stream after the other during the block."""
    results, over = ClientResults(), threading.Event()

    def client() -> None:
        with httpx.Client(base_url=gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as session:
            while not over.is_set():
                try:
                    results.answer(session.post("/v1/chat/completions", json=chat(stream=True, max_tokens=20)))
                except httpx.HTTPError as error:
                    results.wrong.append(repr(error))

    with ThreadPoolExecutor(CLIENTS) as clients:
        running_clients = [clients.submit(client) for _ in range(CLIENTS)]
        try:
            yield results
        finally:
            over.set()
    for each in running_clients:
        each.result()


def gateway_on(cluster: Cluster, directory: Path) -> AbstractContextManager[GatewayProcess]:
    """A gateway that discovers the pods of the cluster."""
    file = directory / "kubeconfig"
    file.write_text(json.dumps(kubeconfig(cluster.kube.api)))
    source = f"kubernetes://llm?selector=app=vllm&kubeconfig={file}"
    policy = {"policy": {"name": "round_robin"}}
    return running(
        config((), pools=[pool("default", (), discovery={"source": source}, **policy)]), directory / "gateway"
    )


def blockers(gateway: GatewayProcess, address: str) -> list[str] | None:
    """Why the pod at `address` gets no requests; None if there is no pod."""
    found = [pod for pod in gateway.pods() if pod["address"] == address]
    return found[0]["blockers"] if found else None


def come(cluster: Cluster, gateway: GatewayProcess, sims: SimPods, address: str) -> None:
    """A pod comes; until it is ready its engine answers only 503."""
    sims.fault(address, "http_503", scope="all")
    cluster.create(address)
    sims.well(address)
    cluster.apply(address)
    wait_for("it is routable", lambda: blockers(gateway, address) == [])


def flap(cluster: Cluster, gateway: GatewayProcess, address: str) -> None:
    """A pod fails its readiness probe for a while."""
    before = gateway.pod(address)["id"]
    cluster.apply(address, ready=False)
    wait_for("the pod is unready", lambda: blockers(gateway, address) == ["not_ready"])
    cluster.apply(address)
    wait_for("the pod is routable", lambda: blockers(gateway, address) == [])
    assert gateway.pod(address)["id"] == before


def go(cluster: Cluster, gateway: GatewayProcess, sims: SimPods, address: str) -> None:
    """A pod terminates: it finishes its requests, gets no new ones, and is removed."""
    cluster.apply(address, terminating=True)
    wait_for("the pod is terminating", lambda: blockers(gateway, address) == ["terminating"])
    # The gateway's own count: a request may be on its way, and the pod has not seen it yet.
    wait_for("the gateway has no request there", lambda: gateway.pod(address)["inflight"] == 0)
    wait_for("the pod has no open request", lambda: sims.state(address)["open_requests"] == 0)
    served = sims.served(address)
    sims.fault(address, "http_503", scope="all")
    cluster.delete(address)
    wait_for("the pod is removed", lambda: blockers(gateway, address) is None)
    assert sims.served(address) == served


def without_api_server(cluster: Cluster, gateway: GatewayProcess, results: ClientResults) -> None:
    """The API server goes, and the gateway keeps the pods it knows."""

    def down(api: Any) -> None:
        api.down = True
        api.cut()

    before = [(pod["id"], pod["routable"]) for pod in gateway.pods()]
    cluster.kube.do(down)
    answered = sum(results.pods.values())
    wait_for("requests go on", lambda: sum(results.pods.values()) > answered + 50)
    assert [(pod["id"], pod["routable"]) for pod in gateway.pods()] == before
    cluster.kube.do(lambda api: setattr(api, "down", False))
