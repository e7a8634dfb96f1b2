"""Agents with state on volumes behind two gateways: a StatefulSet of the example agent on a stub of the Kubernetes API,
rescheduled and rolled, and the gateways rolled too, under load of a thousand sessions.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtests.kubernetes.objects import kubeconfig
from loadtests.kubernetes.thread import KubeThread, kube_thread
from tests.fakes.agent_set import AgentSet
from tests.fakes.gateway_process import GatewayProcess, config, pool, running, starting
from tests.fakes.raw_http_client import Answer, Closed, Wire, get, post
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.realtime]

SESSIONS = 1000
CLIENTS = 8
PODS = 3
LOST_IN_THE_MIDDLE = 502
"""The pod was gone before its answer: whether the message was kept is not known, so it is sent again, with its id."""


class Clients:
    """Each sends one message after the other, of one session after the other, and repeats those without an answer."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.homes: defaultdict[str, set[str]] = defaultdict(set)
        """Session -> the pods that answered it."""
        self.kept: defaultdict[str, int] = defaultdict(int)
        """Session -> its messages that were answered."""
        self.wrong: list[str] = []
        self.repeated = 0
        self.moved: set[int] = set()
        """Clients that use another gateway than at first."""
        self.over = threading.Event()

    @property
    def answered(self) -> int:
        """All messages that were answered."""
        return sum(self.kept.values())

    def run(self, number: int) -> None:
        """One client: its part of the sessions, at least once and until all is over."""
        mine = [f"s{each}" for each in range(number, SESSIONS, CLIENTS)]
        used, wire = self.gateway, Wire("127.0.0.1", self.gateway.port)
        first = True
        while first or not self.over.is_set():
            for session in mine:
                if used is not self.gateway:  # as a load balancer, which sends no new request to what drains
                    wire.close()
                    used, wire = self.gateway, Wire("127.0.0.1", self.gateway.port)
                    self.moved.add(number)
                wire = self._send(wire, session)
                if self.over.is_set() and not first:
                    break
            first = False
        wire.close()

    def _send(self, wire: Wire, session: str) -> Wire:
        message = {"id": f"m{self.kept[session]}", "text": "x"}
        while True:
            wire.send(post(message, path=f"/agents/{session}/messages"))
            try:
                answer = wire.answer()
            except Closed as closed:
                self.wrong.append(f"{session}: {closed}")
                return Wire("127.0.0.1", self.gateway.port)
            if answer.status != LOST_IN_THE_MIDDLE:
                self._check(session, answer)
                return self._next(wire, answer)
            self.repeated += 1
            wire = self._next(wire, answer)

    def _next(self, wire: Wire, answer: Answer) -> Wire:
        if answer.headers.get("connection") != "close":
            return wire
        wire.close()
        return Wire("127.0.0.1", self.gateway.port)

    def _check(self, session: str, answer: Answer) -> None:
        said: dict[str, Any] = answer.json() if answer.status == 200 else {}
        if said.get("messages") != self.kept[session] + 1:
            self.wrong.append(f"{session}: {answer.status} {answer.body!r} after {self.kept[session]}")
            return
        self.kept[session] += 1
        self.homes[session].add(said["pod"])


@contextmanager
def load(gateway: GatewayProcess) -> Iterator[Clients]:
    """Clients that send during the block."""
    clients = Clients(gateway)
    with ThreadPoolExecutor(CLIENTS) as threads:
        runs: list[Future[None]] = [threads.submit(clients.run, number) for number in range(CLIENTS)]
        try:
            yield clients
        finally:
            clients.over.set()
    for each in runs:
        each.result()


def agents_on(kube: KubeThread, directory: Path, replica: str) -> dict[str, Any]:
    """The settings of a gateway in front of the agents."""
    file = directory / "kubeconfig"
    file.write_text(json.dumps(kubeconfig(kube.api)))
    fields = {
        "kind": "http",
        "discovery": {"source": f"kubernetes://llm?selector=app=agent&kubeconfig={file}"},
        "service": {"paths": ["/agents/*"], "session": ["header:x-agent-id", "path:1"]},
        "policy": {"name": "session_affinity"},
        "affinity": "hold",
    }
    limits = {"queue_timeout_s": DEADLINE_S}
    return config((), pools=[pool("agents", (), **fields)], limits=limits, replica=replica)


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeThread]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with kube_thread() as thread:
        yield thread


@pytest.fixture
def agents(kube: KubeThread, tmp_path: Path) -> Iterator[AgentSet]:
    made = AgentSet(kube, tmp_path / "volumes", PODS)
    try:
        yield made
    finally:
        made.stop()


def waiting(gateway: GatewayProcess) -> float:
    """Requests in the gateway's queues."""
    return gateway.metric("turnout_scale_signal_waiting_requests", pool="agents")


def go_on(clients: Clients, requests: int = 50) -> None:
    before = clients.answered
    wait_for("messages are answered", lambda: clients.answered > before + requests)


def test_rolls_of_agents_and_gateways_and_a_lost_node_keep_every_session_on_its_pod(
    kube: KubeThread, agents: AgentSet, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(starting(agents_on(kube, tmp_path, "one"), tmp_path / "one"))
        old.wait_until_ready()
        with running(agents_on(kube, tmp_path, "two"), tmp_path / "two") as new, load(old) as clients:
            wait_for("every session has answered", lambda: len(clients.homes) == SESSIONS)
            for name in sorted(agents.pods, reverse=True):  # the order of a StatefulSet's roll
                agents.terminate(name, [old, new])
                wait_for("a session waits for its pod", lambda: waiting(old))
                agents.schedule(name)
                go_on(clients)
            assert (clients.wrong, clients.repeated) == ([], 0), "a roll fails nothing"
            clients.gateway = new  # the gateways roll: the other one has seen none of these sessions
            wait_for("every client has moved", lambda: len(clients.moved) == CLIENTS)
            old.signal()
            assert old.ended() == 0
            agents.lose("agent-1")
            wait_for("a session waits for its pod", lambda: waiting(new))
            agents.schedule("agent-1")
            go_on(clients)
        assert clients.wrong == []
        assert [session for session, pods in clients.homes.items() if len(pods) != 1] == [], "on a wrong pod"
        assert {pod for pods in clients.homes.values() for pod in pods} == {f"agent-{each}" for each in range(PODS)}


def test_what_a_session_said_is_there_after_all_and_comes_as_events(
    kube: KubeThread, agents: AgentSet, tmp_path: Path
) -> None:
    with (
        running(agents_on(kube, tmp_path, "one"), tmp_path / "one") as gateway,
        Wire("127.0.0.1", gateway.port) as wire,
    ):
        for number in range(3):
            for again in range(2):
                wire.send(post({"id": f"m{number}", "text": f"{again}"}, path="/agents/seven/messages"))
                answer = wire.answer()
                assert answer.json()["messages"] == number + 1
        home = answer.headers["x-turnout-pod"]
        name = home.partition(".")[0]
        agents.terminate(name, [gateway])
        agents.schedule(name)
        wire.send(get("/agents/other/events", "x-agent-id: seven"))
        assert (wire.answer().headers["x-turnout-pod"], home) == (home, f"{name}.llm")
        wire.send(get("/agents/seven/events"))
        answer = wire.answer()
        assert answer.headers["content-type"] == "text/event-stream"
        events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line]
        assert events == [{"id": f"m{number}", "text": "0"} for number in range(3)]
