"""A prompt as a chain of block hashes: seeded, covering every byte once, coarser with depth."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from statesync.prefix.block_hash import BLOCK_BYTES
from statesync.prefix.block_hash import chain as chain_of
from statesync.prefix.pod_lru import BLOCKS_PER_SIZE, REACH, WEIGHTS


def prompt(blocks: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(blocks * BLOCK_BYTES)


def test_a_block_is_256_bytes_and_a_partial_one_is_left_out() -> None:
    chain = chain_of("m", [prompt(3)])
    assert BLOCK_BYTES == 256
    assert len(chain) == 3
    assert chain_of("m", [prompt(3) + b"x" * 255]) == chain
    assert chain_of("m", [prompt(3)[:-1]]) == chain[:2]
    assert chain_of("m", [b"x" * 255]) == chain_of("m", [b""]) == chain_of("m", []) == []


def test_each_hash_is_seeded_by_the_previous_one_and_the_first_by_the_model() -> None:
    body = prompt(2)
    first = xxh3_64_intdigest(body[:256], xxh3_64_intdigest(b"m"))
    assert chain_of("m", [body]) == [first, xxh3_64_intdigest(body[256:], first)]


def test_blocks_double_in_size_and_cover_every_byte_once() -> None:
    body = prompt(1600)
    chain = chain_of("m", [body])
    link, start, sizes = xxh3_64_intdigest(b"m"), 0, []
    for at, expected in enumerate(chain):
        size = BLOCK_BYTES * 2 ** (at // BLOCKS_PER_SIZE)
        link = xxh3_64_intdigest(body[start : start + size], link)
        assert link == expected
        start += size
        sizes.append(size)
    assert start <= len(body) < start + BLOCK_BYTES * 2 ** (len(chain) // BLOCKS_PER_SIZE)
    assert sizes == sorted(sizes)
    assert len(chain) < 300
    assert [BLOCK_BYTES * weight for weight in WEIGHTS[: len(chain)]] == sizes
    assert all(after - before == weight for (before, after), weight in zip(pairwise(REACH), WEIGHTS, strict=True))


def test_chains_of_different_models_differ() -> None:
    body = prompt(4)
    assert not set(chain_of("m", [body])) & set(chain_of("other", [body]))


@given(cuts=st.lists(st.integers(0, 3000), max_size=6), view=st.booleans())
def test_how_the_bytes_are_split_into_parts_does_not_matter(cuts: list[int], view: bool) -> None:
    body = prompt(11)[:2900]
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    parts: list[bytes | memoryview] = [
        memoryview(body)[start:end] if view else body[start:end] for start, end in pairwise(edges)
    ]
    assert chain_of("m", parts) == chain_of("m", [body])
