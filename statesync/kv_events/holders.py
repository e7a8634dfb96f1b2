"""Which publishers hold which block, and what a block is called. Pure.

A block's key is a chained hash of its tokens and of what else the engine hashes: equal prompts have equal keys on all
engines. One table from key to holders, with one bit for each publisher, is shared by all of them.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from statesync.kv_events.events import BlockStored

_KEY: Final = (1 << 64) - 1

TABLES: Final = 256
"""Dicts of the table: one dict of a million entries would stop the loop for 0.2 s when it is rebuilt."""


class Holders:
    """Block key -> mask of the publishers that hold it."""

    def __init__(self) -> None:
        self.tables: list[dict[int, int]] = [{} for _ in range(TABLES)]
        self.alive = 0
        """The bits that are in use."""
        self._free: list[int] = []
        self._bits = 0
        self._retired: deque[tuple[int, dict[int, int]]] = deque()

    def new_bit(self) -> int:
        """A bit that no key has."""
        bit = self._free.pop() if self._free else 1 << self._bits
        if bit == 1 << self._bits:
            self._bits += 1
        self.alive |= bit
        return bit

    def retire(self, bit: int, keys: dict[int, int]) -> None:
        """The publisher of this bit holds nothing any more. O(1); `sweep` clears the bit of these keys, by their lower
        64 bits, later."""
        self.alive &= ~bit
        self._retired.append((bit, keys))

    def sweep(self, budget: int) -> int:
        """Clear up to `budget` retired bits; returns how many."""
        swept = 0
        while self._retired and swept < budget:
            bit, keys = self._retired[0]
            while keys and swept < budget:
                self.remove(keys.popitem()[1] & _KEY, bit)
                swept += 1
            if not keys:
                self._retired.popleft()
                self._free.append(bit)
        return swept

    def add(self, key: int, bit: int) -> None:
        """The publisher holds the block."""
        table = self.tables[key & (TABLES - 1)]
        held = table.setdefault(key, bit)
        if not held & bit:
            table[key] = held | bit

    def remove(self, key: int, bit: int) -> None:
        """The publisher does not hold the block any more."""
        table = self.tables[key & (TABLES - 1)]
        rest = table.get(key, 0) & ~bit
        if rest:
            table[key] = rest
        else:
            table.pop(key, None)

    def of(self, key: int) -> int:
        """Mask of the publishers that hold the block."""
        return self.tables[key & (TABLES - 1)].get(key, 0) & self.alive

    def run(self, keys: Sequence[int], start: int, bit: int) -> int:
        """Up to which of the keys the holder of this bit has them, from number `start` on, by bisection: a block is
        held only after those before it."""
        stop = len(keys)
        while start < stop:
            middle = (start + stop) // 2
            if self.of(keys[middle]) & bit:
                start = middle + 1
            else:
                stop = middle
        return start

    def __len__(self) -> int:
        return sum(map(len, self.tables))


def keys_of(event: BlockStored, key: int, size: int) -> Iterator[int]:
    """The keys of the event's blocks of `size` tokens; `key` is that of the block before them."""
    tokens = array("Q", event.token_ids).tobytes()
    wide = 8 * size
    lora = event.lora_name or event.lora_id
    extras = event.extra_keys or ()
    for at in range(len(event.token_ids) // size):
        block = tokens[at * wide : (at + 1) * wide]
        if lora is not None:
            block += str(lora).encode()
        if at < len(extras) and extras[at]:
            block += msgspec.msgpack.encode(extras[at])
        key = xxh3_64_intdigest(block, key) or 1
        yield key
