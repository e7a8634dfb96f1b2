"""The processes of one run: simulated engines, Redis, gateways that share their state, and the clients of all tenants,
who ask another gateway where one is gone. Figures only; `figures.py` judges.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtests.processes import replica
from loadtests.processes.owned import wait_for
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import ReplicaProcess, Slot
from loadtests.processes.sim_pods import SimPods
from loadtests.sim import chat
from loadtests.sim.chat import TrafficError
from loadtests.sim.http_client import CONNECT, CONNECTION_LOST, Answer, Client
from loadtests.sim.ports import HOST, free_ports
from loadtests.sim.prompts import body
from loadtests.sim.simulate.traces import Arrival

LEAD_S: Final = 0.5
"""From making the requests to the first of them."""

GRACE_S: Final = 60.0
"""For the answers that are under way at the end."""


class Fleet(NamedTuple):
    """What is the same in all runs of a bench."""

    tenants: Sequence[str]
    pods: int = 4
    places: int = 32
    """Requests that a pod takes at a time."""
    profile: str = "h100-8b"
    speed: float = 1.0
    """Of the engines; below 1, so that a small machine can play many of them in time."""
    replicas: int = 2
    fair: bool = True
    """Whether the gateways know the tenants; if not, the queue is first come, first served."""
    queue_timeout_s: float = 10.0
    max_queue: int = 1024
    python: str = sys.executable


class Received(NamedTuple):
    """One request as its client saw it; times in seconds from the start."""

    tenant: str
    at_s: float
    late_s: float
    """Sent so much after its time."""
    status: int
    ttft_s: float
    """From its time, so that what the client itself was late counts."""
    ended_s: float
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    failure: str
    """Empty for a complete answer."""


class Running:
    """The processes, ready."""

    def __init__(self, gateways: Sequence[ReplicaProcess]) -> None:
        self.gateways = list(gateways)

    def kill(self) -> None:
        """SIGKILL to the first gateway."""
        self.gateways.pop(0).process.kill()

    def play(self, arrivals: Sequence[Arrival], unit_tokens: int, kill_at_s: float = 0.0) -> list[Received]:
        """Send all requests at their times. `kill_at_s`, if not 0: when the first gateway is killed."""
        return asyncio.run(_Clients(self, unit_tokens).play(arrivals, kill_at_s))


class _Clients:
    """The clients of all tenants, with the connections that they keep."""

    def __init__(self, running: Running, unit_tokens: int) -> None:
        self._running = running
        self._unit_tokens = unit_tokens
        self._idle: dict[int, list[Client]] = {}
        self._rng = random.Random(1)
        self._start = 0.0

    async def play(self, arrivals: Sequence[Arrival], kill_at_s: float) -> list[Received]:
        """See `Running.play`."""
        bodies = [body(each, self._unit_tokens) for each in arrivals]
        self._start = time.perf_counter() + LEAD_S
        limit_s = arrivals[-1].at_s + GRACE_S
        async with asyncio.TaskGroup() as group:
            if kill_at_s:
                group.create_task(self._kill(kill_at_s))
            asked = [
                group.create_task(self._ask(each, sent, limit_s)) for each, sent in zip(arrivals, bodies, strict=True)
            ]
        for idle in self._idle.values():
            for client in idle:
                client.close()
        return [each.result() for each in asked]

    @property
    def _now(self) -> float:
        return time.perf_counter() - self._start

    async def _kill(self, at_s: float) -> None:
        await asyncio.sleep(at_s + LEAD_S)
        self._running.kill()

    async def _ask(self, arrival: Arrival, sent: bytes, limit_s: float) -> Received:
        await asyncio.sleep(max(0.0, arrival.at_s - self._now))
        late_s = self._now - arrival.at_s
        while True:
            answer = await self._post(arrival, sent, limit_s - self._now)
            # A client behind a load balancer reaches another gateway where one is gone.
            if answer.failure not in (CONNECT, CONNECTION_LOST) or answer.status or self._now > limit_s:
                return self._received(arrival, answer, late_s)

    async def _post(self, arrival: Arrival, sent: bytes, within_s: float) -> Answer:
        port = self._rng.choice(self._running.gateways).slot.port
        idle = self._idle.setdefault(port, [])
        client = idle.pop() if idle else Client(HOST, port)
        headers = {"authorization": f"Bearer key-{arrival.tenant}"}
        answer = await client.post(chat.PATH, sent, max(0.1, within_s), headers)
        if answer.failure:
            client.close()
        else:
            idle.append(client)
        return answer

    def _received(self, arrival: Arrival, answer: Answer, late_s: float) -> Received:
        ended_s = answer.ended_at - self._start
        failed = Received(arrival.tenant, arrival.at_s, late_s, answer.status, 0.0, ended_s, 0, 0, 0, "")
        try:
            reply = chat.reply(answer)
        except TrafficError as error:
            return failed._replace(failure=error.kind)
        first = reply.token_times[0] if reply.token_times else answer.ended_at
        return failed._replace(
            ttft_s=first - self._start - arrival.at_s,
            prompt_tokens=reply.usage.prompt_tokens,
            cached_tokens=reply.usage.cached_tokens,
            answer_tokens=reply.usage.completion_tokens,
        )


@contextmanager
def running(fleet: Fleet, directory: Path) -> Iterator[Running]:
    """All processes for the block, with empty caches. Raises NotReady."""
    with ExitStack() as stack:
        pods = stack.enter_context(SimPods(fleet.pods, fleet.profile, directory, speed=fleet.speed))
        server = stack.enter_context(RedisServer(directory))
        keys = write_keys(directory / "keys.json", fleet.tenants) if fleet.fair else None
        gateways = []
        for at in range(fleet.replicas):
            slot = Slot(f"r{at}", *free_ports(2))
            gateway = ReplicaProcess(slot, settings(fleet, slot, server.url, pods.urls, keys), directory, fleet.python)
            stack.callback(gateway.stop)
            gateways.append(gateway)
        for gateway in gateways:
            wait_for("the gateways are ready", gateway.ready)
        yield Running(gateways)


def write_keys(path: Path, tenants: Sequence[str]) -> Path:
    """A file with the key `key-NAME` for each tenant."""
    keys = [{"name": name, "tenant": name, "sha256": sha256(f"key-{name}".encode()).hexdigest()} for name in tenants]
    path.write_text(json.dumps({"keys": keys}))
    return path


def settings(fleet: Fleet, slot: Slot, state: str, pods: Sequence[str], keys: Path | None) -> dict[str, Any]:
    """One gateway's settings file."""
    given = replica.settings(slot, state, pods, "prefix_aware", 0.0)
    given["pools"][0]["max_inflight_per_pod"] = fleet.places
    given["limits"] = {"queue_timeout_s": fleet.queue_timeout_s, "max_queue": fleet.max_queue}
    if keys is not None:
        given |= {"auth": {"keys_file": str(keys)}, "tenants": [{"name": name} for name in fleet.tenants]}
    return given
