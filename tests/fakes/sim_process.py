"""Simulated pods in their own process (`turnout sim`), with faults that a test can switch on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from loadtests.sim.ports import HOST, free_ports, neighbouring_ports
from tests.fakes.waiting import DEADLINE_S, wait_for

MODEL = "sim-model"


class SimPods:
    """Pods on neighbouring ports; faults and states go over a control port, so that a pod may refuse connections."""

    def __init__(self, count: int, log: Path, *options: str, first: int = 0) -> None:
        """`first` is the first pod's port, for tests that restart pods on the same ports."""
        self.log = log
        first, control = first or neighbouring_ports(count)[0], free_ports(1)[0]
        self.addresses = [f"{HOST}:{first + at}" for at in range(count)]
        command = [sys.executable, "-m", "router", "sim", "--port", str(first), "--count", str(count)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--control-port", str(control), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._control = httpx.Client(
            base_url=f"http://{HOST}:{control}",
            trust_env=False,
            verify=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=DEADLINE_S,
        )
        self.struck: set[str] = set()
        """Pods with a fault switched on."""
        try:
            wait_for("the simulated pods listen", self._listening)
        except BaseException:
            self.kill()
            raise

    def _listening(self) -> bool:
        assert self._process.poll() is None, f"turnout sim ended:\n{self.log.read_text()}"
        return self.log.read_text().count("\n") >= len(self.addresses)

    @property
    def urls(self) -> list[str]:
        """The pods' URLs for a configuration."""
        return [f"http://{address}" for address in self.addresses]

    def fault(self, pod: str, kind: str, **fields: Any) -> None:
        """Switch a fault on for the pod with this address."""
        answer = self._control.put(self._path(pod, "faults"), json={"kind": kind} | fields)
        assert answer.status_code == 200, answer.text
        self.struck.add(pod)

    def well(self, *pods: str) -> None:
        """Switch the faults of these pods off; default: all."""
        for pod in pods or tuple(self.struck):
            assert self._control.delete(self._path(pod, "faults")).status_code == 200
            self.struck.discard(pod)

    def state(self, pod: str) -> dict[str, Any]:
        """The pod's answer to GET /sim/state."""
        shown: dict[str, Any] = self._control.get(self._path(pod, "state")).raise_for_status().json()
        return shown

    def total(self, field: str) -> int:
        """The sum of a field over all pods' states."""
        return sum(int(self.state(pod)[field]) for pod in self.addresses)

    def served(self, pod: str) -> int:
        """The number of inference requests that the pod has received."""
        by_path: dict[str, int] = self.state(pod)["by_path"]
        return sum(count for path, count in by_path.items() if path.startswith("/v1/") and path != "/v1/models")

    def idle(self) -> bool:
        """Whether no pod has an open request or one in its engine."""
        states = self._control.get("/sim/pods").raise_for_status().json()
        return not any(state["open_requests"] or state["running"] or state["waiting"] for state in states)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, until `go_on`."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT: the end of `pause`."""
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop the pods."""
        self._control.close()
        self._process.terminate()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the pods with SIGKILL."""
        self._control.close()
        if self._process.poll() is None:
            # The process leads its own session, so this kills only the process and its children.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_S)

    def _path(self, pod: str, what: str) -> str:
        return f"/sim/{pod.rpartition(':')[2]}/{what}"


@contextmanager
def sim_pods(count: int, log: Path, *options: str) -> Iterator[SimPods]:
    """Simulated pods for the block."""
    pods = SimPods(count, log, *options)
    try:
        yield pods
    finally:
        pods.stop()
