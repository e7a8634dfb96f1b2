"""Fleets whose first pods only compute prompts."""

from __future__ import annotations

import pytest

from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.simulate.command import main
from loadtests.sim.simulate.contenders import pair_contender
from loadtests.sim.simulate.pairs import SETUP_S, TOKEN_S, PairChoice, PairRouter, PairWorld
from loadtests.sim.simulate.runs import Case, simulate
from loadtests.sim.simulate.traces import Arrival, Trace
from schedulers.errors import InvalidParams

UNIT = 512


def trace(count: int, every_s: float, prompt: int = 4000, answer: int = 100) -> Trace:
    """Requests whose prompts have nothing in common."""
    arrivals = [
        Arrival(at * every_s, prompt, answer, tuple(range(at * 100, at * 100 + prompt // UNIT))) for at in range(count)
    ]
    return Trace("t", UNIT, arrivals)


class Fixed(PairRouter):
    """Always the same pods."""

    def __init__(self, choice: PairChoice) -> None:
        self.choice = choice
        self.done: list[int] = []

    def pair(self, number: int, arrival: Arrival, /) -> PairChoice:
        return self.choice

    def prefilled(self, number: int, /) -> None:
        self.done.append(number)


def test_a_first_token_comes_after_prefill_transfer_and_one_step() -> None:
    world, router = PairWorld([H100_8B] * 2, UNIT), Fixed(PairChoice(0, 1))
    (outcome,) = world.play(trace(1, 1.0), router)
    (alone,) = PairWorld([H100_8B] * 2, UNIT).play(trace(1, 1.0), Fixed(PairChoice(None, 1)))
    transfer_s = SETUP_S + 4000 * TOKEN_S
    assert outcome.ttft_s == pytest.approx(alone.ttft_s + transfer_s + H100_8B.step_s, rel=0.01)
    assert (outcome.pod, outcome.cached_tokens, router.done) == (1, 3999, [0])
    assert world.engines[0].generation_tokens == 1
    assert world.engines[1].prefix_hits_tokens == 0


def test_a_request_that_no_pod_can_hold_is_rejected_once() -> None:
    world = PairWorld([H100_8B] * 2, UNIT)
    assert world.play(trace(2, 1.0, prompt=200_000), Fixed(PairChoice(0, 1))) == []
    assert world.rejected == 2


def test_answers_are_steadier_than_with_pods_that_do_both_and_as_good_as_the_oracles() -> None:
    requests = trace(150, 1 / 9)
    both = simulate(requests, "prefix_aware", Case(4))
    split = simulate(requests, "prefix_aware", Case(4, prefill_pods=2))
    oracle = simulate(requests, "oracle", Case(4, prefill_pods=2))
    assert len(split.outcomes) == len(oracle.outcomes) == 150

    def e2e(run: object) -> float:
        return sum(outcome.e2e_s for outcome in run.outcomes)  # type: ignore[attr-defined]

    assert e2e(split) <= 1.05 * e2e(oracle)
    assert max(each.itl_s for each in split.outcomes) < max(each.itl_s for each in both.outcomes)


def test_peers_that_choose_one_pod_play_no_pairs() -> None:
    with pytest.raises(InvalidParams, match="needs two"):
        pair_contender("chwbl", 2)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--pods", "2", "--prefill-pods", "2"), "leaves none of 2 pods"),
        (("--prefill-pods", "2", "--replicas", "2"), "with one gateway"),
    ],
)
def test_fleets_that_cannot_be_played_are_refused(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["documents", "--policy", "prefix_aware", "--limit", "5", *flags]) == 2
    assert said in capsys.readouterr().err
