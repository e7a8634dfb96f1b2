"""A publisher of KV events in memory, as vLLM's is: numbers, a bounded buffer for replay, and the cache behind it.

Only what can be seen from outside is here: batches as bytes, and what the cache really holds.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

BLOCK = 4
"""Tokens a block."""

Batch = tuple[int, bytes]


class FakeKvPublisher:
    """An engine with room for `capacity` blocks, which evicts the ends of the prompts that were used least recently."""

    def __init__(self, rng: random.Random, *, capacity: int = 200, buffer: int = 50, arrays: bool = False) -> None:
        self._rng = rng
        self._capacity = capacity
        self._arrays = arrays
        self._clock = 0.0
        self.buffer: deque[Batch] = deque(maxlen=buffer)
        self.seq = 0
        self.cache: dict[int, None] = {}
        """The engine's hashes, least recently used first."""

    def restart(self) -> None:
        """A new process: an empty cache, and numbers from 0 on."""
        self.buffer.clear()
        self.seq = 0
        self.cache.clear()

    def prompt(self, tokens: list[int]) -> Batch:
        """Compute a prompt: store what is not held, evict what has no room."""
        hashes = chained(tokens)
        events: list[dict[str, Any]] = []
        known = 0
        while known < len(hashes) and hashes[known] in self.cache:
            known += 1
        fresh = hashes[known:]
        events += [self._stored(hashes, tokens, known)] * bool(fresh)
        for each in reversed(hashes):  # a prompt's end is the first to go
            self.cache.pop(each, None)
            self.cache[each] = None
        evicted = list(self.cache)[: max(0, len(self.cache) - self._capacity)]
        for each in evicted:
            del self.cache[each]
            events.append({"type": "BlockRemoved", "block_hashes": [each], "medium": "GPU"})
        return self.publish(events)

    def clear(self) -> Batch:
        """Empty the cache."""
        self.cache.clear()
        return self.publish([{"type": "AllBlocksCleared"}])

    def publish(self, events: list[dict[str, Any]]) -> Batch:
        """A batch of any events."""
        self._clock += 0.01
        shown = [list(event.values()) for event in events] if self._arrays else events
        batch = self.seq, msgspec.msgpack.encode([self._clock, shown, 0])
        self.seq += 1
        self.buffer.append(batch)
        return batch

    def replay(self, first: int) -> list[Batch]:
        """What the buffer still has."""
        return [batch for batch in self.buffer if batch[0] >= first]

    def _stored(self, hashes: list[int], tokens: list[int], known: int) -> dict[str, Any]:
        return {
            "type": "BlockStored",
            "block_hashes": hashes[known:],
            "parent_block_hash": hashes[known - 1] if known else None,
            "token_ids": tokens[known * BLOCK : len(hashes) * BLOCK],
            "block_size": BLOCK,
            "lora_id": None,
            "medium": "GPU",
        }


def chained(tokens: list[int]) -> list[int]:
    """The engine's own hashes of a prompt's whole blocks."""
    hashes, link = [], 7
    for at in range(0, len(tokens) - BLOCK + 1, BLOCK):
        link = xxh3_64_intdigest(repr(tokens[at : at + BLOCK]).encode(), link)
        hashes.append(link)
    return hashes
