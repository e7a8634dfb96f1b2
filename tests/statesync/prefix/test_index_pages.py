"""An index that is restored from another's pages has the same prefixes, the same order and the same bounds."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PodId
from statesync.errors import StateError
from statesync.prefix import pod_lru
from statesync.prefix.index import BLOCK_COST, BLOCKS_PER_SIZE, HOLDING_COST, REACH, PrefixIndex
from statesync.types import PrefixPage
from tests.fakes.examples import examples

A, B = PodId("a"), PodId("b")
PODS = [PodId(f"pod-{n}") for n in range(12)]
ROOMY = 1 << 30


def index(max_bytes: int = ROOMY, kv_tokens: int = ROOMY) -> PrefixIndex:
    return PrefixIndex(max_bytes, kv_tokens)


@cache
def chain(*words: int) -> Sequence[int]:
    """The chain of a prompt: the n-th hash stands for all words up to the n-th."""
    return index().chain("m", [b"".join(bytes([word]) * 256 for word in words)])


def restored(pages: Iterable[PrefixPage], into: PrefixIndex) -> PrefixIndex:
    for page in pages:
        into.restore(page)
    return into


def orders(ix: PrefixIndex) -> dict[PodId, list[int]]:
    """The blocks that each pod holds, oldest first."""
    held: dict[PodId, list[int]] = {}
    for each in ix.pages():
        held.setdefault(each.pod, []).extend(array("Q", each.hashes))
    return held


def order(ix: PrefixIndex, pod: PodId) -> list[int]:
    """The blocks that this pod holds, oldest first."""
    return orders(ix).get(pod, [])


def page(pod: PodId, links: Sequence[int], sizes: bytes | None = None) -> PrefixPage:
    return PrefixPage(pod, array("Q", links).tobytes(), bytes(len(links)) if sizes is None else sizes)


WORDS = st.lists(st.integers(0, 2), min_size=1, max_size=7)
PLACEMENTS = st.lists(st.tuples(st.sampled_from(PODS), WORDS), max_size=40)


@examples(150)
@given(placements=PLACEMENTS, part=st.sampled_from([1, 3, 7, 1024]), blocks=st.sampled_from([1, 5, 4096]))
def test_an_index_restored_from_the_pages_of_another_is_the_same(
    placements: list[tuple[PodId, list[int]]], part: int, blocks: int
) -> None:
    with patch.object(pod_lru, "PART", part):
        one = index(kv_tokens=9 * 64)
        for pod, words in placements:
            one.place(pod, chain(*words))
        two = restored(one.pages(blocks), index(kv_tokens=9 * 64))
        assert (two.blocks, two.bytes_used, two.pods()) == (one.blocks, one.bytes_used, one.pods())
        for capacity in range(9, -1, -1):  # both evict the oldest first, one by one
            for pod in one.pods():
                one.set_capacity(pod, capacity * 64)
                two.set_capacity(pod, capacity * 64)
            assert orders(two) == orders(one)
            for _, words in placements:
                assert two.match(chain(*words)) == one.match(chain(*words))
        assert (two.blocks, two.bytes_used) == (0, 0)


@examples(100)
@given(old=PLACEMENTS, new=PLACEMENTS, part=st.sampled_from([1, 3, 1024]))
def test_restored_blocks_are_older_than_all_that_was_placed_here(
    old: list[tuple[PodId, list[int]]], new: list[tuple[PodId, list[int]]], part: int
) -> None:
    with patch.object(pod_lru, "PART", part):
        there, late, in_order = index(), index(), index()
        for pod, words in old:
            there.place(pod, chain(*words))
            in_order.place(pod, chain(*words))
        for pod, words in new:
            late.place(pod, chain(*words))
            in_order.place(pod, chain(*words))
        restored(there.pages(2), late)
        assert orders(late) == orders(in_order)
        assert (late.blocks, late.bytes_used) == (in_order.blocks, in_order.bytes_used)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.sampled_from(PODS[:3]), WORDS),
        st.tuples(st.just("forget"), st.sampled_from(PODS[:3]), st.just([0])),
        st.tuples(st.just("sweep"), st.just(PODS[0]), st.just([0])),
        st.tuples(st.just("page"), st.just(PODS[0]), st.just([0])),
    ),
    max_size=60,
)


@examples(150)
@given(steps=STEPS, part=st.sampled_from([1, 2, 5]))
def test_a_page_is_right_after_any_history(steps: list[tuple[str, PodId, list[int]]], part: int) -> None:
    with patch.object(pod_lru, "PART", part):
        ix = index(kv_tokens=12 * 64)
        for pod in PODS[:3]:
            ix.place(pod, chain(0, 1, 2))
        pages = ix.pages(2)
        for verb, pod, words in steps:
            if verb == "place":
                ix.place(pod, chain(*words))
            elif verb == "forget":
                ix.forget(pod)
            elif verb == "sweep":
                ix.sweep(3)
            elif (received := next(pages, None)) is not None:
                lru = ix._lrus[received.pod]
                links = list(array("Q", received.hashes))
                assert len(set(links)) == len(links) == len(received.sizes)
                assert set(links) <= set(lru.blocks)


def test_every_unchanged_block_is_in_one_page_while_others_come_and_go() -> None:
    with patch.object(pod_lru, "PART", 4):
        ix = index()
        kept = [[seed * 100 + n for n in range(10)] for seed in range(1, 30)]
        for one in kept:
            ix.place(A, one)
        received: list[int] = []
        for number, each in enumerate(ix.pages(8)):
            received += array("Q", each.hashes)
            ix.place(A, [10_000 + number])
            ix.place(B, kept[number % 29])
        assert sorted(link for link in received if link < 10_000) == sorted(link for one in kept for link in one)


def test_restored_neighbours_with_the_same_holders_share_one_mask() -> None:
    one = index()
    shared = list(range(1, 21))
    for pod in PODS:
        one.place(pod, shared)
    two = restored(one.pages(), index())
    assert len({id(two._tables[link][link]) for link in shared}) == 1
    one.place(A, [99, 98])
    alone = restored(one.pages(), index())
    assert alone._tables[99][99] is alone._tables[98][98] is alone._lrus[A].bit


def test_a_pod_with_less_room_keeps_the_newest() -> None:
    with patch.object(pod_lru, "PART", 8):
        one = index()
        chains = [[seed * 100 + n for n in range(10)] for seed in range(1, 6)]
        for each in chains:
            one.place(A, each)
        kept = [0, 0, 0, REACH[10], REACH[10]]
        small = restored(one.pages(4), index(kv_tokens=2 * REACH[10] * 64))
        assert [small.match(each).get(A, 0) for each in chains] == kept
        bounded = restored(one.pages(4), index(max_bytes=20 * (BLOCK_COST + HOLDING_COST)))
        assert [bounded.match(each).get(A, 0) for each in chains] == kept


def test_a_coarse_block_keeps_its_size() -> None:
    one = index()
    size = BLOCKS_PER_SIZE * (1 + 2) + 3 * 4
    long = chain(*range(size))
    one.place(A, long)
    two = restored(one.pages(), index())
    assert two.match(long) == one.match(long) == {A: size}
    assert two._lrus[A].used == one._lrus[A].used == size


@pytest.mark.parametrize(
    "bad",
    [
        PrefixPage(A, b"\0" * 15, b"\0\0"),
        PrefixPage(A, b"\0" * 16, b"\0"),
        PrefixPage(A, b"", b"\0"),
        PrefixPage(A, b"\0" * 16, b"\0\x29"),
    ],
)
def test_a_damaged_page_is_refused_and_changes_nothing(bad: PrefixPage) -> None:
    ix = index()
    with pytest.raises(StateError, match="damaged page of 'a'"):
        ix.restore(bad)
    assert (ix.blocks, ix.pods()) == (0, ())


def test_a_page_that_names_a_block_twice_holds_it_once() -> None:
    ix = restored([page(A, [5, 6, 5]), page(A, [6, 7])], index())
    assert order(ix, A) == [5, 6, 7]
    assert (ix.blocks, ix._lrus[A].used) == (3, 3)
    ix.forget(A)
    ix.sweep(10)
    assert (ix.blocks, ix.bytes_used) == (0, 0)


def test_the_largest_allowed_size_is_accepted() -> None:
    ix = restored([page(A, [1, 2], bytes([0, pod_lru.MAX_SIZE]))], index(kv_tokens=100 * 64))
    assert order(ix, A) == []
    ix.place(A, [3])
    assert ix.match([3]) == {A: 1}


def test_an_empty_page_and_an_empty_index_are_valid() -> None:
    assert list(index().pages()) == []
    assert restored([page(A, [])], index()).blocks == 0


def test_pods_are_those_named_and_not_forgotten() -> None:
    ix = index()
    ix.place(A, [1])
    ix.set_capacity(B, 640)
    assert ix.pods() == (A, B)
    ix.forget(A)
    assert ix.pods() == (B,)


def test_touching_the_same_blocks_repeatedly_keeps_the_log_short() -> None:
    ix = index()
    rng = random.Random(5)
    chains = [[rng.getrandbits(64) for _ in range(40)] for _ in range(60)]
    for _ in range(20_000):
        ix.place(A, rng.choice(chains))
    lru = ix._lrus[A]
    logged = sum(map(len, lru._log.values()))
    assert logged == lru._logged
    assert logged <= pod_lru.SLACK * len(lru.blocks) + 3 * pod_lru.PART
    assert sorted(order(ix, A)) == sorted(link for one in chains for link in one)
