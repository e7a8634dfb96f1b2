"""The faults of an answer, and when a policy has failed too often."""

from __future__ import annotations

import pytest

from schedulers.guard import Failure, PolicyTimeout, Strikes, fault, is_sound, raised, slow
from schedulers.types import Decision, PodId, Rejection
from tests.fakes.each_case import each_case
from tests.fakes.scheduler_inputs import idle, pod_ids, request_of

A, B = pod_ids(2)
SNAPSHOT = idle(2)


class Hostile:
    """An object whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "answer", [Decision(A, "p"), Decision(A, "p", 1.0, "x"), Rejection("kv_full"), Rejection("kv_full", 0)], ids=str
)
def test_a_pod_of_the_snapshot_or_a_rejection_is_right(answer: object) -> None:
    assert fault(answer, request_of(), SNAPSHOT) is None


@each_case(
    ("answer", "reason", "words"),
    [
        (None, "no_answer", "answered None, which is neither a Decision nor a Rejection"),
        (A, "no_answer", "answered '10.0.0.0:8000'"),
        ((A, "p", 0.0, ""), "no_answer", "answered ("),
        (Decision(["x"], "p"), "no_answer", "answered Decision"),  # type: ignore[arg-type]
        (Hostile(), "no_answer", "answered a Hostile"),
        (Decision(PodId("10.9.9.9:1"), "p"), "not_in_snapshot", "picked '10.9.9.9:1', which is not in the snapshot (2"),
        (Decision(PodId("x" * 999), "p"), "not_in_snapshot", "picked 'xxxx"),
        (Decision(B, "p"), "tried", "which already failed this request"),
        (Rejection("not today"), "no_answer", "rejected with Rejection"),
        (Rejection("x", float("nan")), "no_answer", "rejected with"),
    ],
)
def test_a_wrong_answer_has_a_reason_and_a_message(answer: object, reason: str, words: str) -> None:
    failure = fault(answer, request_of(tried=frozenset({B})), SNAPSHOT)
    assert failure is not None
    assert failure.reason == reason
    assert words in failure.words
    assert len(failure.words) < 400


@each_case(
    "rejection",
    [
        Rejection(5),  # type: ignore[arg-type]
        Rejection(""),
        Rejection("with space"),
        Rejection("x" * 65),
        Rejection("x", -1.0),
        Rejection("x", float("inf")),
        Rejection("x", "1"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_a_rejection_that_cannot_be_sent_to_a_client_is_unsound(rejection: Rejection) -> None:
    assert not is_sound(rejection)


def test_an_exception_and_a_timeout_have_different_reasons() -> None:
    assert raised(ValueError("a defect")) == Failure("raised", "raised ValueError('a defect')")
    assert raised(PolicyTimeout("did not return")) == Failure("stuck", "did not return")
    assert slow(0.1234) == Failure("slow", "took 123 ms")


def test_the_failure_that_reaches_the_limit_within_the_window_takes_the_policy_out() -> None:
    strikes = Strikes(3, 10.0)
    assert [strikes.add(at) for at in (0.0, 4.0, 10.0)] == [False, False, True]
    assert strikes.words(slow(0.1)) == "3 failures within 10 s, the last: it took 100 ms"


def test_failures_far_enough_apart_never_take_the_policy_out() -> None:
    strikes = Strikes(3, 10.0)
    assert not any(strikes.add(5.1 * at) for at in range(1000))


def test_one_failure_is_enough_where_one_is_the_limit() -> None:
    assert Strikes(1, 10.0).add(7.0)
