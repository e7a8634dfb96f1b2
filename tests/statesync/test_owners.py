"""The owners of ids in this process: found, bounded, and kept while they are used."""

from __future__ import annotations

from schedulers.types import PodId
from statesync.owners import KEY_BYTES, OwnerTable, key_of

A, B = PodId("a"), PodId("b")


def test_an_owner_is_found_again_and_may_change() -> None:
    table = OwnerTable()
    assert table.owner(key_of("resp_1")) is None
    assert table.learn(key_of("resp_1"), A)
    assert not table.learn(key_of("resp_1"), A), "it was known"
    assert table.learn(key_of("resp_1"), B)
    assert table.owner(key_of("resp_1")) == B


def test_two_generations_at_most_are_kept_and_an_id_in_use_stays() -> None:
    table = OwnerTable(kept=10)
    used = key_of("used")
    table.learn(used, A)
    for number in range(1000):
        table.learn(key_of(f"resp_{number}"), B)
        assert table.owner(used) == A
        assert len(table) <= 20
    assert table.owner(key_of("resp_999")) == B
    assert table.owner(key_of("resp_980")) is None


def test_a_key_is_short_and_the_same_in_every_process() -> None:
    assert key_of("resp_1") == bytes.fromhex("2960fa6e2cdb5d28")
    assert len({key_of(f"resp_{number}") for number in range(10_000)}) == 10_000
    assert len(key_of("\ud800")) == KEY_BYTES
