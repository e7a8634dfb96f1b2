"""The short form of `make chaos`: half a minute of load, every verdict of the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.chaos.arena import Layout
from loadtests.chaos.plan import Fault, Plan, plan_of
from loadtests.chaos.report import lines, passed
from loadtests.chaos.run import run

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]

SEED, SECONDS = 11, 30.0


def test_no_request_is_lost_or_answered_falsely_and_nothing_leaks(tmp_path: Path) -> None:
    outcome = run(plan_of(SEED, SECONDS), Layout(replicas=2, mid_stream=True), tmp_path, lambda line: None)
    report = "\n".join(lines(outcome))
    print(report)  # noqa: T201
    assert passed(outcome), report


def test_a_failover_of_redis_and_a_kubernetes_api_that_is_gone_cost_no_request_anything(tmp_path: Path) -> None:
    kinds = {
        "redis": ("redis_failed_over", "redis_hung_and_failed_over"),
        "kubernetes": ("kubernetes_refused", "kubernetes_hung", "kubernetes_compacted"),
    }
    faults = [Fault(2.0, 3.0, kind, track, number) for track in kinds for number, kind in enumerate(kinds[track])]
    outcome = run(Plan(SEED, SECONDS, tuple(faults)), Layout(replicas=2), tmp_path, lambda line: None)
    report = "\n".join(lines(outcome))
    print(report)  # noqa: T201
    assert passed(outcome), report
    assert {each.kind for each in outcome.windows} >= {every[0] for every in kinds.values()}
