"""`python -m loadtests.soak`: a million requests through one gateway with shared state; a quarter of them is given up
or fails. Exit status 1 if memory grew by more than 5 % after the first tenth, or if descriptors, requests in flight or
Redis' memory did.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import redis
import uvloop

from loadtests.processes import redis_server
from loadtests.processes.owned import wait_for
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess, Slot, settings
from loadtests.processes.sim_pods import SimPods
from loadtests.report.files import write_json
from loadtests.sim.ports import free_ports
from loadtests.soak.load import SoakLoad
from loadtests.soak.readings import Reading, failures, findings, read, table

FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "http_500", "rate": 0.02},
    {"kind": "close_before_first_byte", "rate": 0.02},
    {"kind": "reset_midstream", "rate": 0.02, "after_chunks": 1},
)
"""Of the first pods, one each: how they fail all the time."""


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument(
        "--parts", type=int, default=10, help="readings; the first is what the others are compared with"
    )
    parser.add_argument("--users", type=int, default=48, help="requests at a time")
    parser.add_argument("--pods", type=int, default=6)
    parser.add_argument("--python", default=sys.executable, help="runs the gateway: one with the compiled build")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args(argv)


def run(given: argparse.Namespace, directory: Path) -> tuple[list[Reading], SoakLoad]:
    """The whole soak in `directory`, which keeps the logs."""
    with ExitStack() as stack:
        pods = stack.enter_context(SimPods(given.pods, "tiny", directory, speed=4.0))
        server = stack.enter_context(RedisServer(directory))
        client = stack.enter_context(redis.Redis(port=server.port, socket_timeout=30.0))
        for url, fault in zip(pods.urls, FAULTS, strict=False):
            httpx.put(f"{url}/sim/faults", json=fault, trust_env=False).raise_for_status()
        slot = Slot("soak", *free_ports(2))
        chosen = settings(slot, server.url, pods.urls, "prefix_aware", 0.0)
        chosen["recording"] = {"path": str(directory / "soak.jsonl"), "max_bytes": 16 * 2**20}
        # Every index is full long before the first reading.
        chosen["prefix"] = {"max_bytes": 8 * 2**20}
        gateway = ReplicaProcess(slot, chosen, directory, given.python)
        stack.callback(gateway.stop)
        wait_for("the gateway is ready", gateway.ready)
        load, readings = SoakLoad(slot.port), list[Reading]()
        for part in range(given.parts):
            began = perf_counter()
            size = given.requests * (part + 1) // given.parts - load.sent
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(load.run(size, given.users))
            rate = size / (perf_counter() - began)
            readings.append(read(load.sent, gateway, client))
            sys.stderr.write(f"  {load.sent} requests, {rate:.0f} a second, {readings[-1].rss_bytes / 2**20:.1f} MB\n")
        return readings, load


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    given = options(argv)
    if not redis_server.program():
        sys.stderr.write("not installed: redis-server (Debian: apt-get install redis-server)\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="turnout-soak-") as directory:
        readings, load = run(given, Path(directory))
    outcomes = dict(sorted(load.outcomes.items()))
    wrong = [*findings(readings), *failures(outcomes)]
    sys.stdout.write("\n".join([*table(readings), *(f"{name}: {number}" for name, number in outcomes.items())]) + "\n")
    sys.stdout.write("".join(f"FAILED: {each}\n" for each in wrong) or "PASSED\n")
    numbers = {"readings": [each._asdict() for each in readings], "outcomes": outcomes, "wrong": wrong}
    write_json(given.json, numbers)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
