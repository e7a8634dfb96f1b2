"""A StatefulSet of the example agent (deploy/kubernetes/overlays/agents) as processes: each pod keeps its name and its
volume, and gets another address each time it is scheduled. The stub API server reports them as Kubernetes would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Final

from loadtests.kubernetes.api import PODS
from loadtests.kubernetes.objects import pod_object
from loadtests.kubernetes.thread import KubeThread
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.rendered_manifests import KUBERNETES
from tests.fakes.waiting import DEADLINE_S, wait_for

AGENT: Final = KUBERNETES / "overlays" / "agents" / "agent.py"
HOST: Final = "127.0.0.1"


class AgentPod:
    """One process of a pod."""

    def __init__(self, name: str, volume: Path, uid: str) -> None:
        self.name = name
        self.uid = uid
        own = {"POD_NAME": name, "STATE_DIR": str(volume), "SETTLE_S": "0", "HOST": HOST, "PORT": "0"}
        command = [sys.executable, str(AGENT)]
        self._process = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(f"{name} listens"), line
        self.port = int(line.rpartition(" ")[2])

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{HOST}:{self.port}"

    def end(self, number: int = signal.SIGTERM) -> None:
        """Signal the process and wait for its end."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(DEADLINE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


class AgentSet:
    """The set, as its controller and the kubelets treat it."""

    def __init__(self, kube: KubeThread, directory: Path, size: int) -> None:
        self._kube = kube
        self._directory = directory
        self._uids = count(1)
        self.pods: dict[str, AgentPod] = {}
        for number in range(size):
            self.schedule(f"agent-{number}")

    def schedule(self, name: str) -> None:
        """Start the pod at a new address, with its volume. It is ready at once."""
        pod = self.pods[name] = AgentPod(name, self._directory / name, f"{next(self._uids):08x}-0000-4000-8000-0")
        self._report(pod)

    def terminate(self, name: str, gateways: list[GatewayProcess]) -> None:
        """Delete the pod in good order: gateways see that it terminates while its preStop hook or its own settling
        lasts, then it finishes its requests and is gone."""
        pod = self.pods[name]
        self._report(pod, terminating=True)
        for gateway in gateways:
            wait_for(f"{name} terminates", lambda gateway=gateway: _blockers(gateway, pod) == ["terminating"])  # type: ignore[misc]
            wait_for("its requests end", lambda gateway=gateway: gateway.pod(pod.address)["inflight"] == 0)  # type: ignore[misc]
        pod.end()
        self._remove(pod)

    def lose(self, name: str) -> None:
        """The pod's node is gone, and the pod with it."""
        pod = self.pods[name]
        pod.end(signal.SIGKILL)
        self._remove(pod)

    def stop(self) -> None:
        """End all processes."""
        for pod in self.pods.values():
            pod.end(signal.SIGKILL)

    def _remove(self, pod: AgentPod) -> None:
        self._kube.do(lambda api: api.delete(PODS, "llm", pod.name))

    def _report(self, pod: AgentPod, *, terminating: bool = False) -> None:
        found = pod_object(
            pod.name,
            HOST,
            uid=pod.uid,
            terminating=terminating,
            labels={"app": "agent"},
            annotations={"turnout.dev/port": str(pod.port)},
            stateful_set="agent",
        )
        self._kube.do(lambda api: api.put(PODS, found))


def _blockers(gateway: GatewayProcess, pod: AgentPod) -> list[str] | None:
    found = [each for each in gateway.pods() if each["address"] == pod.address]
    return found[0]["blockers"] if found else None
