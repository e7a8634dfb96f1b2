"""A whole run of this gateway in front of simulated engines, and how their counters are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.shootout.contestants import CONTESTANTS
from loadtests.bench.shootout.play import PODS, engines, play
from loadtests.bench.shootout.played import Pods, figures
from loadtests.bench.shootout.stretches import Stretch
from loadtests.sim.simulate.sessions import Session
from loadtests.sim.simulate.traces import Arrival


def test_the_engines_counters_are_added_up() -> None:
    state = {"prefix_queries_tokens": 10, "prefix_hits_tokens": 4, "preemptions": 1, "steps": 7}
    times = {"late_s": 0.5, "lost_s": 0.25}
    assert engines([state | times, state | times]) == Pods(20, 8, 2, 14, 1.0, 0.5)


@pytest.mark.realtime
def test_a_short_stretch_is_played_whole_and_its_prefixes_are_found_again(tmp_path: Path) -> None:
    def turns(session: int) -> list[Arrival]:
        units = [1, *range(100 * session, 100 * session + 9)]
        return [Arrival(0.1, 512 * count, 20, tuple(units[:count])) for count in (4, 6, 8)]

    sessions = [Session(0.1 * at, turns(at)) for at in range(1, 17)]
    run = play("turnout", CONTESTANTS["turnout"], Stretch("agents", 1, 1.0, 10.0, 512, sessions), "s", tmp_path)
    row = figures([run])
    assert (row.requests, row.failures) == (48, {})
    assert row.hit_rate > 0.3
    assert run.pods.asked_tokens >= sum(each.prompt_tokens for each in run.sent)
    assert min(run.cpu.router_s, run.cpu.pods_s, run.cpu.load_s) > 0
    assert PODS == 8
