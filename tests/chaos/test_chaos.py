"""The short form of `make chaos`: one seed, half a minute of load, every verdict of the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.chaos.arena import Layout
from loadtests.chaos.plan import plan_of
from loadtests.chaos.report import lines, passed
from loadtests.chaos.run import run

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]

SEED, SECONDS = 11, 30.0


def test_no_request_is_lost_or_answered_falsely_and_nothing_leaks(tmp_path: Path) -> None:
    outcome = run(plan_of(SEED, SECONDS), Layout(replicas=2, mid_stream=True), tmp_path, lambda line: None)
    report = "\n".join(lines(outcome))
    print(report)  # noqa: T201
    assert passed(outcome), report
