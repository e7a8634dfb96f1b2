"""Simulated engines (`turnout sim`) as one process with a port for each engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

from loadtests.processes.owned import ANY_CORE, Owned, wait_until_ready
from loadtests.sim.ports import HOST, neighbouring_ports


class SimPods:
    """Its constructor returns when the engines listen; `stop` ends them, and so does the end of a `with` block."""

    def __init__(
        self, count: int, profile: str, directory: Path, control_port: int | None = None, *, speed: float = 1.0
    ) -> None:
        self.ports = neighbouring_ports(count)
        command = [sys.executable, "-m", "router", "sim", "--port", str(self.ports[0]), "--count", str(count)]
        options = [
            "--profile",
            profile,
            "--speed",
            f"{speed:g}",
            *(["--control-port", str(control_port)] if control_port else []),
        ]
        self.process = Owned([*command, *options], ANY_CORE, directory / "pods.log")
        ready = f"{HOST}:{control_port}/sim/pods" if control_port else f"{HOST}:{self.ports[-1]}/health"
        try:
            wait_until_ready(self.process, f"http://{ready}")
        except BaseException:
            self.stop()
            raise

    @property
    def urls(self) -> list[str]:
        """As a pool's `pods` setting takes them."""
        return [f"http://{HOST}:{port}" for port in self.ports]

    def stop(self) -> None:
        """End all engines."""
        self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
