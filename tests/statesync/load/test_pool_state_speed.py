"""Paces in the view: from what they are learned, and what they converge to."""

from __future__ import annotations

import random

import pytest

from loadtests.sim.engine.profiles import A100_8B, H100_8B, H100_70B_TP8, EngineProfile
from schedulers.ttft import IDLE_PACE_S, prefill_work
from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.cost_model import FADE_S
from statesync.load.view import LoadView
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.virtual_time import Clock

A, B = PodId("a:1"), PodId("b:1")


class Times:
    """A view and a clock to set."""

    def __init__(self) -> None:
        self.clock = Clock(100.0)
        self.view = LoadView(self.clock)
        self.view.set_pods("p", [Pod(A, "a:1"), Pod(B, "b:1")])

    def stream(self, pod: PodId, prompt: int, takes_s: float, *, whole: bool = False) -> None:
        charge = self.view.reserve(pod, RequestInfo("r", "m", prompt, 0, self.clock.now, 0, 0))
        self.clock.now += takes_s
        self.view.prefill_done(charge)
        if not whole:
            self.view.observe_ttft(pod, takes_s)
        self.view.release(charge)

    def pace_s(self, pod: PodId) -> float:
        return self.view.status(pod).load.pace_s


def lone_prefill_s(profile: EngineProfile, prompt: int) -> float:
    """Prefill seconds on an idle engine of that profile."""
    chunks = -(-prompt // profile.max_batched_tokens)
    return profile.step_s * chunks + profile.prefill_token_s * prompt + profile.attention_s * prompt * prompt / 2


@pytest.mark.parametrize("profile", [H100_8B, A100_8B, H100_70B_TP8], ids=lambda p: p.name)
def test_the_view_learns_a_pool_s_pace_for_any_machine(profile: EngineProfile) -> None:
    times, rng = Times(), random.Random(2)
    for _ in range(80):
        prompt = rng.randrange(200, 40_000)
        times.stream(rng.choice((A, B)), prompt, lone_prefill_s(profile, prompt))
    assert times.pace_s(A) == pytest.approx(times.pace_s(B), rel=0.1)
    assert times.pace_s(A) == pytest.approx(profile.prefill_token_s, rel=0.3)


def test_in_a_mixed_pool_each_pod_has_its_own_pace() -> None:
    times = Times()
    for _ in range(200):
        times.stream(A, 8000, lone_prefill_s(H100_8B, 8000))
        times.stream(B, 8000, lone_prefill_s(A100_8B, 8000))
    ratio = A100_8B.prefill_token_s / H100_8B.prefill_token_s
    assert times.pace_s(B) / times.pace_s(A) == pytest.approx(ratio, rel=0.25)
    for _ in range(40):
        times.clock.now += FADE_S
        times.view.report(B, EngineReport(queued=0))
    assert times.pace_s(B) < 3 * times.pace_s(A)


def test_nothing_is_learned_from_a_whole_answer_or_a_failure() -> None:
    times = Times()
    for _ in range(20):
        times.stream(A, 1000, 30.0, whole=True)
        times.view.release(times.view.reserve(A, RequestInfo("r", "m", 1000, 0, 0.0, 0, 0)))
        times.view.observe_ttft(B, 1.0)
    assert times.pace_s(A) == times.pace_s(B) == IDLE_PACE_S


def test_the_head_of_the_queue_is_timed_from_when_it_was_first() -> None:
    times = Times()
    held = [times.view.reserve(A, RequestInfo("r", "m", 4000, 0, 0.0, 0, 0)) for _ in range(3)]
    load = times.view.status(A).load
    assert (load.head_since, load.prefilling, load.prefill_work) == (100.0, 3, 3 * prefill_work(4000, 0))
    times.clock.now = 101.0
    times.view.prefill_done(held[0])
    load = times.view.status(A).load
    assert (load.head_since, load.prefilling) == (101.0, 2)
    times.view.release(held[1])
    assert times.view.status(A).load.head_since == 101.0


def test_how_long_requests_stay_is_learned_from_answered_ones() -> None:
    times = Times()
    times.stream(A, 100, 2.0)
    times.view.release(times.view.reserve(A, RequestInfo("r", "m", 1000, 0, 0.0, 0, 0)))
    assert times.view.status(A).load.e2e_ewma_s == pytest.approx(2.0)
    times.stream(A, 100, 12.0)
    assert times.view.status(A).load.e2e_ewma_s == pytest.approx(3.0)


def test_an_engine_that_reports_its_capacity_keeps_it() -> None:
    times = Times()
    times.view.report(A, EngineReport(kv_capacity_tokens=9000))
    times.view.report(A, EngineReport(queued=1))
    assert times.view.status(A).load.kv_capacity_tokens == 9000


def test_prompts_that_come_back_at_once_count_together() -> None:
    times = Times()
    for _ in range(400):  # four prompts in each step: the first takes all of its time
        for seconds in (0.4, 0.0, 0.0, 0.0):
            times.stream(A, 2400, seconds)
    assert times.pace_s(A) == times.pace_s(B) == pytest.approx(IDLE_PACE_S, rel=0.15)  # 9,600 tokens in 0.4 s


def test_numbers_of_replicas_that_contradict_each_other_break_no_sample() -> None:
    times = Times()
    for _ in range(200):  # prefill seems to cost next to nothing: all the rest must not be below nothing
        times.stream(A, 20_000, 0.05)
    times.view.set_remote("x", {A: InflightNumbers(prefilling=1000, prefill_work=1)})
    times.stream(A, 30_000, 1.0)
    load = times.view.status(A).load
    assert load.step_s > 0.0
    assert load.pace_s > 0.0
