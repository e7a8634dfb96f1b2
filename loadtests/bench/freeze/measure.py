"""One case: a simulated cluster, a gateway with the case's settings, and streams with and without a disturbance.

The gateway has one core to itself; cluster and streams share another.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.freeze.cases import Case, Ports, Stage, until
from loadtests.bench.freeze.report import Row, Window, window
from loadtests.bench.load.cases import CASES as LOADS
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.stream_load import Pids, order
from loadtests.bench.load.streams import Opened
from loadtests.bench.load.tally import Tally
from loadtests.processes.owned import NotReady, Owned, wait_for, wait_until_ready
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import listening, serve
from loadtests.sim.ports import free_ports
from statesync.tasks import spawn

CLUSTER = "loadtests.bench.freeze.cluster"
START_S = 60.0
CALM_S = 1.0
"""After a disturbance, before the next window is counted."""


class Plan(NamedTuple):
    """The size of a measurement."""

    pods: int = 1000
    streams: int = 64
    seconds: float = 5.0
    """A window."""
    rounds: int = 3
    """Pairs of windows, quiet and disturbed in turn."""
    python: str = "python"
    """The gateway's."""


def run(name: str, case: Case, plan: Plan, directory: Path) -> Row:
    """Start everything, measure, end everything. Raises NotReady and NotDisturbed."""
    with ExitStack() as stack:
        ports = free_ports(2)
        redis = stack.enter_context(RedisServer(directory, LOAD_CORE)) if case.redis else None
        cluster = stack.enter_context(
            Owned([sys.executable, "-m", CLUSTER, str(plan.pods)], LOAD_CORE, directory / "cluster.log")
        )
        where = Ports(plan.pods, *_ports_of(cluster), redis.url if redis is not None else "memory://")
        settings = {**listening(*ports), "default_pool": "default", **case.settings(where)}
        command = serve(plan.python, settings, directory / "turnout.yaml")
        gateway = stack.enter_context(Owned(command, ROUTER_CORE, directory / "gateway.log"))
        wait_until_ready(gateway, f"http://127.0.0.1:{ports[1]}/readyz", START_S)
        staged = Stage(("127.0.0.1", ports[1]), cluster, cluster.log, redis)
        pairs = asyncio.run(_watch(f"http://127.0.0.1:{ports[0]}", case, plan, staged))
    return Row(name, case.title.format(pods=f"{plan.pods:,}"), [each[0] for each in pairs], [each[1] for each in pairs])


async def _watch(url: str, case: Case, plan: Plan, stage: Stage) -> list[tuple[Window, Window]]:
    """Open the streams, wait until all have begun, then a quiet and a disturbed window in turn."""
    load = LOADS["paced-256"]._replace(connections=plan.streams)
    opened = Opened(order(url, load, 0, 0, Pids((), ())))
    for _ in range(plan.streams):
        spawn(opened.connect(), "connect")
        await asyncio.sleep(1.3 / plan.streams)  # streams that began together would end together
    await until("all streams have begun", opened.all_begun.is_set)
    pairs: list[tuple[Window, Window]] = []
    for _ in range(plan.rounds):
        opened.tally = Tally()
        await asyncio.sleep(plan.seconds)
        quiet = window(opened.tally, 0)
        opened.tally = Tally()
        happened = await case.disturb(stage, plan.seconds)
        pairs.append((quiet, window(opened.tally, happened)))
        await asyncio.sleep(min(CALM_S, plan.seconds))
    await opened.close()
    return pairs


def _ports_of(cluster: Owned) -> tuple[int, int]:
    """Where the pods and the DNS server listen. Raises NotReady."""
    wait_for("the pods and the DNS server listen", lambda: cluster.ended() or "\n" in cluster.log.read_text(), START_S)
    first = cluster.log.read_text().partition("\n")[0]
    if not first.startswith("ready "):
        raise NotReady(f"the pods and the DNS server did not start:\n{cluster.log.read_text()}")
    _, pods, names = first.split()
    return int(pods), int(names)
