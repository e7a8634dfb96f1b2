"""The counts of an arm at each step of a request."""

from __future__ import annotations

import pytest

from router.trials.arm import Arm
from router.trials.durations import bucket_of
from router.trials.figures import ArmFigures
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


def test_a_whole_answer_has_no_wait() -> None:
    arm, asked = begun(stream=False)
    assert arm.figures(20.0).waiting == {}
    arm.ends(asked, 500, 13.0)
    assert arm.figures(20.0) == ArmFigures(placed=1, ended=1, failures=1)


def test_hits_are_at_most_the_prompt() -> None:
    arm, _ = begun()
    arm.decided(A, request(prefix_hits={A: 3}))
    arm.decided(A, request(prefix_hits={A: 30}))
    arm.decided(A, request())
    figures = arm.figures(20.0)
    assert (figures.queries, figures.hits) == (1920.0, 192.0 + 640.0)
    assert figures.hits_squared == 192.0**2 + 640.0**2
    assert (figures.queries_squared, figures.queries_hits) == (3 * 640.0**2, 640.0 * 832.0)


def test_an_arm_counts_how_many_promised_times_were_kept() -> None:
    arm, _ = begun()
    for kept in (True, False, True):
        arm.promised(kept=kept)
    figures = arm.figures(20.0)
    assert (figures.slo_requests, figures.slo_kept) == (3, 2)
