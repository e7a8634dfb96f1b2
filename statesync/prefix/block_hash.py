"""A prompt as a chain of block hashes. Pure; `index.py` knows which pods hold a block.

Blocks grow with depth (`WEIGHTS` of `pod_lru.py`): small at the front, where prompts differ, large further back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from struct import Struct
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from schedulers.types import BYTES_PER_TOKEN, PREFIX_BLOCK_TOKENS
from statesync.prefix.pod_lru import BLOCKS_PER_SIZE, REACH, WEIGHTS

BLOCK_BYTES: Final = PREFIX_BLOCK_TOKENS * BYTES_PER_TOKEN
"""The smallest block, and the unit of `match`."""

_ENDS: Final = tuple(end * BLOCK_BYTES for end in REACH[1:])
"""By n: bytes of prompt in the first n + 1 blocks of a chain."""

# Blocks of up to 2 KB are copied out of the prompt by one call for all of them, 0.04 us each. Longer ones are hashed in
# place, which costs 0.11 us more each whatever their length.
_COPIED: Final = 4 * BLOCKS_PER_SIZE
_CUTTERS: Final = [Struct("".join(f"{BLOCK_BYTES * weight}s" for weight in WEIGHTS[:n])) for n in range(_COPIED + 1)]
_CUTS: Final = [slice(start, end) for start, end in pairwise((0, *_ENDS))]


def chain(model: str, parts: Sequence[bytes | memoryview]) -> list[int]:
    """The prompt as chained block hashes: the n-th is of the model and all bytes up to the n-th block's end.

    How the bytes are split into parts does not matter. A last, partial block is left out.
    """
    # One part, the common case, is never copied as a whole; joining a 400 KB prompt from two costs 25 us.
    data = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
    blocks = bisect_right(_ENDS, len(data))
    # Any: mypyc would take an int of 64 bits out of its object and put it into another for every block.
    digest: Any = xxh3_64_intdigest
    chain: list[Any] = []
    link: Any = digest(model.encode("utf-8", "surrogatepass"))
    for block in _CUTTERS[min(blocks, _COPIED)].unpack_from(data):
        link = digest(block, link)
        chain.append(link)
    for cut in _CUTS[_COPIED:blocks]:
        link = digest(data[cut], link)
        chain.append(link)
    return chain
