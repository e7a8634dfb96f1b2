"""`python -m loadtests.swaps`: replicas on Redis and simulated pods as processes, conversations through all replicas,
and 200 policy swaps a minute. Exit status 1 if a request failed or leaked, or if decisions took longer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from loadtests.processes import redis_server
from loadtests.processes.owned import wait_for
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess, Slot, settings
from loadtests.processes.sim_pods import SimPods
from loadtests.report.files import write_json
from loadtests.sim.ports import HOST, free_ports
from loadtests.swaps.play import Gateway, Outcome, Plan, play
from loadtests.swaps.report import as_json, lines


def run(plan: Plan, replicas: int, pods: int, directory: Path) -> Outcome:
    """One run in `directory`, which keeps the logs."""
    with ExitStack() as stack:
        urls = stack.enter_context(SimPods(pods, "tiny", directory)).urls
        state = stack.enter_context(RedisServer(directory)).url if replicas > 1 else "memory://"
        ports = free_ports(2 * replicas)
        slots = [Slot(f"replica-{at}", ports[2 * at], ports[2 * at + 1]) for at in range(replicas)]
        for slot in slots:
            replica = ReplicaProcess(slot, settings(slot, state, urls, "prefix_aware", 0.0), directory)
            stack.callback(replica.stop)
            wait_for(f"{slot.name} is ready", replica.ready)
        gateways = [Gateway(f"http://{HOST}:{slot.port}", f"http://{HOST}:{slot.control}") for slot in slots]
        return uvloop.run(play(gateways, plan))


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.swaps", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=Plan().rush_s, help="of swapping")
    parser.add_argument("--calm", type=float, default=Plan().calm_s, help="seconds between, to compare with")
    parser.add_argument("--per-minute", type=float, default=Plan().swaps_per_minute)
    parser.add_argument("--users", type=int, default=Plan().users, help="conversations at a time, by replica")
    parser.add_argument("--replicas", type=int, default=2, help="1 runs without Redis")
    parser.add_argument("--pods", type=int, default=6)
    parser.add_argument("--json", type=Path, help="write all numbers here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print and write."""
    given = options(argv)
    if given.replicas > 1 and not redis_server.program():
        sys.stderr.write("not installed: redis-server (Debian: apt-get install redis-server)\n")
        return 2
    plan = Plan(given.calm, given.seconds, swaps_per_minute=given.per_minute, users=given.users)
    with tempfile.TemporaryDirectory(prefix="turnout-swaps-") as directory:
        outcome = run(plan, given.replicas, given.pods, Path(directory))
    sys.stdout.write("\n".join(lines(outcome)) + "\n")
    write_json(given.json, as_json(outcome))
    return int(not outcome.passed)


if __name__ == "__main__":
    raise SystemExit(main())
