"""The figures of a summary."""

from __future__ import annotations

import msgspec
import pytest

from loadtests.sim.simulate.replica import Prediction
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.runs import Case, Run, Sample
from loadtests.sim.simulate.summary import Goodput, Spread, lines, load_imbalance, spread, summarise, table, windows
from loadtests.sim.simulate.world import Outcome
from schedulers.types import Slo
from tests.fakes.simulated_world import SMALL, arrival

CASE = Case(pods=2, rate=1.5, profile=SMALL, sharing=Sharing(4, 0.005), seed=3)


def outcome(at_s: float = 0.0, ttft_s: float = 1.0, prompt: int = 1000, cached: int = 0, output: int = 11) -> Outcome:
    return Outcome(0, at_s, ttft_s, ttft_s + 1.0, prompt, output, cached)


def run(*outcomes: Outcome, duration_s: float = 10.0) -> Run:
    return Run("p", outcomes, 1, [Sample(0.0, [4, 0]), Sample(1.0, [1, 1])], duration_s)


def test_percentiles_are_values_that_occurred() -> None:
    assert spread(range(1, 101)) == Spread(50.5, 50, 90, 99)
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0, 3.0)
    assert spread([]) == Spread()


def test_a_row_has_short_prompts_hits_and_gaps() -> None:
    row = summarise(run(outcome(ttft_s=1.0, cached=500), outcome(ttft_s=9.0, prompt=19_000), outcome(output=1)), CASE)
    assert row.ttft_s.mean == pytest.approx(11 / 3)
    assert row.ttft_short_s.p99 == 1.0
    assert row.hit_rate == pytest.approx(500 / 21_000)
    assert row.itl_s.mean == pytest.approx(0.1), "an answer of one token has no gap"
    assert (row.requests, row.rejected) == (3, 1)


def test_utilisation_counts_computed_tokens() -> None:
    row = summarise(run(outcome(cached=500), outcome(prompt=3500)), CASE)
    assert row.prefill_utilisation == pytest.approx((500 + 3500) * SMALL.prefill_token_s / (2 * 10.0))


def test_imbalance_weights_each_sample_by_its_load() -> None:
    assert load_imbalance([Sample(0.0, [4, 0]), Sample(1.0, [1, 1])]) == pytest.approx(5 / 3)
    assert load_imbalance([Sample(0.0, [0, 0])]) == 1.0


def test_windows_hold_the_requests_that_arrived_in_them() -> None:
    (first, last) = windows([outcome(0.0, ttft_s=1.0), outcome(0.5, ttft_s=3.0), outcome(120.0, cached=1000)])
    assert (first.at_s, first.requests, first.ttft_s, first.hit_rate) == (0.0, 2, 2.0, 0.0)
    assert (last.at_s, last.requests, last.hit_rate) == (120.0, 1, 1.0)


def test_goodput_is_the_share_of_promises_kept_and_refused_requests_break_theirs() -> None:
    kept = outcome(ttft_s=1.0)._replace(priority=1, slo=Slo(ttft_s=2.0, tpot_s=0.1))
    slow = outcome(ttft_s=1.0)._replace(priority=1, slo=Slo(ttft_s=2.0, tpot_s=0.09))
    late = outcome(ttft_s=3.0)._replace(slo=Slo(ttft_s=2.0))
    refused = arrival(0.0)._replace(priority=1, slo=Slo(ttft_s=2.0))
    row = summarise(run(kept, slow, late, outcome())._replace(shed=1, unserved=[refused]), CASE)
    assert row.goodput == pytest.approx(1 / 4), "the request without a promise does not count"
    assert row.goodput_by_priority == [Goodput(1, 3, 1 / 3, 2 / 3, 1), Goodput(0, 1, 0.0, 0.0, 0)]
    columns = lines(table("t", CASE, [row]))
    assert (columns["goodput"], columns["shed"], columns["of +1"]) == (["25.0%"], ["1"], ["33.3%"])


def test_predicted_times_are_compared_with_the_found_ones() -> None:
    found = [Prediction(1.0, 2.0), Prediction(3.0, 2.0), Prediction(1.5, 1.0)]
    row = summarise(run(outcome())._replace(predictions=found), CASE)
    assert row.predicted is not None and row.predicted.requests == 3
    assert (row.predicted.ttft_s.mean, row.predicted.error_s.p50, row.predicted.error_s.p90) == (5.5 / 3, 1.0, 1.0)
    assert (row.predicted.error.p50, row.predicted.error.p90) == (0.5, 0.5)
    peer = summarise(run(outcome()), CASE)
    assert peer.predicted is None
    columns = lines(table("t", CASE, [row, peer]))
    assert (columns["off p50"], columns["off p90"]) == (["50%", ""], ["50%", ""])
    assert "off p50" not in lines(table("t", CASE, [peer]))


def test_a_run_without_promises_has_no_goodput() -> None:
    row = summarise(run(outcome()), CASE)
    assert row.goodput is None
    assert not {"goodput", "shed"} & lines(table("t", CASE, [row])).keys()


def test_the_json_has_the_names_that_scripts_read() -> None:
    made = msgspec.to_builtins(table("t.jsonl", CASE, [summarise(run(outcome()), CASE)]))
    assert {"trace", "pods", "rate", "policies"} <= made.keys()
    (row,) = made["policies"]
    assert {"policy", "ttft_s", "itl_s", "e2e_s", "hit_rate", "load_imbalance"} <= row.keys()
    for name in ("ttft_s", "itl_s", "e2e_s"):
        assert row[name].keys() == {"mean", "p50", "p90", "p99"}
    assert (made["replicas"], made["age_ms"], made["seed"]) == (4, 5.0, 3)


def test_replicas_that_share_nothing_have_no_age() -> None:
    assert table("t", CASE._replace(sharing=Sharing(4, shared=False)), []).age_ms is None


def test_the_plain_table_has_a_cell_for_each_policy() -> None:
    rows = [summarise(run(outcome()), CASE), summarise(run(outcome()), CASE)]
    assert all(len(cells) == 2 for cells in lines(table("t", CASE, rows)).values())
