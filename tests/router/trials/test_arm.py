"""The counts of an arm at each step of a request."""

from __future__ import annotations

import pytest

from router.trials.arm import PACED, Arm
from router.trials.clusters import cell
from router.trials.durations import bucket_of
from tests.fakes.trial_inputs import A, Fixed, TrialRequest, request


def begun(stream: bool = True) -> tuple[Arm, TrialRequest]:
    arm, asked = Arm("canary", Fixed()), TrialRequest(stream)
    arm.begins(asked, 10.0)
    return arm, asked


def test_a_streams_wait_is_from_its_arrival_to_its_first_token() -> None:
    arm, asked = begun()
    assert arm.figures(10.5).waiting == {bucket_of(0.5): 1}
    arm.first_byte(asked, 0.7, token=True)
    figures = arm.figures(11.0)
    assert (figures.waiting, figures.ttft, figures.ttft_sum_s) == ({}, {bucket_of(0.7): 1}, 0.7)


def test_a_first_byte_that_is_not_a_token_ends_the_wait_and_is_not_counted() -> None:
    arm, asked = begun()
    arm.first_byte(asked, 0.7, token=False)
    assert (arm.figures(11.0).waiting, arm.figures(11.0).ttft) == ({}, {})


@pytest.mark.parametrize("status", [200, 499, 502])
def test_the_time_of_each_later_token_is_a_mean_from_the_first_one_to_the_end(status: int) -> None:
    """Case J 59. Also of streams whose client left or whose pod failed: they came at that pace."""
    arm, asked = begun()
    arm.first_byte(asked, 1.0, token=True)
    arm.ends(asked, status, 13.0, 21)
    figures = arm.figures(20.0)
    assert (figures.tpot, figures.tpot_by) == ({bucket_of(0.1): 1}, {cell(0, bucket_of(0.1)): 1})
    assert figures.tpot_sum_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("stream", "token", "tokens"), [(True, True, PACED - 1), (True, False, 21), (False, False, 21)]
)
def test_an_answer_of_few_tokens_or_without_a_first_one_has_no_time_of_each(
    stream: bool, token: bool, tokens: int
) -> None:
    arm, asked = begun(stream)
    arm.first_byte(asked, 1.0, token=token)
    arm.ends(asked, 200, 13.0, tokens)
    assert arm.figures(20.0).tpot == {}


@pytest.mark.parametrize(
    ("status", "failures", "left", "unserved"),
    [(200, 0, 0, 0), (400, 0, 0, 0), (499, 0, 1, 1), (500, 1, 0, 1), (504, 1, 0, 1)],
)
def test_a_stream_without_a_first_token_counts_by_how_it_ended(
    status: int, failures: int, left: int, unserved: int
) -> None:
    arm, asked = begun()
    arm.ends(asked, status, 13.0)
    figures = arm.figures(20.0)
    assert (figures.ended, figures.failures, figures.left) == (1, failures, left)
    assert figures.unserved == ({bucket_of(3.0): 1} if unserved else {})
    assert figures.waiting == {}


def test_a_whole_answer_counts_from_its_arrival_to_its_end() -> None:
    arm, asked = begun(stream=False)
    assert arm.figures(20.0).whole_waiting == {bucket_of(10.0): 1}
    arm.first_byte(asked, 2.0, token=False)
    arm.ends(asked, 200, 13.0)
    figures = arm.figures(20.0)
    assert (figures.whole, figures.whole_waiting, figures.waiting, figures.ttft) == ({bucket_of(3.0): 1}, {}, {}, {})
    assert figures.whole_by == {cell(0, bucket_of(3.0)): 1}


@pytest.mark.parametrize(("status", "unserved"), [(400, {}), (499, {bucket_of(3.0): 1}), (504, {bucket_of(3.0): 1})])
def test_a_whole_answer_that_never_came_is_a_lower_bound(status: int, unserved: dict[int, int]) -> None:
    arm, asked = begun(stream=False)
    arm.ends(asked, status, 13.0)
    assert (arm.figures(20.0).whole, arm.figures(20.0).whole_unserved) == ({}, unserved)


def test_requests_are_counted_by_their_cluster() -> None:
    arm = Arm("canary", Fixed())
    for cluster, status in ((3, 200), (3, 500), (5, 499)):
        asked = TrialRequest()
        arm.begins(asked, 10.0, cluster)
        arm.decided(asked, A, request(prefix_hits={A: 3}))
        arm.ends(asked, status, 11.0)
    figures = arm.figures(20.0)
    assert (figures.placed_by, figures.judged_by, figures.failures_by) == ({3: 2, 5: 1}, {3: 2}, {3: 1})
    assert (figures.queries_by, figures.hits_by) == ({3: 1280, 5: 640}, {3: 384, 5: 192})


def test_hits_are_at_most_the_prompt() -> None:
    arm, asked = begun()
    for hits in ({A: 3}, {A: 30}, {}):
        arm.decided(asked, A, request(prefix_hits=hits))
    figures = arm.figures(20.0)
    assert (figures.queries, figures.hits) == (1920.0, 192.0 + 640.0)
    assert figures.pods == {A: 3}


def test_an_arm_counts_how_many_promised_times_were_kept() -> None:
    arm, _ = begun()
    for kept in (True, False, True):
        arm.promised(kept=kept)
    figures = arm.figures(20.0)
    assert (figures.slo_requests, figures.slo_kept) == (3, 2)
