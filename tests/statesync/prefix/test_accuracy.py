"""The trust in the index after the engines' answers and counters."""

from __future__ import annotations

import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PREFIX_BLOCK_TOKENS, PodId
from statesync.prefix.accuracy import LEAST, MOST, SLACK_TOKENS, WINDOW_TOKENS, PrefixAccuracy, judged
from statesync.prefix.index import PrefixIndex
from statesync.types import EngineReport

A, B = PodId("a"), PodId("b")


def test_an_estimate_that_was_too_high_costs_trust_and_right_ones_restore_it() -> None:
    trust = judged(1.0, 10_000, 0)
    half = judged(1.0, 10_000, 5_000)
    assert trust < half < 1.0, "a larger error costs more"
    again = judged(trust, 10_000, 10_000)
    assert trust < again < trust + (1 - trust) / 5, "slowly"
    for _ in range(1000):
        trust = judged(trust, 10_000, 10_000)
    assert trust == 1.0


@pytest.mark.parametrize(("expected", "found"), [(SLACK_TOKENS, 0), (16_000, 14_000), (16_000, 18_000), (0, 0), (0, 9)])
def test_a_difference_within_the_slack_of_block_sizes_changes_nothing(expected: int, found: int) -> None:
    assert judged(1.0, expected, found) == 1.0


def test_a_pod_that_holds_more_than_expected_gets_more_room() -> None:
    assert judged(1.0, 1_000, 9_000) > 1.0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=300))
def test_trust_stays_within_its_bounds(answers: list[tuple[int, int]]) -> None:
    trust = 1.0
    for expected, found in answers:
        trust = judged(trust, expected, found)
        assert LEAST <= trust <= MOST


def test_sums_are_each_pod_s_own() -> None:
    received: list[tuple[PodId, float]] = []
    accuracy = PrefixAccuracy(lambda pod, trust: received.append((pod, trust)))
    accuracy.judge(A, 1000, 400)
    accuracy.judge(A, 0, 200)
    accuracy.judge(B, 500, 500)
    a, b = accuracy.pods[A], accuracy.pods[B]
    assert (a.predicted, a.true, a.error) == (1000, 600, 800)
    assert (b.predicted, b.true, b.error, b.trust) == (500, 500, 0, 1.0)
    assert received == [(A, a.trust)], "only changes are received"


def predict(accuracy: PrefixAccuracy, prompt: int, expected: int) -> None:
    """As dispatch does."""
    accuracy.pods[A].asked += prompt
    accuracy.pods[A].expected += expected


def report(asked: int | None, found: int | None) -> EngineReport:
    return EngineReport(prefix_queries_tokens=asked, prefix_hits_tokens=found)


def test_without_hits_in_answers_the_rate_of_the_engines_counters_is_the_truth() -> None:
    accuracy = PrefixAccuracy(lambda pod, trust: None)
    predict(accuracy, 1, 1)
    accuracy.on_report(A, report(1_000, 900))  # the baseline
    predict(accuracy, WINDOW_TOKENS, WINDOW_TOKENS // 2)
    accuracy.on_report(A, report(1_000 + 4 * WINDOW_TOKENS, 900 + WINDOW_TOKENS))  # with the traffic of other replicas
    pod = accuracy.pods[A]
    assert (pod.predicted, pod.true) == (WINDOW_TOKENS // 2, WINDOW_TOKENS // 4)
    assert pod.trust < 1.0
    predict(accuracy, WINDOW_TOKENS - 1, 10_000)
    accuracy.on_report(A, report(10**7, 10**6))
    assert pod.true == WINDOW_TOKENS // 4, "too few tokens since the last judgement"


def test_an_engine_with_hits_in_its_answers_is_not_judged_by_its_counters() -> None:
    accuracy = PrefixAccuracy(lambda pod, trust: None)
    predict(accuracy, 1, 1)
    accuracy.on_report(A, report(0, 0))
    predict(accuracy, WINDOW_TOKENS, WINDOW_TOKENS)
    accuracy.judge(A, 100, 100)
    accuracy.on_report(A, report(10**6, 0))
    assert accuracy.pods[A].predicted == 100


@pytest.mark.parametrize("second", [report(500, 100), report(None, None), report(10**6, 50)])
def test_counters_that_fell_or_are_missing_change_nothing(second: EngineReport) -> None:
    accuracy = PrefixAccuracy(lambda pod, trust: None)
    predict(accuracy, 1, 1)
    accuracy.on_report(A, report(1_000, 100))
    predict(accuracy, WINDOW_TOKENS, WINDOW_TOKENS)
    accuracy.on_report(A, second)
    assert accuracy.pods[A].predicted == 0


def test_a_restart_restores_the_trust_and_keeps_the_sums_and_a_pod_that_left_is_forgotten() -> None:
    accuracy = PrefixAccuracy(lambda pod, trust: None)
    accuracy.judge(A, 10_000, 0)
    accuracy.restarted(A)
    accuracy.restarted(B)
    assert (accuracy.pods[A].trust, accuracy.pods[A].predicted) == (1.0, 10_000)
    accuracy.forget([A, B])
    assert accuracy.pods == {}


def errors_of(index: PrefixIndex, accuracy: PrefixAccuracy, held_prompts: int) -> list[bool]:
    """Whether each estimate was wrong. Any of 190 prompts may come next, and the pod keeps the latest ones."""
    size, rng = 20, random.Random(1)
    chains = [index.chain("m", [bytes([at]) * 256 * size]) for at in range(190)]
    held: OrderedDict[int, None] = OrderedDict()
    wrong: list[bool] = []
    for _ in range(3000):
        turn = rng.randrange(len(chains))
        found = size * (turn in held)
        expected = index.match(chains[turn]).get(A, 0)
        wrong.append(expected != found)
        accuracy.judge(A, expected * PREFIX_BLOCK_TOKENS, found * PREFIX_BLOCK_TOKENS)
        index.place(A, chains[turn])
        held[turn] = None
        held.move_to_end(turn)
        if len(held) > held_prompts:
            held.popitem(last=False)
    return wrong[1000:]


@pytest.mark.parametrize("too_big", [2, 3])
def test_an_index_that_overestimates_a_pod_shrinks_to_its_size(too_big: int) -> None:
    held = 50
    tokens = held * too_big * 20 * PREFIX_BLOCK_TOKENS
    learns, never = PrefixIndex(1 << 30, tokens), PrefixIndex(1 << 30, tokens)
    accuracy = PrefixAccuracy(learns.set_trust)
    after, before = errors_of(learns, accuracy, held), errors_of(never, PrefixAccuracy(lambda pod, trust: None), held)
    assert sum(after) * 3 < sum(before)
    assert accuracy.pods[A].trust < 1.3 / too_big


def test_an_index_that_is_right_stays_right() -> None:
    index = PrefixIndex(1 << 30, 50 * 20 * PREFIX_BLOCK_TOKENS)
    accuracy = PrefixAccuracy(index.set_trust)
    assert not any(errors_of(index, accuracy, 50))
    assert accuracy.pods[A].trust == 1.0
