"""The index's memory as the interpreter counts it, under prompts that never come again."""

from __future__ import annotations

import gc
import random
import tracemalloc

from schedulers.types import PodId
from statesync.prefix.index import PrefixIndex


def test_unique_prompts_of_100_kb_stay_within_the_bound_as_memory_too() -> None:
    """The prompts fill the index twenty times. 10,000 prompts at 16 MB take half a minute and give the same result."""
    limit = 2**18
    rng = random.Random(0)
    pods = [PodId(f"10.0.0.{at}:8000") for at in range(8)]
    index = PrefixIndex(limit, 1 << 30)
    blocks = len(index.chain("m", [bytes(100_000)]))
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        peak = 0
        for number in range(300):
            index.place(pods[number % len(pods)], [rng.getrandbits(64) for _ in range(blocks)])
            assert index.bytes_used <= limit
            if number % 50 == 0:
                peak = max(peak, tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    assert limit / 3 < peak <= limit, "the bound is reached and kept"
