"""Sampling of requests for checks."""

from __future__ import annotations

from router.plugins.examples import examples
from router.plugins.samples import EVERY_S, KEPT, Samples
from schedulers.types import Rejection


def test_the_last_samples_are_kept_and_the_next_is_taken_after_an_interval() -> None:
    samples, made = Samples(), examples()
    for at in range(KEPT + 3):
        samples.take(10.0 + at, *made[at % len(made)], Rejection("none"))
    assert samples.recent() == tuple(made[at % len(made)] for at in range(3, KEPT + 3))
    assert samples.next_at == 10.0 + KEPT + 2 + EVERY_S


def test_without_samples_the_first_request_is_taken() -> None:
    samples = Samples()
    assert (samples.recent(), samples.next_at) == ((), 0.0)


def test_those_after_a_number_are_given_with_their_answers() -> None:
    samples, (example, *_) = Samples(), examples()
    for at in range(KEPT + 3):
        samples.take(10.0 + at, *example, Rejection(f"r{at + 1}"))
    assert [(each.number, each.answer) for each in samples.after(KEPT + 1)] == [
        (KEPT + 2, Rejection(f"r{KEPT + 2}")),
        (KEPT + 3, Rejection(f"r{KEPT + 3}")),
    ]
    assert len(samples.after(0)) == KEPT
