"""Paces: what they converge to, what does not disturb them, and from what they are learned."""

from __future__ import annotations

import random

import pytest

from loadtests.sim.engine.profiles import A100_8B, H100_8B, H100_70B_TP8, EngineProfile
from schedulers.ttft import PACE_S, first_token_work, prefill_work, step_work
from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.pod_state import FADE_S, SpeedRatio
from statesync.load.pool_state import PrefillSpeed
from statesync.load.view import LoadView
from statesync.types import EngineReport
from tests.fakes.virtual_time import Clock

A, B = PodId("a:1"), PodId("b:1")


@pytest.mark.parametrize("times", [1 / 3, 1.0, 3.0, 20.0])
def test_a_ratio_converges_to_that_of_the_samples(times: float) -> None:
    ratio, rng = SpeedRatio(), random.Random(1)
    for _ in range(100):
        expected_s = rng.uniform(0.02, 0.8)
        ratio.learn(expected_s * times * rng.uniform(0.8, 1.2), expected_s)
    assert ratio.value == pytest.approx(times, rel=0.15)


def test_two_prompts_of_one_step_count_as_one() -> None:
    ratio = SpeedRatio()
    for _ in range(500):
        ratio.learn(2.0, 1.0)
        ratio.learn(0.0, 1.0)
    assert ratio.value == pytest.approx(1.0, rel=0.03)


def test_one_prompt_that_waited_for_something_else_moves_it_little() -> None:
    ratio = SpeedRatio()
    for _ in range(60):
        ratio.learn(0.4, 0.4)
    ratio.learn(60.0, 0.4)
    assert ratio.value < 1.1


def test_a_ratio_without_new_samples_fades_to_1() -> None:
    ratio = SpeedRatio()
    for _ in range(60):
        ratio.learn(4.0, 0.4)
    for _ in range(10):
        ratio.fade(FADE_S / 2)
    assert ratio.value == pytest.approx(1.0, rel=0.3)
    ratio.fade(2 * FADE_S)
    assert ratio.value == 1.0


@pytest.mark.parametrize(("times", "step"), [(1.0, 1.0), (1.08, 1.0), (0.93, 1.0), (1.9, 2.0), (0.5, 0.5)])
def test_ratios_are_rounded_to_steps_so_that_equal_machines_are_equal(times: float, step: float) -> None:
    ratio = SpeedRatio()
    ratio.value = times
    assert ratio.step() == pytest.approx(step)


def test_a_pod_that_gets_the_long_prompts_does_not_look_faster() -> None:
    pool, pods, rng = PrefillSpeed(), [SpeedRatio() for _ in range(8)], random.Random(3)
    for _ in range(4000):
        at = rng.randrange(8)
        long = rng.random() < (0.8 if at < 2 else 0.2)
        pool.learn(pods[at], 40_000 * 2.5e-5 if long else 5000 * 4e-5, 40_000 if long else 5000)
    steps = [pod.step() for pod in pods]
    assert max(steps) == min(steps), pods  # though prompts of the two sizes differ by 1.6


def test_repr_has_the_values() -> None:
    assert repr(SpeedRatio()) == "<SpeedRatio 1 from 0 s>"
    assert repr(PrefillSpeed()) == "<PrefillSpeed 24000 token equivalents/s, <SpeedRatio 1 from 0 s>>"


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
    assert times.pace_s(A) == times.pace_s(B) == pytest.approx(profile.prefill_token_s, rel=0.3)


def test_in_a_mixed_pool_each_pod_has_its_own_pace() -> None:
    times = Times()
    for _ in range(80):
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
    assert times.pace_s(A) == times.pace_s(B) == PACE_S


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
    assert first_token_work(load.prefill_work, 4000, step_work(1, 8512)) > load.prefill_work


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
