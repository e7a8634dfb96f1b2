"""`python -m loadtests.bench.start`: seconds from the beginning of a replica's warm-up until it is ready, by pods.

For each number of pods: real Redis, one process that answers for all pods, and replicas that start one after another.
The first finds nothing in the shared state; the last finds pods that all others know. `--dead N` pods of each hundred
refuse connections.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from loadtests.bench.freeze.nameserver import addresses
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess, Slot, settings
from loadtests.sim.ports import HOST, free_ports

LIMIT_S = 120.0
"""Seconds after which a replica is no longer waited for."""
LOOK_S = 0.02


class Started(NamedTuple):
    """How one replica started."""

    warming_s: float
    """From the beginning of its warm-up until it was ready."""
    cold: bool
    routable: int
    """Pods in the rotation when it was ready."""
    cpu_s: float
    """Time on the processor, since it was started."""


@contextmanager
def pods_process() -> Iterator[int]:
    """The port on which one process answers for every address of 127.0.0.0/8."""
    command = [sys.executable, "-m", "loadtests.bench.freeze.cluster", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split()[1])
        finally:
            process.terminate()


def start(slot: Slot, given: dict[str, Any], directory: Path, stack: ExitStack) -> Started:
    """Start a replica and wait until it is ready. Raises TimeoutError."""
    replica = ReplicaProcess(slot, given, directory)
    stack.callback(replica.stop)
    end = time.monotonic() + LIMIT_S
    while not replica.ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{slot.name} is not ready after {LIMIT_S:g} s")
        time.sleep(LOOK_S)
    with closing(httpx.Client(base_url=f"http://{HOST}:{slot.control}", trust_env=False, timeout=60.0)) as control:
        state = control.get("/admin/state").raise_for_status().json()
        pods = control.get("/admin/pods").raise_for_status().json()
    fields = Path(f"/proc/{replica.process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / 100
    return Started(state["phase_seconds"]["warming"], state["cold"], sum(pod["routable"] for pod in pods), cpu_s)


def measure(pods: int, dead: int, replicas: int, extra: dict[str, Any]) -> list[Started]:
    """Start the replicas one after another, each after the last is ready and all pods have been probed."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-start-")))
        server = stack.enter_context(RedisServer(directory))
        port = stack.enter_context(pods_process())
        urls = [f"http://{host}:{1 if at % 100 < dead else port}" for at, host in enumerate(addresses(pods, 0))]
        started = []
        for number in range(1, replicas + 1):
            slot = Slot(f"replica-{number}", *free_ports(2))
            given = settings(slot, server.url, urls, "least_load", 0.0) | extra
            started.append(start(slot, given, directory, stack))
        return started


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.start", description=__doc__)
    parser.add_argument("pods", nargs="*", type=int, default=[200, 1000, 5000])
    parser.add_argument("--dead", type=int, default=0, metavar="N", help="pods of each hundred that refuse connections")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--limit-s", type=float, default=60.0, help="warmup_timeout_s")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    chosen = options(argv)
    sys.stdout.write("| pods | replica | s until ready | cold | routable | CPU s |\n|---|---|---|---|---|---|\n")
    for pods in chosen.pods:
        extra = {"warmup_timeout_s": chosen.limit_s}
        for number, each in enumerate(measure(pods, chosen.dead, chosen.replicas, extra), 1):
            cold = "cold" if each.cold else ""
            row = f"| {pods:,} | {number} | {each.warming_s:.2f} | {cold} | {each.routable:,} | {each.cpu_s:.1f} |"
            sys.stdout.write(row + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
