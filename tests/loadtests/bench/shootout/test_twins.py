"""A stretch in the simulator."""

from __future__ import annotations

from loadtests.bench.shootout.stretches import Stretch
from loadtests.bench.shootout.twins import simulated
from loadtests.sim.simulate.sessions import Session
from loadtests.sim.simulate.traces import Arrival

PART = Stretch(
    "agents", 1, 1.0, 60.0, 512, [Session(0.0, [Arrival(0.0, 1024, 3, (1, 2)), Arrival(1.0, 1536, 3, (1, 2, 3))])]
)


def test_a_session_finds_its_own_prefix_again() -> None:
    run = simulated("sglang_cache_aware", PART)
    assert len(run.ttft_s) == 2
    assert (run.prompt_tokens, run.cached_tokens) == (2560, 1024)
