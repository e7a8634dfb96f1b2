"""A pod's LRU list by itself: which chain is newest, which is evicted first.

Pages and restoring are in `test_index_pages.py`.
"""

from __future__ import annotations

import pytest

from schedulers.types import PodId
from statesync.errors import StateError
from statesync.prefix.pod_lru import PART, PodLru, links_of
from statesync.types import PrefixPage

POD = PodId("10.0.0.1:8000")


def lru(capacity: int = 1_000_000) -> PodLru:
    return PodLru(POD, 0, capacity)


def chain(seed: int, size: int = 4) -> list[int]:
    return [seed * 1000 + at for at in range(size)]


def test_a_chain_touched_for_the_first_time_is_fresh_and_then_held() -> None:
    held = lru()
    assert sorted(held.touch(chain(1))) == chain(1)
    assert held.touch(chain(1)) == []
    assert held.used == 4


def test_touching_the_newest_chain_again_adds_nothing_to_the_log() -> None:
    held = lru()
    for _ in range(10 * PART):
        held.touch(chain(1))
    assert sum(len(blocks) for blocks in held._log.values()) == 4


def test_touching_the_beginning_of_the_newest_chain_leaves_it_the_newest() -> None:
    held = lru()
    held.touch(chain(1))
    held.touch(chain(2))
    held.touch(chain(2)[:2])
    assert held.evict(4) == chain(1)[::-1]


def test_an_older_chain_touched_again_outlives_the_one_that_came_between() -> None:
    held = lru()
    held.touch(chain(1))
    held.touch(chain(2))
    held.touch(chain(1))
    assert held.evict(4) == chain(2)[::-1]


def test_an_evicted_chain_is_fresh_again_although_it_was_the_last() -> None:
    held = lru()
    held.touch(chain(1))
    held.evict(0)
    assert sorted(held.touch(chain(1))) == chain(1)


def test_a_longer_prompt_adds_only_its_new_blocks() -> None:
    held = lru()
    held.touch(chain(1))
    assert sorted(held.touch(chain(1, 7))) == chain(1, 7)[4:]


def test_a_page_whose_lengths_disagree_is_damaged() -> None:
    with pytest.raises(StateError, match="damaged"):
        links_of(PrefixPage(POD, b"\0" * 8, b"\0\0"))
