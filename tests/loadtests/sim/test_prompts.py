"""Requests sent in real time are those of the trace."""

from __future__ import annotations

import msgspec

from loadtests.sim.prompts import body, text
from loadtests.sim.simpod.text import chat_text, prompt_of
from loadtests.sim.simulate.traces import Arrival

UNIT = 512


def prompt(arrival: Arrival) -> bytes:
    return chat_text([{"role": "user", "content": text(arrival, UNIT)}])


def test_a_prompt_has_the_length_in_the_trace() -> None:
    arrival = Arrival(0.0, 1300, 20, (1, 2, 3))
    assert prompt_of(prompt(arrival)).tokens == 1300


def test_prompts_with_equal_units_have_equal_text_up_to_the_first_difference() -> None:
    left, right = prompt(Arrival(0.0, 1500, 1, (1, 2, 3))), prompt(Arrival(0.0, 1500, 1, (1, 2, 9)))
    shared = 2 * UNIT * 4
    assert left[:shared] == right[:shared]
    assert left[shared : shared + 100] != right[shared : shared + 100]


def test_an_answer_has_the_length_in_the_trace() -> None:
    sent = msgspec.json.decode(body(Arrival(0.0, 600, 77, (1, 2)), UNIT))
    assert (sent["max_tokens"], sent["ignore_eos"], sent["stream"]) == (77, True, True)
