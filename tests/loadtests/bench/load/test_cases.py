"""The request bodies that the bench sends."""

from __future__ import annotations

import itertools
import json

import pytest

from loadtests.bench.load.cases import ACTIVE, CASES, SERIAL, Case, bodies, place
from tests.fakes.each_case import each_case


def whole(case: Case, group: int, serial: int) -> bytes:
    before, after = bodies(case)[group * case.turns]
    return (before + SERIAL % serial + after).encode()


@each_case("case", CASES.values(), ids=lambda case: case.name)
def test_every_first_body_is_json_of_exactly_the_requested_length(case: Case) -> None:
    firsts = bodies(case)[:: case.turns]
    assert len(firsts) == case.groups
    for before, after in firsts:
        body = (before + SERIAL % 7 + after).encode()
        assert len(body) == case.prompt_bytes
        assert json.loads(body)["stream"] is case.stream


def test_bodies_of_a_group_share_everything_except_their_end_and_groups_share_little() -> None:
    one, other = whole(CASES["1k"], 3, 1), whole(CASES["1k"], 3, 2)
    same = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert same > 1000
    system = {json.loads(whole(CASES["1k"], group, 1))["messages"][0]["content"] for group in range(64)}
    assert len(system) == CASES["1k"].groups == 64


def test_a_body_too_short_for_its_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="too short"):
        bodies(Case("tiny", 20, 1))


def test_a_later_turn_repeats_all_earlier_messages() -> None:
    case = CASES["conversations"]
    turns = [json.loads(before + SERIAL % 7 + after)["messages"] for before, after in bodies(case)[: case.turns]]
    for earlier, later in itertools.pairwise(turns):
        assert later[: len(earlier)] == earlier
        assert [message["role"] for message in later[len(earlier) :]] == ["assistant", "user"]


def test_conversations_alternate_and_each_has_all_its_turns_in_order() -> None:
    case = CASES["conversations"]
    turns_of: dict[int, list[int]] = {}
    for number in range(ACTIVE * case.turns * 3):
        conversation, at = place(number, case)
        assert at // case.turns == conversation % case.groups
        turns_of.setdefault(conversation, []).append(at % case.turns)
    assert len(turns_of) == ACTIVE * 3
    assert all(turns == [*range(case.turns)] for turns in turns_of.values())


def test_with_one_turn_each_request_is_a_new_conversation() -> None:
    assert [place(number, CASES["1k"])[0] for number in range(200)] == [*range(200)]
