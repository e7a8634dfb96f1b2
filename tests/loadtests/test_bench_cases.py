"""The bodies that the bench sends."""

from __future__ import annotations

import json

import pytest

from loadtests.bench.cases import CASES, GROUPS, SERIAL, Case, bodies


def whole(case: Case, group: int, serial: int) -> bytes:
    before, after = bodies(case)[group]
    return (before + SERIAL % serial + after).encode()


@pytest.mark.parametrize("case", [*CASES.values(), Case("long", 32_768, 16, stream=True)], ids=lambda case: case.name)
def test_every_body_is_json_of_exactly_the_length_asked_for(case: Case) -> None:
    for group in range(GROUPS):
        body = whole(case, group, 7)
        assert len(body) == case.prompt_bytes
        assert json.loads(body)["stream"] is case.stream


def test_bodies_of_a_group_share_all_but_their_end_and_groups_share_little() -> None:
    one, other = whole(CASES["smoke"], 3, 1), whole(CASES["smoke"], 3, 2)
    same = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert same > 1000
    system = {json.loads(whole(CASES["smoke"], group, 1))["messages"][0]["content"] for group in range(GROUPS)}
    assert len(system) == GROUPS


def test_a_body_too_short_for_its_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="too short"):
        bodies(Case("tiny", 20, 1))
