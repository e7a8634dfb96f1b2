"""A record is built completely or not at all, and the message names the part that cannot be built."""

from __future__ import annotations

import pytest

from router.policy.model import ChangeOptions, Unbuildable, build, expect
from schedulers.errors import UnknownPolicy
from schedulers.registry import create
from statesync.errors import StaleGeneration
from statesync.store.lineage import digest
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import PolicyRecord

GOOD = PolicyRecord("p2c", {}, 1, PolicyChoice("random"), Canary(PolicyChoice("least_load"), 5.0))


def test_every_policy_of_a_record_is_built() -> None:
    built = build(create, GOOD)
    assert built.shadow is not None
    assert built.candidate is not None
    assert [each.name for each in (built.scheduler, built.shadow, built.candidate)] == ["p2c", "random", "least_load"]
    assert build(create, PolicyRecord("p2c", {}, 1))[1:] == (None, None)


@pytest.mark.parametrize(
    ("record", "place", "part"),
    [
        (GOOD._replace(shadow=PolicyChoice("p3c")), "shadow", "policy"),
        (GOOD._replace(canary=Canary(PolicyChoice("p2c", {"wat": 1}), 5.0)), "canary", "params"),
    ],
)
def test_a_problem_in_another_part_than_the_policy_names_its_place(record: PolicyRecord, place: str, part: str) -> None:
    with pytest.raises(Unbuildable, match=f"^{place}: ") as raised:
        build(create, record)
    assert (raised.value.place, raised.value.part) == (place, part)


def test_a_problem_of_the_policy_itself_has_the_policys_message() -> None:
    with pytest.raises(UnknownPolicy, match=r"^no policy 'p3c'"):
        build(create, GOOD._replace(name="p3c"))


def test_a_change_of_another_record_of_the_same_generation_is_stale() -> None:
    """Case I 48: after a loss a generation may have another record."""
    present = PolicyRecord("p2c", {}, 3)
    expect("a", present, ChangeOptions(3, if_digest=digest(present)))
    with pytest.raises(StaleGeneration, match="generation 3 of pool 'a' is the record"):
        expect("a", present, ChangeOptions(3, if_digest=digest(present._replace(note="lost"))))
