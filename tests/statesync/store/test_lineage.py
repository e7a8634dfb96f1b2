"""Which record replaces which (case I 48)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statesync.store.lineage import LINEAGE, Judgement, Lineage, as_number, digest, judge
from statesync.store.policy_json import RecordJson, written
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord

PLAIN = PolicyRecord("p2c", {"choices": 2}, 3)
CANARY = Canary(PolicyChoice("random"), 20.0)


def chain(*notes: str) -> list[PolicyRecord]:
    """Records that were set one after the other, newest first."""
    return [PolicyRecord("p2c", {}, at, note=note) for at, note in reversed(list(enumerate(notes, 1)))]


def known(records: Sequence[PolicyRecord]) -> Lineage:
    lineage = Lineage()
    for each in reversed(records):
        lineage = lineage.with_next(each)
    return lineage


@pytest.mark.parametrize(
    "other",
    [
        PLAIN._replace(generation=4),
        PLAIN._replace(name="random"),
        PLAIN._replace(params={"choices": 3}),
        PLAIN._replace(shadow=PolicyChoice("random")),
        PLAIN._replace(canary=CANARY),
        PLAIN._replace(canary=CANARY._replace(percent=21.0)),
        PLAIN._replace(canary=CANARY._replace(guard=CanaryGuard(error_rate=0.5))),
        PLAIN._replace(note="why"),
        PLAIN._replace(restores=1),
    ],
)
def test_records_that_differ_in_anything_have_different_digests(other: PolicyRecord) -> None:
    assert digest(other) != digest(PLAIN)
    assert as_number(digest(other)) != as_number(digest(PLAIN))


def test_a_digest_survives_the_server_and_the_order_of_parameters_and_stays_what_it_was() -> None:
    record = PolicyRecord("p2c", {"b": [1, {"d": 2.5, "c": None}], "a": "é"}, 3, canary=CANARY, note="why")
    packed = msgspec.json.encode({"generation": 3, **written(record, 1)})
    assert digest(msgspec.json.decode(packed, type=RecordJson).record()) == digest(record)
    assert digest(record._replace(params=dict(reversed(list(record.params.items()))))) == digest(record)
    assert digest(PLAIN) == "f00a483e9d957002", "replicas of two versions compare them"
    odd = PLAIN._replace(params={"a": MappingProxyType({"b": object})})
    assert digest(odd) == digest(PLAIN._replace(params={"a": {"b": repr(object)}}))
    assert digest(PLAIN._replace(at=1e9, by="ann")) == digest(PLAIN), "an older version puts it back without these"
    assert float(as_number("f" * 16)) == as_number("f" * 16), "exact in a metric"


def test_the_records_of_the_shared_state_are_followed_without_a_word_where_they_descend_from_the_own_ones() -> None:
    mine, stored = chain("a", "b"), chain("a", "b", "c")
    assert judge(Lineage(), stored) == judge(known(mine), stored) == judge(known(mine), mine) == Judgement()
    assert judge(Lineage(), []) == Judgement()


def test_lost_records_are_put_back_where_they_descend_from_what_is_left() -> None:
    mine = known(chain("a", "b", "c"))
    assert judge(mine, []) == judge(mine, chain("a")) == judge(mine, chain("a", "b")) == Judgement(restore=True)


def test_records_that_do_not_descend_are_given_up_whatever_their_generation() -> None:
    mine = chain("a", "b", "c")
    for stored in (chain("x", "y", "z"), chain("x"), chain("a", "b", "z"), chain("a", "y"), chain("a", "y", "z", "w")):
        judgement = judge(known(mine), stored)
        assert not judgement.restore
        assert judgement.given_up[0] == mine[0]
    assert judge(known(mine), chain("a", "b", "z")).given_up == (mine[0],)


def test_an_earlier_record_that_was_replaced_is_reported_under_the_same_newest_one() -> None:
    mine = [*chain("a", "b", "c")[:2], PolicyRecord("random", {}, 1)]
    assert judge(known(mine), chain("a", "b", "c")) == Judgement(given_up=(mine[2],))


def test_a_replica_that_missed_more_changes_than_are_kept_follows_and_says_so() -> None:
    every = chain(*map(str, range(30)))
    mine = every[-3:]
    assert judge(known(mine), every[:POLICY_HISTORY]) == Judgement(given_up=(mine[0],))


def test_digests_are_remembered_longer_than_records() -> None:
    every = chain(*map(str, range(LINEAGE + 50)))
    lineage = known(every)
    assert len(lineage.records) == POLICY_HISTORY
    assert len(lineage.digests) == LINEAGE
    read_again = lineage.with_stored(every[:POLICY_HISTORY])
    assert read_again == lineage
    assert judge(read_again, every[500:516]) == Judgement(restore=True)


@given(st.lists(st.sampled_from("ab"), max_size=5), st.lists(st.sampled_from("ab"), max_size=5))
def test_nothing_is_put_back_over_a_record_that_is_no_ancestor(mine: list[str], theirs: list[str]) -> None:
    judgement = judge(known(chain(*mine)), chain(*theirs))
    descends = mine[: len(theirs)] == theirs and len(mine) > len(theirs)
    assert judgement.restore == descends
    if mine and not descends and theirs[: len(mine)] != mine:
        assert judgement.given_up, "a record that is not kept is reported"
    else:
        assert not judgement.given_up


def test_parameters_of_the_settings_may_have_other_keys_than_text() -> None:
    """As JSON, through a store, they have text: the record stays the same one."""
    settings = PLAIN._replace(params={"weights": {1: 2.0}})
    assert digest(settings) == digest(PLAIN._replace(params={"weights": {"1": 2.0}}))
