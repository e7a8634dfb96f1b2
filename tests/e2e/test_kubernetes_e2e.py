"""A gateway process whose pods an API server tells of: they come, fail probes, terminate and go under load, the API
server goes too, and no client notices. Engines and API server are simulated, all of it is over real sockets.
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

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.kube_api import PODS
from tests.fakes.kube_objects import kubeconfig, pod_object
from tests.fakes.kube_thread import KubeThread, kube_thread
from tests.fakes.raw_http_client import chat
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

CLIENTS = 6
ROUNDS = 2


class Told:
    """What clients were told."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.pods: Counter[str] = Counter()
        self.attempts: Counter[str] = Counter()
        self._latest: deque[str] = deque(maxlen=60)

    def lately(self) -> set[str]:
        """Pods of the last answers."""
        return set(self._latest)

    def answer(self, answer: httpx.Response) -> None:
        """A whole answer."""
        if answer.status_code != 200 or not answer.text.endswith("data: [DONE]\n\n"):
            self.wrong.append(f"{answer.status_code} {answer.text[-200:]}")
            return
        pod = answer.headers["x-turnout-pod"]
        self.pods[pod] += 1
        self._latest.append(pod)
        self.attempts[answer.headers["x-turnout-attempts"]] += 1


class Cluster:
    """Pods on the simulated engines' ports, of which each may be lent to one after the other."""

    def __init__(self, kube: KubeThread, sims: SimPods) -> None:
        self.kube = kube
        self._sims = sims
        self._made = 0
        self.names: dict[str, str] = {}
        """Engine's address -> the pod that has it."""

    def tell(self, address: str, **fields: Any) -> None:
        """What the API server says of the pod there."""
        host, _, port = address.rpartition(":")
        name = self.names[address]
        uid = f"{int(name.rpartition('-')[2]):08x}-0000-4000-8000-000000000000"
        found = pod_object(name, host, uid=uid, annotations={"turnout.dev/port": port}, **fields)
        self.kube.do(lambda api: api.put(PODS, found))

    def create(self, address: str) -> None:
        """A new pod there, which is not ready yet."""
        self.names[address] = f"engine-{self._made}"
        self._made += 1
        self.tell(address, ready=False)

    def delete(self, address: str) -> None:
        """It is gone."""
        name = self.names.pop(address)
        self.kube.do(lambda api: api.delete(PODS, "llm", name))


@pytest.fixture
def cluster(sims: SimPods) -> Iterator[Cluster]:
    """Half of the engines are pods."""
    with kube_thread() as kube:
        made = Cluster(kube, sims)
        for address in sims.addresses[:3]:
            made.create(address)
            made.tell(address)
        yield made


def test_pods_that_come_flap_terminate_and_go_under_load_cost_no_request(
    sims: SimPods, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with gateway_on(cluster, tmp_path) as gateway, load(gateway) as told:
        wait_for("every pod has answered", lambda: len(told.lately()) == 3)
        there, free = list(sims.addresses[:3]), list(sims.addresses[3:])
        for _ in range(ROUNDS):
            for _ in range(3):
                old, new = there.pop(0), free.pop(0)
                come(cluster, gateway, sims, new)
                flap(cluster, gateway, there[0])
                go(cluster, gateway, sims, old)
                there.append(new)
                free.append(old)
            without_api_server(cluster, gateway, told)
        wait_for("every pod that is there has answered lately", lambda: len(told.lately()) == 3)
    assert told.wrong == []
    assert told.attempts == {"1": sum(told.attempts.values())}, "somebody had to be asked twice"
    assert len(told.pods) == 3 + 3 * ROUNDS


@contextmanager
def load(gateway: GatewayProcess) -> Iterator[Told]:
    """Clients that stream one answer after the other through the block."""
    told, over = Told(), threading.Event()

    def client() -> None:
        with httpx.Client(base_url=gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as session:
            while not over.is_set():
                try:
                    told.answer(session.post("/v1/chat/completions", json=chat(stream=True, max_tokens=20)))
                except httpx.HTTPError as error:
                    told.wrong.append(repr(error))

    with ThreadPoolExecutor(CLIENTS) as clients:
        running_clients = [clients.submit(client) for _ in range(CLIENTS)]
        try:
            yield told
        finally:
            over.set()
    for each in running_clients:
        each.result()


def gateway_on(cluster: Cluster, directory: Path) -> AbstractContextManager[GatewayProcess]:
    """A gateway whose pods are the cluster's."""
    file = directory / "kubeconfig"
    file.write_text(json.dumps(kubeconfig(cluster.kube.api)))
    source = f"kubernetes://llm?selector=app=vllm&kubeconfig={file}"
    policy = {"policy": {"name": "round_robin"}}
    return running(
        config((), pools=[pool("default", (), discovery={"source": source}, **policy)]), directory / "gateway"
    )


def blockers(gateway: GatewayProcess, address: str) -> list[str] | None:
    """Why the pod there is out; None if there is none."""
    found = [pod for pod in gateway.pods() if pod["address"] == address]
    return found[0]["blockers"] if found else None


def come(cluster: Cluster, gateway: GatewayProcess, sims: SimPods, address: str) -> None:
    """A pod comes; until it is ready its engine answers nothing but 503."""
    sims.fault(address, "http_503", scope="all")
    cluster.create(address)
    sims.well(address)
    cluster.tell(address)
    wait_for("it is routable", lambda: blockers(gateway, address) == [])


def flap(cluster: Cluster, gateway: GatewayProcess, address: str) -> None:
    """A pod fails its readiness probe for a while."""
    before = gateway.pod(address)["id"]
    cluster.tell(address, ready=False)
    wait_for("it is out", lambda: blockers(gateway, address) == ["not_ready"])
    cluster.tell(address)
    wait_for("it is back", lambda: blockers(gateway, address) == [])
    assert gateway.pod(address)["id"] == before


def go(cluster: Cluster, gateway: GatewayProcess, sims: SimPods, address: str) -> None:
    """A pod terminates: it finishes what it has, gets nothing new, and is gone."""
    cluster.tell(address, terminating=True)
    wait_for("it is out", lambda: blockers(gateway, address) == ["terminating"])
    # The gateway's own count: a request may be on its way, and the pod has not seen it yet.
    wait_for("its streams are through", lambda: gateway.pod(address)["inflight"] == 0)
    wait_for("the pod has let them go", lambda: sims.state(address)["open_requests"] == 0)
    served = sims.served(address)
    sims.fault(address, "http_503", scope="all")
    cluster.delete(address)
    wait_for("it is gone", lambda: blockers(gateway, address) is None)
    assert sims.served(address) == served


def without_api_server(cluster: Cluster, gateway: GatewayProcess, told: Told) -> None:
    """The API server goes, and pods stay what they were."""

    def down(api: Any) -> None:
        api.down = True
        api.cut()

    before = [(pod["id"], pod["routable"]) for pod in gateway.pods()]
    cluster.kube.do(down)
    answered = sum(told.pods.values())
    wait_for("requests go on", lambda: sum(told.pods.values()) > answered + 50)
    assert [(pod["id"], pod["routable"]) for pod in gateway.pods()] == before
    cluster.kube.do(lambda api: setattr(api, "down", False))
