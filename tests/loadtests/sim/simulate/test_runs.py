"""A run plays a trace once and records events with their times."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.simulate.events import parse_event
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.runs import SAMPLES, Case, simulate, with_kv_tokens
from loadtests.sim.simulate.summary import windows
from loadtests.sim.simulate.traces import Trace, TraceError
from tests.fakes.simulated_world import SMALL, arrival, chain, prompt, trace

CASE = Case(pods=2, profile=SMALL)


def test_a_run_serves_the_trace_and_reports_its_progress() -> None:
    reported: list[int] = []
    arrivals = [arrival(0.5 * n) for n in range(20)]
    run = simulate(trace(*arrivals), "round_robin", CASE, reported.append)
    assert reported == list(range(1, 21))
    assert [each.pod for each in run.outcomes] == [0, 1] * 10
    assert run.rejected == 0
    assert run.duration_s == pytest.approx(max(each.at_s + each.e2e_s for each in run.outcomes))


def test_a_higher_rate_makes_a_run_shorter() -> None:
    arrivals = [arrival(1.0 * n) for n in range(20)]
    run = simulate(trace(*arrivals), "round_robin", CASE._replace(rate=4.0))
    assert run.outcomes[-1].at_s == 19.0 / 4


def test_the_pods_load_is_sampled_during_the_whole_run() -> None:
    run = simulate(trace(*[arrival(1.0 * n, output=50) for n in range(100)]), "least_load", CASE)
    assert SAMPLES - 2 <= len(run.samples) <= SAMPLES + 12
    assert max(max(requests) for _, requests in run.samples) >= 1


@pytest.mark.parametrize("policy", ["prefix_aware", "lmetric"])
def test_the_same_seed_gives_the_same_run(policy: str) -> None:
    arrivals = [prompt(*chain(n % 5, 8), at_s=0.2 * n) for n in range(60)]
    case = CASE._replace(sharing=Sharing(3, 0.05), seed=7)
    assert simulate(trace(*arrivals), policy, case) == simulate(trace(*arrivals), policy, case)


def test_a_restart_with_nothing_shared_loses_hits_and_one_with_shared_state_does_not() -> None:
    arrivals = [prompt(*chain(n % 30, 12), at_s=0.5 * n) for n in range(240)]
    case = Case(pods=8, profile=SMALL, restart_at_s=60.0)

    def hits_after(shared: bool) -> float:
        run = simulate(trace(*arrivals), "prefix_aware", case._replace(sharing=Sharing(1, shared=shared)))
        later = [each for each in run.outcomes if 60.0 <= each.at_s < 75.0]
        return sum(each.cached_tokens for each in later) / sum(each.prompt_tokens for each in later)

    assert hits_after(shared=True) > 0.95
    assert hits_after(shared=False) < 0.5


def test_the_cache_has_the_requested_number_of_tokens() -> None:
    assert with_kv_tokens(H100_8B, 100_000).kv_tokens == 100_000


def test_a_trace_whose_block_size_no_engine_has_is_refused() -> None:
    with pytest.raises(TraceError, match="blocks of 100 tokens are no multiple of 16"):
        simulate(Trace("t", 100, [arrival(0.0)]), "p2c", CASE)


def test_in_a_closed_loop_a_sessions_next_request_waits_for_its_last_answer() -> None:
    turns = [arrival(1.0 * n, 640, 101)._replace(session="a", think_s=0.5) for n in range(4)]
    reported: list[int] = []
    run = simulate(trace(*turns, arrival(2.0)), "round_robin", CASE._replace(closed_loop=True), reported.append)
    alone = [each for each in run.outcomes if each.output_tokens == 101]
    for before, after in pairwise(alone):
        assert after.at_s == pytest.approx(before.at_s + before.e2e_s + 0.5)
    assert [each.at_s for each in run.outcomes] == sorted(each.at_s for each in run.outcomes)
    assert reported[-1] == 5


def test_a_mixed_fleet_has_an_engine_of_each_kind_and_those_that_join() -> None:
    case = CASE._replace(profiles=(SMALL, SMALL.slowed(2.0)), events=(parse_event("1:pod-2:join"),))
    run = simulate(trace(*[arrival(3.0 * n, 640, 2) for n in range(6)]), "round_robin", case)
    assert [each.pod for each in run.outcomes[:2]] == [0, 1]
    assert {each.pod for each in run.outcomes} == {0, 1, 2}
    times = {each.pod: each.ttft_s for each in run.outcomes}
    assert times[1] == pytest.approx(2 * times[0])
    assert times[2] == pytest.approx(times[0])
    assert {len(requests) for _, requests in run.samples} == {2, 3}


def test_an_event_changes_the_run() -> None:
    arrivals = [arrival(3.0 * n) for n in range(6)]
    run = simulate(trace(*arrivals), "round_robin", CASE._replace(events=(parse_event("1:pod-0:fail"),)))
    assert (len(run.outcomes), run.lost) == (6, 0)
    assert run.retried == 1, "the second failed probe takes it out before it would have been its turn again"
    assert {each.pod for each in run.outcomes[1:]} == {1}


def test_a_trace_without_requests_is_an_empty_run() -> None:
    run = simulate(trace(), "p2c", CASE)
    assert (list(run.outcomes), run.duration_s) == ([], 0.0)
    assert windows(run.outcomes) == []
