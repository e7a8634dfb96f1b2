"""The simulator against a real gateway: the same trace through a gateway process and simulated pods, in real time.

Prompts are texts whose blocks are equal exactly where the trace's units are; answers have the trace's lengths. The real
run adds only the time of the gateway, the kernel and other programs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from loadtests.bench.load import session_load
from loadtests.bench.load.session_load import Sent
from loadtests.processes.owned import ANY_CORE, Owned, wait_until_ready
from loadtests.processes.replica import listening, pool, serve
from loadtests.processes.sim_pods import SimPods
from loadtests.sim.chat import TrafficError
from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.ports import HOST, free_ports
from loadtests.sim.simulate.runs import Case, simulate
from loadtests.sim.simulate.sessions import Session
from loadtests.sim.simulate.summary import Spread, hit_rate, spread
from loadtests.sim.simulate.traces import Trace

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
    """Play the trace both ways. Raises NotReady; TrafficError where a request fails."""
    run = simulate(trace, policy, Case(pods=pods, profile=H100_8B, seed=seed))
    lived = _live(trace, policy, pods, directory)
    failed = [each.failure for each in lived if each.failure]
    if failed:
        raise TrafficError(failed[0], f"and {len(failed) - 1} more of {len(lived)} requests")
    return Agreement(
        requests=len(lived),
        pods=pods,
        seconds=trace.arrivals[-1].at_s,
        simulated=spread(each.ttft_s for each in run.outcomes),
        real=spread(each.ttft_s for each in lived),
        simulated_hits=hit_rate(run.outcomes),
        real_hits=sum(each.cached_tokens for each in lived) / sum(each.prompt_tokens for each in lived),
        late_s=max(each.late_s for each in lived),
    )


def _live(trace: Trace, policy: str, pods: int, directory: Path) -> list[Sent]:
    """What clients saw, in order of arrival."""
    port, control = free_ports(2)
    with SimPods(pods, H100_8B.name, directory) as simulated:
        settings = {**listening(port, control), "pools": [pool(simulated.urls, policy)]}
        command = serve(sys.executable, settings, directory / "turnout.yaml")
        with Owned(command, ANY_CORE, directory / "gateway.log") as gateway:
            wait_until_ready(gateway, f"http://{HOST}:{control}/readyz")
            sessions = [Session(each.at_s, [each]) for each in trace.arrivals]
            limit_s = trace.arrivals[-1].at_s + GRACE_S
            return uvloop.run(session_load.play(sessions, trace.unit_tokens, port, limit_s))
