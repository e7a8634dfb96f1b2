"""The real Envoy with endpoint pickers, as a process; `loadtests/bench/epp/envoy.py` has its configuration."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from loadtests.bench.epp.envoy import FLAGS, envoy_config
from loadtests.sim.ports import HOST, free_ports
from tests.fakes.waiting import DEADLINE_S, wait_for


class EnvoyProcess(NamedTuple):
    """A running Envoy."""

    url: str
    admin: str
    pid: int

    def healthy(self) -> set[str]:
        """The pickers that it takes for healthy."""
        lines = httpx.get(f"{self.admin}/clusters", trust_env=False, timeout=DEADLINE_S).text.splitlines()
        found = [line.split("::") for line in lines if line.startswith("pickers::") and "::health_flags::" in line]
        return {address for _, address, _, flags in found if flags == "healthy"}


@contextmanager
def envoy(
    program: Path,
    directory: Path,
    pickers: Sequence[str],
    pods: Sequence[str],
    **options: Any,
) -> Iterator[EnvoyProcess]:
    """Envoy for the block, once it takes every picker for healthy. `options` are those of `envoy_config`."""
    port, admin = free_ports(2)
    config = envoy_config(port, admin, pickers, pods, **options)
    directory.mkdir(parents=True, exist_ok=True)
    file, log = directory / "envoy.json", directory / "envoy.log"
    file.write_text(json.dumps(config))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-c", str(file), *FLAGS], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        running = EnvoyProcess(f"http://{HOST}:{port}", f"http://{HOST}:{admin}", process.pid)

        def ready() -> bool:
            assert process.poll() is None, f"envoy ended:\n{log.read_text()}"
            try:
                return running.healthy() == set(pickers)
            except httpx.TransportError:
                return False

        wait_for("Envoy knows its pickers", ready)
        yield running
    finally:
        process.kill()
        process.wait(DEADLINE_S)
