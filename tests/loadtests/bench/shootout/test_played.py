"""Figures of one run and of several."""

from __future__ import annotations

import pytest

from loadtests.bench.load.session_load import Sent
from loadtests.bench.shootout.played import Cpu, Played, Pods, exact, figures


def run(ttfts: list[float], *, failure: str = "", late_s: float = 0.0, prompt: int = 100, number: int = 1) -> Played:
    sent = [
        Sent(0, at, prompt, float(at), late_s=late_s, ttft_s=ttft, e2e_s=2 * ttft, failure=failure)
        for at, ttft in enumerate(ttfts)
    ]
    return Played(
        "turnout", "agents", number, "s", sent, Pods(1000, 250, 0, 10, 0.01, 0.5), Cpu(1.0, 2.0, 0.5, 5.0, 10.0)
    )


def test_times_are_of_the_answered_requests_and_failures_are_counted_by_kind() -> None:
    row = figures([run([1.0, 3.0]), run([9.0], failure="timeout", number=2)])
    assert (row.requests, row.ttft_s.mean, row.e2e_s, row.failures) == (3, 2.0, 4.0, {"timeout": 1})


def test_hits_are_the_engines_own_count() -> None:
    assert figures([run([1.0])]).hit_rate == 0.25


def test_long_prompts_are_left_out_of_the_short_ones_tail() -> None:
    assert figures([run([1.0]), run([50.0], prompt=16_000)]).short_p99_s == 1.0


def test_cpu_is_by_request_and_by_second_and_the_rest_is_others() -> None:
    row = figures([run([1.0, 1.0])])
    assert (row.router_ms, row.router_cores, row.pods_cores, row.load_cores) == (500.0, 0.1, 0.2, 0.05)
    assert row.other_cores == pytest.approx(0.15)


def test_a_run_is_exact_while_the_load_generator_keeps_its_times() -> None:
    assert exact(run([1.0], late_s=0.02))
    assert not exact(run([1.0], late_s=0.021))


def test_lateness_and_lag_are_reported() -> None:
    row = figures([run([1.0], late_s=0.03), run([1.0], late_s=0.01)])
    assert (row.late_p50_s, row.late_p99_s, row.late_max_s) == (0.01, 0.03, 0.03)
    assert (row.step_late_s, row.lost_s) == (0.001, 1.0)
