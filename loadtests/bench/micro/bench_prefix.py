"""The prefix index: hash a prompt, look it up, place it. By prompt length, and by what the index holds already.

The index is full: every new block evicts an old one, as in a gateway that has run for a while. A prompt is new
from its first byte on (all misses, all placed anew), or known in full, as in a conversation.
"""

from __future__ import annotations

import itertools
import random
from functools import lru_cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from loadtests.bench.micro.pools import pod_ids
from schedulers.types import PREFIX_BLOCK_TOKENS
from statesync.prefix.index import WEIGHTS, PrefixIndex

PODS = 16
PROMPTS = {1200: "1.2 KB", 32768: "32 KB", 400_000: "100k tokens"}
INDEX_SIZES = (1000, 10_000, 100_000, 1_000_000, 10_000_000)
HUGE = 10_000_000
KINDS = ("new prompt", "known prompt")


@lru_cache(maxsize=1)
def full_index(blocks: int, blocks_per_prompt: int) -> PrefixIndex:
    """An index that holds `blocks` blocks, of prompts of that length, and no room for more. The latest one is kept."""
    prompts = PODS * max(1, round(blocks / (blocks_per_prompt * PODS)))
    tokens = prompts // PODS * sum(WEIGHTS[:blocks_per_prompt]) * PREFIX_BLOCK_TOKENS
    index = PrefixIndex(max_bytes=1 << 40, default_kv_tokens=tokens)
    rng, pods = random.Random(blocks), itertools.cycle(pod_ids(PODS))
    for _ in range(prompts + PODS):
        index.place(next(pods), [rng.getrandbits(64) for _ in range(blocks_per_prompt)])
    return index


def run(benchmark: BenchmarkFixture, index: PrefixIndex, size: int, kind: str) -> None:
    """Measure one prompt's way through the index."""
    text = bytearray(random.Random(size).randbytes(size))
    pods, numbers = itertools.cycle(pod_ids(PODS)).__next__, itertools.count(1).__next__
    fresh = kind != "known prompt"
    pod = pod_ids(PODS)[0]

    def once() -> int:
        where = pod
        if fresh:
            text[:8] = numbers().to_bytes(8, "little")
            where = pods()
        chain = index.chain("m", (memoryview(text),))
        hits = index.match(chain)
        index.place(where, chain)
        return len(hits)

    once()
    assert benchmark(once) == (0 if fresh else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", PROMPTS)
def bench_by_prompt(benchmark: BenchmarkFixture, size: int, kind: str) -> None:
    """chain, match and place by prompt length, in an index of 100,000 blocks of such prompts."""
    benchmark.group = "prefix by prompt"
    benchmark.extra_info.update(series=kind, size=size)
    per_prompt = len(PrefixIndex(1, 0).chain("m", (bytes(size),)))
    run(benchmark, full_index(100_000, per_prompt), size, kind)


def bench_long_prompt_among_short_ones(benchmark: BenchmarkFixture) -> None:
    """The most expensive case: a prompt of 100k tokens evicts a hundred times as many tokens of short prompts, block by
    block."""
    benchmark.group = "prefix by prompt"
    benchmark.extra_info.update(series="new prompt, among short ones", size=400_000)
    index = PrefixIndex(max_bytes=1 << 40, default_kv_tokens=500_000)
    rng, where = random.Random(1), pod_ids(1)[0]
    text, numbers = bytearray(random.Random(2).randbytes(400_000)), itertools.count(1).__next__

    def refill() -> None:
        for _ in range(500_000 // PREFIX_BLOCK_TOKENS // 16 + 1):
            index.place(where, [rng.getrandbits(64) for _ in range(16)])
        text[:8] = numbers().to_bytes(8, "little")

    def once() -> None:
        chain = index.chain("m", (memoryview(text),))
        index.match(chain)
        index.place(where, chain)

    benchmark.pedantic(once, setup=refill, rounds=100)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("kind", KINDS)  # varies fastest, so that an index is filled once
@pytest.mark.parametrize("blocks", INDEX_SIZES)
def bench_by_index(benchmark: BenchmarkFixture, pytestconfig: pytest.Config, blocks: int, kind: str) -> None:
    """chain, match and place of a 32 KB prompt by what the index holds."""
    if blocks == HUGE and not pytestconfig.getoption("--huge"):
        pytest.skip("needs 5 GB and a minute; give --huge")
    benchmark.group = "prefix by index"
    benchmark.extra_info.update(series=kind, size=blocks)
    per_prompt = len(PrefixIndex(1, 0).chain("m", (bytes(32768),)))
    index = full_index(blocks, per_prompt)
    assert index.blocks == pytest.approx(blocks, rel=0.25)
    run(benchmark, index, 32768, kind)
