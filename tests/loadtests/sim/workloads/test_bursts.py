"""Arrivals come in bursts; a conversation's turns extend its prompt."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from statistics import mean, pstdev

import pytest

from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.workloads.bursts import Bursts, bursts

TRACE = bursts(Bursts(requests=3000), 1)


def test_gaps_vary_more_than_in_a_poisson_process() -> None:
    gaps = [after.at_s - before.at_s for before, after in pairwise(TRACE.arrivals)]
    assert pstdev(gaps) / mean(gaps) == pytest.approx(Bursts().cv, rel=0.25)


def test_each_turn_begins_with_the_one_before() -> None:
    talks: dict[str, list[Arrival]] = defaultdict(list)
    for each in TRACE.arrivals:
        talks[each.session].append(each)
    assert 1.5 < mean(map(len, talks.values())) < Bursts().turns
    for turns in talks.values():
        for before, after in pairwise(turns):
            assert after.units[: len(before.units)] == before.units
            assert after.prompt_tokens > before.prompt_tokens


def test_conversations_share_the_system_prompt_only() -> None:
    first = {each.session: each.units for each in reversed(TRACE.arrivals)}
    shared = Bursts().system_tokens // TRACE.unit_tokens
    assert len({units[:shared] for units in first.values()}) == 1
    own = [units[shared] for units in first.values() if len(units) > shared]
    assert len(set(own)) == len(own)
