"""The prefix index: it matches all pods at once, evicts the least recently used first, and is bounded."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import PodId
from statesync.prefix.index import BLOCK_BYTES, BLOCK_COST, BLOCKS_PER_SIZE, HOLDING_COST, REACH, PrefixIndex
from tests.fakes.examples import examples

A, B, C = PodId("a"), PodId("b"), PodId("c")
PODS = [PodId(f"pod-{n}") for n in range(40)]


def index(max_bytes: int = 1 << 30, kv_tokens: int = 1 << 30) -> PrefixIndex:
    return PrefixIndex(max_bytes, kv_tokens)


def prompt(blocks: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(blocks * BLOCK_BYTES)


def test_the_next_turn_of_a_conversation_matches_up_to_the_closing_bracket() -> None:
    ix = index()
    turns: list[dict[str, str]] = [{"role": "system", "content": "You are terse. " * 40}]
    known = 0
    for turn in range(12):
        turns.append({"role": "user", "content": f"Question {turn}: " + "why? " * 60})
        body = json.dumps(turns).encode()
        chain = ix.chain("m", [body])
        # All whole blocks of the last prompt without its "]" are held.
        assert ix.match(chain).get(A, 0) == known
        ix.place(A, chain)
        turns.append({"role": "assistant", "content": "Because. " * 30})
        known = REACH[len(ix.chain("m", [body[:-1]]))]
    assert known > 20


# Matches


def test_nothing_placed_matches_nothing() -> None:
    ix = index()
    assert ix.match([]) == {}
    assert ix.match(ix.chain("m", [prompt(9)])) == {}


def test_one_look_up_gives_every_pod_its_own_longest_prefix() -> None:
    ix, body = index(), prompt(BLOCKS_PER_SIZE + 4 * 2)
    chain = ix.chain("m", [body])
    ix.place(A, chain)
    ix.place(B, chain[:5])
    ix.place(C, chain[:2] + ix.chain("m", [prompt(5, seed=1)]))
    assert ix.match(chain) == {A: BLOCKS_PER_SIZE + 4 * 2, B: 5, C: 2}
    assert ix.match(chain[:4]) == {A: 4, B: 4, C: 2}
    # A hash identifies its block with all that precedes it, so a chain may start at any block.
    assert ix.match(chain[1:]) == {A: REACH[BLOCKS_PER_SIZE + 3], B: 4, C: 1}


PROMPTS = st.lists(st.integers(0, 2), max_size=6)


@examples(150)
@given(placements=st.lists(st.tuples(st.sampled_from(PODS), PROMPTS), max_size=60), asked=PROMPTS)
def test_matches_equal_those_of_a_naive_reference(placements: list[tuple[PodId, list[int]]], asked: list[int]) -> None:
    ix = index()

    def body(words: list[int]) -> bytes:
        return b"".join(bytes([word]) * BLOCK_BYTES for word in words)

    for pod, words in placements:
        ix.place(pod, ix.chain("m", [body(words)]))

    longest: dict[PodId, int] = {}
    for pod, words in placements:
        common = 0
        while common < min(len(words), len(asked)) and words[common] == asked[common]:
            common += 1
        longest[pod] = max(longest.get(pod, 0), common)
    assert dict(ix.match(ix.chain("m", [body(asked)]))) == {pod: n for pod, n in longest.items() if n}


def test_a_prefix_that_many_pods_share_is_found_for_all_and_a_returned_answer_stays() -> None:
    ix = index()
    system = ix.chain("m", [prompt(3)])
    for pod in PODS:
        ix.place(pod, system)
    conversation = ix.chain("m", [prompt(3) + prompt(4, seed=1)])
    ix.place(PODS[7], conversation)
    first = ix.match(system)
    assert first == dict.fromkeys(PODS, 3)
    assert ix.match(conversation) == {**dict.fromkeys(PODS, 3), PODS[7]: 7}
    for pod in PODS[:20]:
        ix.place(pod, conversation[:5])
    assert ix.match(conversation) == {**dict.fromkeys(PODS, 3), **dict.fromkeys(PODS[:20], 5), PODS[7]: 7}
    assert first == dict.fromkeys(PODS, 3)


def test_cached_answers_of_many_shared_prefixes_are_bounded() -> None:
    ix = index()
    for seed in range(50):
        chain = ix.chain("m", [prompt(2, seed)])
        for pod in PODS[: 20 + seed % 20]:
            ix.place(pod, chain)
        assert ix.match(chain) == dict.fromkeys(PODS[: 20 + seed % 20], 2)


# Bounds


def held(ix: PrefixIndex, pod: PodId, chains: Sequence[Sequence[int]]) -> list[int]:
    return [ix.match(chain).get(pod, 0) for chain in chains]


def test_a_pod_holds_no_more_than_its_kv_cache_and_evicts_the_least_recently_used_first() -> None:
    ix = index(kv_tokens=10 * 64)
    chains = [ix.chain("m", [prompt(4, seed)]) for seed in range(3)]
    ix.place(A, chains[0])
    ix.place(A, chains[1])
    ix.place(A, chains[0])
    ix.place(A, chains[2])
    assert held(ix, A, chains) == [4, 2, 4]  # the end of the oldest chain was evicted first
    ix.place(A, chains[1])
    assert held(ix, A, chains) == [2, 4, 4]


def test_parents_outlive_children_also_within_one_prompt_that_is_too_long() -> None:
    ix = index(kv_tokens=6 * 64)
    chain = ix.chain("m", [prompt(20)])
    ix.place(A, chain)
    assert ix.match(chain) == {A: 6}
    branch = chain[:2] + ix.chain("x", [prompt(3)])
    ix.place(A, branch)
    assert ix.match(branch) == {A: 5}
    assert ix.match(chain) == {A: 3}


def test_a_coarse_block_counts_as_the_tokens_it_stands_for() -> None:
    room = BLOCKS_PER_SIZE + 4 * 2
    ix = index(kv_tokens=room * 64)
    chain = ix.chain("m", [prompt(3 * BLOCKS_PER_SIZE)])
    assert len(chain) == 2 * BLOCKS_PER_SIZE
    ix.place(A, chain)
    assert ix.match(chain) == {A: room}


def test_capacity_is_each_pod_s_own_and_may_shrink_and_come_before_the_first_placement() -> None:
    ix = index(kv_tokens=100 * 64)
    chain = ix.chain("m", [prompt(8)])
    ix.set_capacity(A, 3 * 64 + 63)
    ix.place(A, chain)
    ix.place(B, chain)
    assert ix.match(chain) == {A: 3, B: 8}
    ix.set_capacity(B, 5 * 64)
    assert ix.match(chain) == {A: 3, B: 5}
    ix.set_capacity(A, 0)
    ix.place(A, chain)
    assert ix.match(chain) == {B: 5}


def test_ten_thousand_unique_prompts_stay_below_max_bytes() -> None:
    limit = 200_000
    ix = index(max_bytes=limit)
    rng = random.Random(0)
    for number in range(10_000):
        ix.place(PODS[number % 40], [rng.getrandbits(64) for _ in range(4)])
        assert ix.bytes_used <= limit
    assert ix.blocks == limit // (BLOCK_COST + HOLDING_COST)


def test_under_pressure_a_busy_pod_does_not_push_out_a_quiet_one() -> None:
    ix = index(max_bytes=100 * (BLOCK_COST + HOLDING_COST))
    quiet = ix.chain("m", [prompt(20)])
    ix.place(A, quiet)
    rng = random.Random(0)
    for _ in range(1000):
        ix.place(B, [rng.getrandbits(64) for _ in range(5)])
    assert ix.match(quiet) == {A: REACH[len(quiet)]}
    for _ in range(1000):
        ix.place(C, [rng.getrandbits(64) for _ in range(5)])
    assert ix.match(quiet) == {A: REACH[len(quiet)]}
    assert ix.blocks == 100


def test_under_pressure_the_oldest_is_evicted_first_and_the_newest_stays() -> None:
    chains = [index().chain("m", [prompt(10, seed)]) for seed in range(6)]
    size = len(chains[0])
    ix = index(max_bytes=4 * size * (BLOCK_COST + HOLDING_COST))
    for chain in chains:
        ix.place(A, chain)
    assert held(ix, A, chains) == [0] * 2 + [REACH[size]] * 4


def test_an_index_without_room_holds_nothing_and_terminates() -> None:
    ix = index(max_bytes=0)
    chain = ix.chain("m", [prompt(10)])
    ix.place(A, chain)
    assert (ix.match(chain), ix.blocks, ix.bytes_used) == ({}, 0, 0)


# Forgetting


def test_a_forgotten_pod_is_gone_from_matches_at_once_and_from_memory_after_sweeping() -> None:
    ix = index()
    chain = ix.chain("m", [prompt(10)])
    ix.place(A, chain)
    ix.place(B, chain[:4])
    alone = ix.chain("m", [prompt(5, seed=1)])
    ix.place(A, alone)
    ix.forget(A)
    ix.forget(A)
    ix.forget(PodId("never seen"))
    assert ix.match(chain) == {B: 4}
    assert ix.match(alone) == {}
    left = len(chain) + len(alone)
    assert ix.blocks == left
    assert [ix.sweep(5), ix.sweep(5), ix.sweep(left), ix.sweep(5)] == [5, 5, left - 10, 0]
    assert ix.blocks == 4
    assert ix.match(chain) == {B: 4}


def test_a_slot_is_not_used_again_before_it_is_clean() -> None:
    ix = index()
    chain = ix.chain("m", [prompt(10)])
    ix.place(A, chain)
    ix.forget(A)
    ix.place(B, chain[:2])
    ix.place(A, chain[:1])  # it restarted under the same id: none of its old blocks counts
    assert ix.match(chain) == {A: 1, B: 2}
    ix.sweep(5)
    ix.place(C, chain[:3])
    assert ix.match(chain) == {A: 1, B: 2, C: 3}
    ix.sweep(1000)
    for pod in PODS:
        ix.place(pod, chain[:1])
    assert ix.match(chain) == {A: 1, B: 2, C: 3, **dict.fromkeys(PODS, 1)}


def test_clean_slots_are_used_again_so_that_masks_do_not_grow_with_every_restart() -> None:
    ix = index()
    chain = ix.chain("m", [prompt(3)])
    for _ in range(50):
        ix.place(A, chain)
        ix.forget(A)
        ix.sweep(10)
    ix.place(A, chain)
    assert repr(ix._lrus[A]).startswith("<PodLru 0 of a")


def test_blocks_that_one_pod_is_left_with_share_one_mask_object() -> None:
    ix = index()
    for pod in PODS:
        ix.place(pod, [1])
    ix.place(PODS[38], [7])
    ix.place(PODS[39], [7])
    ix.forget(PODS[39])
    ix.sweep(10)
    assert ix._tables[7][7] is ix._lrus[PODS[38]].bit


def test_a_pod_that_was_known_for_a_shared_prefix_is_forgotten_there_too() -> None:
    ix = index()
    chain = ix.chain("m", [prompt(2)])
    for pod in PODS:
        ix.place(pod, chain)
    assert len(ix.match(chain)) == 40
    ix.forget(PODS[0])
    assert ix.match(chain) == dict.fromkeys(PODS[1:], 2)
    ix.sweep(100)
    ix.place(A, chain[:1])
    assert ix.match(chain[:1]) == {**dict.fromkeys(PODS[1:], 1), A: 1}


def test_under_pressure_forgotten_pods_are_evicted_first() -> None:
    old, new, live = (index().chain("m", [prompt(blocks, seed=blocks)]) for blocks in (24, 30, 20))
    room = len(live) + len(new) + len(old) // 2
    ix = index(max_bytes=room * (BLOCK_COST + HOLDING_COST))
    ix.place(A, old)
    ix.place(B, live)
    ix.forget(A)
    ix.place(B, new)
    assert held(ix, B, [live, new]) == [REACH[len(live)], REACH[len(new)]]
    assert ix.blocks <= room < len(old) + len(live) + len(new)


STEPS = st.one_of(
    st.tuples(st.just("place"), st.sampled_from(PODS[:12]), st.lists(st.integers(0, 1), max_size=8)),
    st.tuples(st.just("capacity"), st.sampled_from(PODS[:12]), st.integers(0, 700)),
    st.tuples(st.just("forget"), st.sampled_from(PODS[:12]), st.none()),
    st.tuples(st.just("sweep"), st.none(), st.integers(0, 9)),
)


@examples(150)
@given(steps=st.lists(STEPS, max_size=50), max_blocks=st.integers(0, 60))
def test_any_mix_of_calls_keeps_the_bounds_and_the_counts(
    steps: list[tuple[str, PodId | None, object]], max_blocks: int
) -> None:
    limit = max_blocks * (BLOCK_COST + HOLDING_COST)
    ix = index(limit, 10 * 64)
    placed: dict[PodId, set[int]] = {}
    capacity: dict[PodId, int] = {}
    seen: set[tuple[int, ...]] = set()
    for verb, pod, value in steps:
        if verb == "place" and pod is not None and isinstance(value, list):
            chain = ix.chain("m", [b"".join(bytes([word]) * BLOCK_BYTES for word in value)])
            ix.place(pod, chain)
            placed.setdefault(pod, set()).update(chain)
            seen.add(tuple(chain))
        elif verb == "capacity" and pod is not None and isinstance(value, int):
            ix.set_capacity(pod, value)
            capacity[pod] = value
        elif verb == "forget" and pod is not None:
            ix.forget(pod)
            placed.pop(pod, None)
            capacity.pop(pod, None)
        elif isinstance(value, int):
            ix.sweep(value)
        assert ix.bytes_used <= limit
        for chain_ in seen:
            for found, blocks in ix.match(chain_).items():
                assert set(chain_[:blocks]) <= placed[found]
                assert blocks <= capacity.get(found, 10 * 64) // 64
    for known in PODS[:12]:
        ix.forget(known)
    ix.sweep(10_000)
    assert (ix.blocks, ix.bytes_used) == (0, 0)


@pytest.mark.parametrize("chain", [[5, 5, 5], [5] * 600, list(range(1000))])
def test_a_received_chain_that_no_prompt_makes_is_harmless(chain: list[int]) -> None:
    ix = index()
    ix.place(A, chain)
    assert set(ix.match(chain)) == {A}
    ix.forget(A)
    ix.sweep(10_000)
    assert (ix.blocks, ix.bytes_used) == (0, 0)


def test_repr_counts_what_an_index_holds() -> None:
    ix = index(max_bytes=1_000_000)
    chain = ix.chain("m", [prompt(2)])
    ix.place(A, chain)
    ix.place(B, chain)
    ix.forget(A)
    used = ix.bytes_used
    assert repr(ix) == f"<PrefixIndex 1 pods, 2 blocks held 4 times, {used}/1000000 bytes, 1 to sweep>"
    assert repr(ix._lrus[B]) == "<PodLru 1 of b: 2 blocks, 2/16777216 used>"


def test_a_pod_that_is_trusted_less_loses_its_oldest_blocks_and_gets_the_room_back() -> None:
    ix = index(kv_tokens=50 * 64)
    chains = [ix.chain("m", [prompt(5, seed)]) for seed in range(10)]
    ix.set_trust(PodId("a"), 0.5)  # not known yet: nothing to evict, and no slot is taken
    assert ix.pods() == ()
    for chain in chains:
        ix.place(PodId("a"), chain)
    ix.set_trust(PodId("a"), 0.5)
    assert held(ix, PodId("a"), chains) == [0] * 5 + [5] * 5
    ix.set_capacity(PodId("a"), 30 * 64)
    assert held(ix, PodId("a"), chains) == [0] * 7 + [5] * 3
    ix.set_trust(PodId("a"), 1.0)
    for chain in chains:
        ix.place(PodId("a"), chain)
    assert held(ix, PodId("a"), chains) == [0] * 4 + [5] * 6
