import pytest

from loadtests.sim.engine.kv_blocks import KvBlocks


def test_a_dropped_unit_is_found_again_until_its_blocks_are_needed() -> None:
    kv = KvBlocks(4)
    kv.reserve(2)
    kv.publish([11, 12])
    kv.drop([11, 12], 0)
    assert kv.used == 0
    assert kv.lookup([11, 12, 13], 3) == (2, 2)
    kv.reserve(3)
    assert kv.lookup([11, 12], 2) == (1, 1), "the prompt's end goes first"


def test_a_shared_unit_counts_once_and_stays_until_its_last_holder_ends() -> None:
    kv = KvBlocks(8)
    kv.reserve(2)
    kv.publish([1])
    kv.publish([1])
    assert (kv.used, kv.private) == (1, 0)
    kv.drop([1], 0)
    assert kv.lookup([1], 1) == (1, 0)
    kv.drop([1], 0)
    assert (kv.used, kv.lookup([1], 1)) == (0, (1, 1))


def test_a_unit_of_several_blocks_counts_as_that_many() -> None:
    kv = KvBlocks(8, unit_blocks=4)
    kv.reserve(5)
    kv.publish([7])
    assert (kv.used, kv.private, kv.available) == (5, 1, 3)
    kv.drop([7], 1)
    kv.reserve(5)
    assert kv.idle_units == 0


def test_taking_an_idle_unit_keeps_it_from_eviction() -> None:
    kv = KvBlocks(2)
    kv.reserve(1)
    kv.publish([1])
    kv.drop([1], 0)
    kv.take([1])
    assert kv.available == 1
    with pytest.raises(OverflowError, match="2 blocks asked for, 1 available"):
        kv.reserve(2)


def test_a_lookup_stops_at_the_first_missing_unit_and_at_the_limit() -> None:
    kv = KvBlocks(8)
    kv.reserve(3)
    kv.publish([1, 2, 4])
    assert kv.lookup([1, 2, 3, 4], 4) == (2, 0)
    assert kv.lookup([1, 2], 1) == (1, 0)
