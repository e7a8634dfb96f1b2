"""The ranks of a simulated pod: chosen by the header as vLLM does it, and apart in the metrics."""

from __future__ import annotations

import pytest

from loadtests.sim.engine.model import EngineRequest
from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.ranks import EngineRank, chosen, exposition, totals
from statesync.engines.metrics_page import parse, parse_ranks


def made(count: int = 2) -> list[EngineRank]:
    return [EngineRank(PROFILES["tiny"], ("m",), 1000.0, number) for number in range(count)]


def test_the_header_chooses_a_rank_and_without_it_the_one_with_the_fewest_requests_is_chosen() -> None:
    ranks = made()
    ranks[0].engine.submit(EngineRequest("a", 10, (), 1))
    for header, number in ((b"0", 0), (b"1", 1), (b"x", 1), (b"", 1)):
        assert chosen(ranks, {b"x-data-parallel-rank": header}).number == number
    assert chosen(ranks, {}).number == 1


@pytest.mark.parametrize("header", [b"2", b"-1"])
def test_a_rank_that_does_not_exist_is_refused(header: bytes) -> None:
    with pytest.raises(ApiError, match="out of range") as refused:
        chosen(made(), {b"x-data-parallel-rank": header})
    assert refused.value.status == 400


def test_the_page_has_a_series_for_each_rank_and_those_of_a_metric_together() -> None:
    ranks = made()
    ranks[1].engine.submit(EngineRequest("a", 10, (), 1))
    page = exposition(ranks)
    assert [each.queued for each in parse_ranks(page, 2)] == [0, 1]
    assert parse(page).queued == 1
    assert page.count(b"# TYPE vllm:num_requests_waiting ") == page.count(b"process_start_time_seconds 1000") == 1
    assert exposition(ranks[:1]) == ranks[0].meters.text()


def test_the_state_has_totals_and_each_rank() -> None:
    ranks = made()
    ranks[1].engine.submit(EngineRequest("a", 10, (), 1))
    state = totals(ranks)
    assert (state["waiting"], state["kv_usage"], state["steps"]) == (1, 0.0, 0)
    assert [rank.figures()["waiting"] for rank in ranks] == [0, 1]
    assert state["ranks"] == [rank.figures() for rank in ranks]
