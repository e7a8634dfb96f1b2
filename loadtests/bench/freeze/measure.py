"""One case: a field, a gateway with the case's settings, streams through it, and windows with and without disturbance.

The gateway has a core to itself; field and streams share another.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.freeze.cases import Case, Ground, Stage, until
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

FIELD = "loadtests.bench.freeze.field"
START_S = 60.0
CALM_S = 1.0
"""After a disturbance, before the next window is counted."""


class Plan(NamedTuple):
    """How much of it."""

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
        field = stack.enter_context(
            Owned([sys.executable, "-m", FIELD, str(plan.pods)], LOAD_CORE, directory / "field.log")
        )
        pods_port, dns_port = _ports_of(field)
        ground = Ground(plan.pods, pods_port, dns_port, redis.url if redis is not None else "memory://")
        settings = {**listening(*ports), "default_pool": "default", **case.settings(ground)}
        command = serve(plan.python, settings, directory / "turnout.yaml")
        gateway = stack.enter_context(Owned(command, ROUTER_CORE, directory / "gateway.log"))
        wait_until_ready(gateway, f"http://127.0.0.1:{ports[1]}/readyz", START_S)
        staged = Stage(("127.0.0.1", ports[1]), field, field.log, redis)
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


def _ports_of(field: Owned) -> tuple[int, int]:
    """Where the pods and the DNS server listen. Raises NotReady."""
    wait_for("the pods and the DNS server listen", lambda: field.ended() or "\n" in field.log.read_text(), START_S)
    first = field.log.read_text().partition("\n")[0]
    if not first.startswith("ready "):
        raise NotReady(f"the pods and the DNS server did not start:\n{field.log.read_text()}")
    _, pods, names = first.split()
    return int(pods), int(names)
