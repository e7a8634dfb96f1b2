"""One router on one stretch: new engines, the router, the load, and what each of them used. It judges nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop

from loadtests.bench.load import session_load
from loadtests.bench.load.session_load import Sent
from loadtests.bench.routers.peers import Place
from loadtests.bench.shootout.contestants import Contestant
from loadtests.bench.shootout.played import Cpu, Played, Pods
from loadtests.bench.shootout.stretches import Stretch
from loadtests.processes import procfs
from loadtests.processes.owned import ANY_CORE, Owned, wait_until_ready, wait_until_serving
from loadtests.processes.procfs import Usage
from loadtests.processes.sim_pods import SimPods
from loadtests.sim import chat
from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.ports import HOST, free_ports
from loadtests.sim.simpod.fleet import DEFAULT_MODEL

PODS: Final = 8
GRACE_S: Final = 180.0
"""For the answers still under way when the stretch ends; what is open then has failed."""
FIRST: Final = chat.body(DEFAULT_MODEL, [{"role": "user", "content": "first"}], 1, stream=False)
"""Shows that a router has found its engines; too short to be in a cache."""


def play(name: str, contestant: Contestant, part: Stretch, setting: str, directory: Path) -> Played:
    """Play it, in `directory`, which is empty. Raises Missing, NotReady."""
    port, control = free_ports(2)
    with SimPods(PODS, H100_8B.name, directory, control) as pods:
        start = contestant.start(Place(directory, port, pods.ports))
        with Owned(start.command, ANY_CORE, directory / "router.log") as router:
            wait_until_ready(router, start.ready)
            wait_until_serving(router, start.url + chat.PATH, FIRST)
            before = _Reading(router, pods.process, control)
            sent = _load(part, port)
            after = _Reading(router, pods.process, control)
    return Played(
        name, part.traffic, part.number, setting, sent, after.pods_since(before), after.cpu_since(before), after.rss_mb
    )


def _load(part: Stretch, port: int) -> list[Sent]:
    """SIGTERM ends it by SystemExit. A handler that raised inside a callback of the loop would fail one request."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return uvloop.run(_until_terminated(part, port))
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


async def _until_terminated(part: Stretch, port: int) -> list[Sent]:
    playing = asyncio.current_task()
    assert playing is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    return await session_load.play(part.sessions, part.unit_tokens, port, part.seconds + GRACE_S)


class _Reading:
    """Of all processes and engines, at one moment."""

    def __init__(self, router: Owned, pods: Owned, control: int) -> None:
        self._wall = time.perf_counter()
        self._load_s = time.process_time()
        self._router: Usage = procfs.read(router.pids())
        self._pods: Usage = procfs.read(pods.pids())
        answer = httpx.get(f"http://{HOST}:{control}/sim/pods", trust_env=False, timeout=30.0).raise_for_status()
        self._engines = engines(answer.json())

    @property
    def rss_mb(self) -> float:
        """Memory of the router."""
        return self._router.rss_bytes / 1e6

    def pods_since(self, before: _Reading) -> Pods:
        """What the engines counted in between."""
        now, then = self._engines, before._engines
        return Pods(*(getattr(now, field) - getattr(then, field) for field in now.__struct_fields__))

    def cpu_since(self, before: _Reading) -> Cpu:
        """What each part used in between."""
        router, pods = self._router.since(before._router), self._pods.since(before._pods)
        load_s, wall_s = self._load_s - before._load_s, self._wall - before._wall
        return Cpu(router.cpu_s, pods.cpu_s, load_s, sum(router.cores_s), wall_s)


def engines(states: list[Mapping[str, Any]]) -> Pods:
    """The engines' counters since their start, added up, from what `/sim/pods` answers."""
    fields = ("prefix_queries_tokens", "prefix_hits_tokens", "preemptions", "steps", "late_s", "lost_s")
    return Pods(*(sum(state[field] for state in states) for field in fields))
