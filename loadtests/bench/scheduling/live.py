"""The simulator against a real gateway: the same trace through a gateway process and simulated pods, in real time.

Prompts are texts whose blocks are equal exactly where the trace's units are; answers have the trace's lengths. The real
run adds only the time of the gateway, the kernel and other programs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import uvloop

from loadtests.processes.owned import ANY_CORE, Owned, wait_until_ready
from loadtests.processes.replica import listening, pool, serve
from loadtests.processes.sim_pods import SimPods
from loadtests.sim import chat
from loadtests.sim.chat import Reply
from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.http_client import Client
from loadtests.sim.ports import HOST, free_ports
from loadtests.sim.simpod.fleet import DEFAULT_MODEL
from loadtests.sim.simpod.text import BYTES_PER_TOKEN
from loadtests.sim.simulate.runs import Case, simulate
from loadtests.sim.simulate.summary import Spread, hit_rate, spread
from loadtests.sim.simulate.traces import Arrival, Trace

TEMPLATE_BYTES: Final = 24
"""Added by the pods' chat template to a single message; the text is shorter by it, so that lengths are right."""
GRACE_S: Final = 60.0
"""For the answers still under way when the last request was sent."""


class Agreement(NamedTuple):
    """Time to first token, both ways."""

    requests: int
    pods: int
    seconds: float
    simulated: Spread
    real: Spread
    simulated_hits: float
    real_hits: float
    late_s: float
    """The latest that the client sent a request: how exact the real run is."""


def slice_of(trace: Trace, rate: float, seconds: float) -> Trace:
    """The first `seconds` of the trace, at that rate."""
    rated = trace.rated(rate)
    return rated._replace(arrivals=[each for each in rated.arrivals if each.at_s < seconds])


def agreement(trace: Trace, policy: str, pods: int, directory: Path, *, seed: int = 0) -> Agreement:
    """Play the trace both ways. Raises NotReady; ExceptionGroup of TrafficError where a request fails."""
    run = simulate(trace, policy, Case(pods=pods, profile=H100_8B, seed=seed))
    lived = _live(trace, policy, pods, directory)
    cached = sum(each.usage.cached_tokens for each, _ in lived)
    return Agreement(
        requests=len(lived),
        pods=pods,
        seconds=trace.arrivals[-1].at_s,
        simulated=spread(each.ttft_s for each in run.outcomes),
        real=spread(reply.ttft_s for reply, _ in lived),
        simulated_hits=hit_rate(run.outcomes),
        real_hits=cached / sum(each.prompt_tokens for each in trace.arrivals),
        late_s=max(late for _, late in lived),
    )


def _live(trace: Trace, policy: str, pods: int, directory: Path) -> list[tuple[Reply, float]]:
    """Replies and how late each request was sent, in order of arrival."""
    port, control = free_ports(2)
    with SimPods(pods, H100_8B.name, directory) as simulated:
        settings = {**listening(port, control), "pools": [pool(simulated.urls, policy)]}
        command = serve(sys.executable, settings, directory / "turnout.yaml")
        with Owned(command, ANY_CORE, directory / "gateway.log") as gateway:
            wait_until_ready(gateway, f"http://{HOST}:{control}/readyz")
            return uvloop.run(_send(trace, port))


async def _send(trace: Trace, port: int) -> list[tuple[Reply, float]]:
    bodies = [body(each, trace.unit_tokens) for each in trace.arrivals]
    start = perf_counter() + 0.5
    timeout_s = trace.arrivals[-1].at_s + GRACE_S

    async def ask(arrival: Arrival, payload: bytes) -> tuple[Reply, float]:
        await asyncio.sleep(start + arrival.at_s - perf_counter())
        client = Client(HOST, port)
        try:
            reply = chat.reply(await client.post(chat.PATH, payload, timeout_s))
        finally:
            client.close()
        return reply, reply.sent_at - start - arrival.at_s

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(each, payload)) for each, payload in zip(trace.arrivals, bodies, strict=True)]
    return [each.result() for each in asked]


def body(arrival: Arrival, unit_tokens: int) -> bytes:
    """The request, as a client of the gateway would send it."""
    messages = [{"role": "user", "content": text(arrival, unit_tokens)}]
    return chat.body(DEFAULT_MODEL, messages, arrival.output_tokens, ignore_eos=True)


def text(arrival: Arrival, unit_tokens: int) -> str:
    """Of the arrival's length, template included; it shares a prefix exactly where the units do."""
    times = unit_tokens * BYTES_PER_TOKEN // 16
    whole = "".join([f"{unit:016x}" * times for unit in arrival.units])
    return whole[: max(1, arrival.prompt_tokens * BYTES_PER_TOKEN - TEMPLATE_BYTES)]
