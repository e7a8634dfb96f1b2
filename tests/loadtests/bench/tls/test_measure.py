"""A short run of the bench of TLS: real wrk, nginx and gateway, every load once."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.load.cases import CASES
from loadtests.bench.tls.__main__ import figure, page
from loadtests.bench.tls.measure import KINDS, PEERS, Cost, Plan, measured


@pytest.mark.realtime
@pytest.mark.needs("wrk", "nginx", "openssl")
def test_every_router_has_every_load_and_every_answer_is_good(tmp_path: Path) -> None:
    # Few connections, long enough for an answer of each after its handshake where others use the cores, too.
    plan = Plan(rounds=1, seconds=4, connections=5, case=CASES["1k"]._replace(connections=2))
    found = list(measured(plan, tmp_path))
    assert {(each.peer, each.kind) for each in found} == {(peer, kind) for peer in PEERS for kind in KINDS}
    assert len(found) == len(PEERS) * len(KINDS)
    assert all(each.wrong == 0 for each in found)


def test_differences_are_taken_within_a_round() -> None:
    busy = [0.0, 100.0, 500.0]
    costs = [
        Cost(peer, kind, number, busy[number] + at, 0)
        for number in range(3)
        for at, kind in enumerate(KINDS)
        for peer in PEERS
    ]
    assert figure(costs, "turnout", KINDS[1], "") == 101.0
    assert figure(costs, "nginx", KINDS[3], KINDS[2]) == 1.0
    assert "| added by a full handshake             |     1 |       1 |" in page({"cpu": "x"}, costs)
