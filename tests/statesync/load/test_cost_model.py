"""Learned costs: what they converge to, when they are used, and what does not move them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.ttft import CHUNK_TOKENS, PRIOR, Costs
from statesync.load.cost_model import FADE_S, FEWEST, POD_FEWEST, CostModel, PodSpeed, ridge
from tests.fakes.scheduler_inputs import unhurried

A100 = Costs(PRIOR.token_s * 3.2, PRIOR.step_s * 1.65, PRIOR.decoding_s * 1.6, PRIOR.held_s * 1.64)


class Prefills:
    """Prefills of all sizes on pods whose costs are known, learned one by one."""

    def __init__(self, costs: Costs = PRIOR, pods: int = 4, noise: float = 0.3) -> None:
        self.model = CostModel()
        self.speeds = [PodSpeed() for _ in range(pods)]
        self.costs, self.noise, self.rng = costs, noise, random.Random(5)

    def learn(self, count: int, pods: int | None = None, slower: float = 1.0, most: int = 40_000) -> None:
        """That many prefills, each on one of the first `pods`, which are that much slower."""
        rng = self.rng
        for _ in range(count):
            work, decoding, tokens = rng.randrange(200, most), rng.randrange(60), rng.randrange(300_000)
            steps = 0.5 + work / CHUNK_TOKENS
            costs, prior = self.costs, PRIOR
            seconds = work * costs.token_s + steps * costs.decode_step_s(decoding, tokens)
            parts = (
                work * prior.token_s,
                steps * prior.step_s,
                steps * decoding * prior.decoding_s,
                steps * tokens * prior.held_s,
            )
            speed = self.speeds[rng.randrange(pods or len(self.speeds))]
            self.model.learn(speed, seconds * slower * rng.lognormvariate(0.0, self.noise), parts)

    def factors(self) -> list[float]:
        return [speed.factor for speed in self.speeds]


def test_the_costs_of_another_machine_are_learned() -> None:
    prefills = Prefills(A100)
    prefills.learn(2000)
    assert prefills.model.costs.token_s == pytest.approx(A100.token_s, rel=0.15)
    found, true = (each.decode_step_s(30, 150_000) for each in (prefills.model.costs, A100))
    assert found == pytest.approx(true, rel=0.35)
    assert prefills.factors() == [1.0] * 4


def test_on_the_machine_of_the_prior_nothing_learned_is_used() -> None:
    """The A/A case: exactly the fixed model, whatever the noise."""
    prefills = Prefills(PRIOR, noise=0.8)
    for _ in range(50):
        prefills.learn(100)
        assert prefills.model.costs == PRIOR
        assert prefills.factors() == [1.0] * 4


def test_nothing_is_used_before_there_are_enough_samples() -> None:
    prefills = Prefills(A100)
    prefills.learn(FEWEST - 1)
    assert prefills.model.costs == PRIOR


def test_a_pod_that_is_throttled_to_half_is_found_and_forgiven() -> None:
    prefills = Prefills()
    prefills.learn(800)
    prefills.learn(150, pods=1, slower=2.0)
    assert prefills.speeds[0].factor == pytest.approx(2.0, rel=0.3)
    assert prefills.factors()[1:] == [1.0] * 3
    prefills.learn(400, pods=1)
    assert prefills.speeds[0].factor == 1.0


def test_pods_of_two_kinds_are_told_apart() -> None:
    prefills = Prefills()
    for _ in range(200):
        prefills.learn(2, pods=2, slower=2.5)
        prefills.speeds.reverse()
        prefills.learn(2, pods=2)
        prefills.speeds.reverse()
    fast, slow = prefills.factors()[2:], prefills.factors()[:2]
    assert min(slow) / max(fast) == pytest.approx(2.5, rel=0.3)


def test_one_prompt_that_waited_for_something_else_changes_nothing() -> None:
    prefills = Prefills(noise=0.1)
    prefills.learn(400)
    prefills.model.learn(prefills.speeds[0], 500.0, (0.2, 0.1, 0.1, 0.1))
    prefills.learn(20)
    assert (prefills.model.costs, prefills.factors()) == (PRIOR, [1.0] * 4)


def test_a_pod_without_new_samples_is_tried_again() -> None:
    prefills = Prefills()
    prefills.learn(400)
    prefills.learn(150, pods=1, slower=3.0)
    assert prefills.speeds[0].factor > 1.5  # the pool's costs have taken over some of it
    for _ in range(5):
        prefills.speeds[0].fade(FADE_S)
    assert prefills.speeds[0].factor == 1.0


def test_a_few_samples_of_a_pod_are_not_enough() -> None:
    speed = PodSpeed()
    for _ in range(POD_FEWEST - 1):
        speed.learn(3.0)
    assert speed.factor == 1.0
    for _ in range(POD_FEWEST):
        speed.learn(3.0)
    assert speed.factor > 2.0


@unhurried
@given(st.lists(st.tuples(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), st.floats(0.0, 100.0)), max_size=30))
def test_multiples_are_bounded_whatever_the_samples(samples: list[tuple[list[float], float]]) -> None:
    information, seen = [[0.0] * 4 for _ in range(4)], [0.0] * 4
    for share, ratio in samples:
        for at in range(4):
            seen[at] += share[at] * ratio
            for other in range(4):
                information[at][other] += share[at] * share[other]
    assert all(0.1 <= each <= 10.0 for each in ridge(information, seen))


def test_without_samples_every_multiple_is_1() -> None:
    assert ridge([[0.0] * 4 for _ in range(4)], [0.0] * 4) == [1.0] * 4


def test_repr_has_the_values() -> None:
    assert repr(PodSpeed()) == "<PodSpeed 1, 1 used>"
    assert repr(CostModel()) == "<CostModel 1, 1, 1, 1 x the prior, not used, error 0>"
