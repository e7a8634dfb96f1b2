"""The simulator against the real thing: the same trace through a gateway process and simulated pods, in real time.

Prompts are texts whose blocks are equal exactly where the trace's units are, answers have the trace's lengths. Only the
gateway's own time, the kernel's, and whatever else the machine does come on top.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

import msgspec
import uvloop

from loadtests.bench.load.process import ANY_CORE, Owned, wait_until_ready
from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.ports import HOST, free_ports, neighbouring_ports
from loadtests.sim.simpod.fleet import DEFAULT_MODEL
from loadtests.sim.simpod.text import BYTES_PER_TOKEN
from loadtests.sim.simulate.runs import Case, simulate
from loadtests.sim.simulate.summary import Spread, hit_rate, spread
from loadtests.sim.simulate.traces import Arrival, Trace
from loadtests.sim.traffic_client import Client, Reply

TEMPLATE_BYTES: Final = 24
"""What the pods' chat template adds to a single message: taken off the text, so that prompts are as long as said."""
GRACE_S: Final = 60.0
"""For the answers that are under way when the last request has been sent."""


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
    """How late the client was with a request, at worst: what the real run is good for."""


def slice_of(trace: Trace, rate: float, seconds: float) -> Trace:
    """So many seconds of the trace, from its start, at that rate."""
    rated = trace.rated(rate)
    return rated._replace(arrivals=[each for each in rated.arrivals if each.at_s < seconds])


def agreement(trace: Trace, policy: str, pods: int, directory: Path, *, seed: int = 0) -> Agreement:
    """Play the trace both ways. Raises NotReady; ExceptionGroup of TrafficError where a request fails."""
    run = simulate(trace, policy, Case(pods=pods, profile=H100_8B, seed=seed))
    lived = _live(trace, policy, pods, directory)
    cached = sum(int((each.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)) for each, _ in lived)
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
    ports = neighbouring_ports(pods)
    port, control = free_ports(2)
    engines = [sys.executable, "-m", "router", "sim", "--port", str(ports[0]), "--count", str(pods)]
    settings = directory / "turnout.yaml"
    settings.write_text(json.dumps(gateway_settings(policy, port, control, ports)))  # JSON is YAML
    gateway = [sys.executable, "-m", "router", "serve", "--config", str(settings)]
    with Owned([*engines, "--profile", H100_8B.name], ANY_CORE, directory / "pods.log") as simulated:
        wait_until_ready(simulated, f"http://{HOST}:{ports[-1]}/health")
        with Owned(gateway, ANY_CORE, directory / "gateway.log") as serving:
            wait_until_ready(serving, f"http://{HOST}:{control}/readyz")
            return uvloop.run(_send(trace, port))


def gateway_settings(policy: str, port: int, control: int, pods: Sequence[int]) -> dict[str, Any]:
    """Everything as it is by default."""
    addresses = [f"http://{HOST}:{each}" for each in pods]
    return {
        "listen": f"{HOST}:{port}",
        "control": {"listen": f"{HOST}:{control}"},
        "pools": [{"name": "default", "pods": addresses, "policy": {"name": policy}}],
        "drain": {"settle_s": 0, "timeout_s": 0.5},
    }


async def _send(trace: Trace, port: int) -> list[tuple[Reply, float]]:
    bodies = [body(each, trace.unit_tokens) for each in trace.arrivals]
    start = perf_counter() + 0.5
    timeout_s = trace.arrivals[-1].at_s + GRACE_S

    async def ask(arrival: Arrival, payload: bytes) -> tuple[Reply, float]:
        await asyncio.sleep(start + arrival.at_s - perf_counter())
        client = Client(HOST, port)
        try:
            reply = await client.chat(payload, {}, timeout_s)
        finally:
            client.close()
        return reply, reply.sent_at - start - arrival.at_s

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(each, payload)) for each, payload in zip(trace.arrivals, bodies, strict=True)]
    return [each.result() for each in asked]


def body(arrival: Arrival, unit_tokens: int) -> bytes:
    """The request, as a client of the gateway would send it."""
    return msgspec.json.encode(
        {
            "model": DEFAULT_MODEL,
            "messages": [{"role": "user", "content": text(arrival, unit_tokens)}],
            "max_tokens": arrival.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


def text(arrival: Arrival, unit_tokens: int) -> str:
    """As long as the arrival says, template included; shares a prefix exactly where the units do."""
    times = unit_tokens * BYTES_PER_TOKEN // 16
    whole = "".join([f"{unit:016x}" * times for unit in arrival.units])
    return whole[: max(1, arrival.prompt_tokens * BYTES_PER_TOKEN - TEMPLATE_BYTES)]
