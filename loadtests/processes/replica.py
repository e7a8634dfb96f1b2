"""A gateway as a process: its settings file, its command line, and what its ports answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST


class Slot(NamedTuple):
    """A replica's name and ports."""

    name: str
    port: int
    control: int


def listening(port: int, control: int, settle_s: float = 0.0, timeout_s: float = 0.5) -> dict[str, Any]:
    """The settings that every gateway on one machine needs; by default it does not wait for requests when it ends."""
    return {
        "listen": f"{HOST}:{port}",
        "control": {"listen": f"{HOST}:{control}"},
        "drain": {"settle_s": settle_s, "timeout_s": timeout_s},
    }


def pool(pods: Sequence[str], policy: str) -> dict[str, Any]:
    """The settings of the only pool; `pods` are URLs."""
    return {"name": "default", "pods": [*pods], "policy": {"name": policy}}


def settings(slot: Slot, state: str, pods: Sequence[str], policy: str, settle_s: float) -> dict[str, Any]:
    """The settings of one of several replicas."""
    return {
        **listening(slot.port, slot.control, settle_s, timeout_s=400.0),
        "state": state,
        "replica": slot.name,
        "pools": [pool(pods, policy)],
        "logging": {"format": "json"},
    }


def serve(python: str, given: Mapping[str, Any], path: Path) -> list[str]:
    """Write the settings file and return the command that serves it."""
    path.write_text(json.dumps(given, indent=1))  # JSON is YAML
    # -P: the installed build, which may be a compiled one, not the sources in the working directory.
    return [python, "-P", "-m", "router", "serve", "--config", str(path)]


class ReplicaProcess:
    """Started by its constructor; `stop` ends it."""

    def __init__(
        self,
        slot: Slot,
        given: Mapping[str, Any],
        directory: Path,
        python: str = sys.executable,
        before: Sequence[str] = (),
    ) -> None:
        """`before` comes before the Python on the command line: `env NAME=VALUE`."""
        self.slot = slot
        command = [*before, *serve(python, given, directory / f"{slot.name}.yaml")]
        self.process = Owned(command, ANY_CORE, directory / f"{slot.name}.log")
        # No connection is kept: a gateway that stood still for five seconds closes an idle one as a request comes.
        unkept = httpx.Limits(max_keepalive_connections=0)
        self._inference, self._control = (
            httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False, verify=False, timeout=60.0, limits=unkept)
            for port in (slot.port, slot.control)
        )

    def ready(self) -> bool:
        """Whether /readyz answers 200, as a load balancer asks. Raises RuntimeError, with its log, if it has ended."""
        if self.process.ended():
            raise RuntimeError(f"{self.slot.name} ended:\n{self.process.log.read_text()[-2000:]}")
        try:
            # Closed afterwards, so that no connection of this client is counted among those of the load.
            return self._inference.get("/readyz", headers={"connection": "close"}).status_code == 200
        except httpx.TransportError:
            return False

    def inflight(self) -> dict[str, int]:
        """Requests in flight by pod, over all replicas, in this replica's view."""
        pods = self._control.get("/admin/pods").raise_for_status().json()
        return {str(pod["address"]): int(pod["inflight"]) for pod in pods}

    def control(self, path: str) -> Any:
        """What the control port answers to a GET, read as JSON. Raises httpx.HTTPError."""
        return self._control.get(path).raise_for_status().json()

    def change(self, path: str, body: Mapping[str, Any]) -> None:
        """PUT to the control port. Raises httpx.HTTPError."""
        self._control.put(path, json=body).raise_for_status()

    def metric(self, name: str) -> float:
        """The sum of a metric's series; 0 if it has none. Raises httpx.HTTPError."""
        page = self._control.get("/metrics").raise_for_status().text
        lines = [line.split() for line in page.splitlines() if line.partition(" ")[0].partition("{")[0] == name]
        return sum(float(line[-1]) for line in lines)

    def leave(self) -> None:
        """SIGTERM: it settles, drains and ends."""
        self.process.terminate()

    def stop(self) -> None:
        """End it now."""
        self._inference.close()
        self._control.close()
        self.process.stop()
