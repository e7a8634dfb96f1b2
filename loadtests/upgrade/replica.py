"""A gateway replica as a process: its settings file, and what it says of itself. Ended by its pid."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from loadtests.bench.load.process import ANY_CORE, Owned
from loadtests.sim.ports import HOST


class Slot(NamedTuple):
    """A replica's name and ports."""

    name: str
    port: int
    control: int


def settings(slot: Slot, state: str, pods: Sequence[str], policy: str, settle_s: float) -> dict[str, Any]:
    """The settings file: defaults, but for what a test on one machine has to say."""
    return {
        "listen": f"{HOST}:{slot.port}",
        "control": {"listen": f"{HOST}:{slot.control}"},
        "state": state,
        "replica": slot.name,
        "pools": [{"name": "default", "pods": list(pods), "policy": {"name": policy}}],
        "drain": {"settle_s": settle_s, "timeout_s": 400.0},
        "logging": {"format": "json"},
    }


class ReplicaProcess:
    """Started by its constructor."""

    def __init__(self, slot: Slot, given: Mapping[str, Any], directory: Path, python: str = sys.executable) -> None:
        self.slot = slot
        file = directory / f"{slot.name}.yaml"
        file.write_text(json.dumps(given, indent=1))  # JSON is YAML
        command = [python, "-P", "-m", "router", "serve", "--config", str(file)]
        self.process = Owned(command, ANY_CORE, directory / f"{slot.name}.log")
        self._inference = httpx.Client(
            base_url=f"http://{HOST}:{slot.port}", trust_env=False, verify=False, timeout=60.0
        )
        self._control = httpx.Client(
            base_url=f"http://{HOST}:{slot.control}", trust_env=False, verify=False, timeout=60.0
        )

    def ready(self) -> bool:
        """What a load balancer hears. Raises RuntimeError, with its last words, if it has ended."""
        if self.process.ended():
            raise RuntimeError(f"{self.slot.name} ended:\n{self.process.log.read_text()[-2000:]}")
        try:
            return self._inference.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def inflight(self) -> dict[str, int]:
        """Requests in flight by pod, over all replicas, as this one sees it."""
        pods = self._control.get("/admin/pods").raise_for_status().json()
        return {str(pod["address"]): int(pod["inflight"]) for pod in pods}

    def leave(self) -> None:
        """SIGTERM: it settles, drains and ends."""
        self.process.terminate()

    def stop(self) -> None:
        """End it now."""
        self._inference.close()
        self._control.close()
        self.process.stop()
