"""Whether what is evicted is needed again."""

from __future__ import annotations

import pytest

from statesync.kv_events import evictions
from statesync.kv_events.evictions import FEWEST, Evictions
from statesync.kv_events.holders import Holders


def rounds(pool: Evictions, count: int, *, again: int) -> None:
    """Evict `count` blocks, of which the first of each ten, `again` of them, are stored again at once."""
    for key in range(count):
        pool.evicted(key)
        if key % 10 < again:
            pool.stored(key)


def test_memory_is_large_enough_where_little_is_needed_again() -> None:
    pool = Evictions(Holders())
    rounds(pool, 20 * FEWEST, again=1)
    assert not pool.missed


def test_memory_is_too_small_where_much_is() -> None:
    pool = Evictions(Holders())
    rounds(pool, 20 * FEWEST, again=4)
    assert pool.missed


def test_a_few_evictions_say_nothing() -> None:
    pool = Evictions(Holders())
    rounds(pool, FEWEST - 1, again=10)
    assert not pool.missed


def test_a_block_that_was_not_evicted_is_not_needed_again() -> None:
    pool = Evictions(Holders())
    for key in range(10 * FEWEST):
        pool.evicted(2 * key)
        pool.stored(2 * key + 1)
    assert not pool.missed


def test_it_rises_at_once_and_falls_slowly() -> None:
    pool = Evictions(Holders())
    rounds(pool, 20 * FEWEST, again=0)
    rounds(pool, 5 * FEWEST, again=9)
    assert pool.missed
    rounds(pool, 5 * FEWEST, again=0)
    assert pool.missed
    rounds(pool, 200 * FEWEST, again=0)
    assert not pool.missed


def test_a_sample_stands_for_a_cache_that_is_larger_than_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evictions, "MOST", 256)
    holders = Holders()
    for key in range(1000):
        holders.add(key << 20, 1)
    pool = Evictions(holders)
    for key in range(40 * FEWEST):
        pool.evicted(key)
        if key >= 512 and (key - 512) % 8 < 4:
            pool.stored(key - 512)  # half of a sample of each fourth
    assert len(pool._gone) <= 256 + evictions._LOOK
    assert all(key % 4 == 0 for key in pool._gone)
    assert pool.missed
