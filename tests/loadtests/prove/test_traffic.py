"""Requests of a round: equal prefixes stay equal, rounds share nothing, answers are known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from loadtests.prove.traffic import MOST_ANSWER, MOST_PROMPT, conversations, from_file, question, questions
from loadtests.sim import chat
from loadtests.sim.simpod.text import answer_text, chat_text, prompt_of
from router.recording.format import RecordedRequest, line


def test_later_turns_of_a_conversation_begin_with_the_earlier_ones() -> None:
    turns = [each.units for each in conversations().arrivals if each.session == "3"]
    assert len(turns) == 6
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(turns))


def test_rounds_have_prompts_of_their_own_and_a_round_is_the_same_every_time() -> None:
    trace = from_file(None)
    first, again, second = ([each.body for each in questions(trace, number, 40, 50.0)] for number in (0, 0, 1))
    assert first == again
    assert not {body[:200] for body in first} & {body[:200] for body in second}


def test_the_right_answer_is_the_engines_answer() -> None:
    asked = question(0.0, "What next?", 5)
    messages = [{"role": "user", "content": "What next?"}]
    assert asked.wanted == answer_text(prompt_of(chat_text(messages)).seed, 5)
    assert asked.body == chat.body("sim-model", messages, 5, ignore_eos=True)


def test_a_recording_of_the_gateway_is_cut_to_what_the_engines_take(tmp_path: Path) -> None:
    lines = (
        line(RecordedRequest(1e9 + at, 90_000, [*range(1, 40)], "s", 0.1, 1.0, "p", 700, 9000, b"")) for at in range(3)
    )
    path = tmp_path / "recording.jsonl"
    path.write_bytes(b"".join(lines))
    trace = from_file(path)
    assert {each.prompt_tokens for each in trace.arrivals} == {MOST_PROMPT}
    assert {each.output_tokens for each in trace.arrivals} == {MOST_ANSWER}
    assert len([*questions(trace, 2, 10, 50.0)]) == 10
