"""What one publisher's cache holds, as its events say. Pure; which batch comes next is `feed.py`'s.

An engine's hashes mean something to that engine only, so each block gets a key of its content: a chained hash of its
tokens and of what else the engine hashes. Equal prompts have equal keys on all engines. The table from key to holders,
one bit for each publisher, is shared by all of them.

Stores that follow each other make a run: what one request added to the cache. `matching.py` finds the request.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, KeysView
from itertools import islice
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from statesync.kv_events.events import GPU, AllBlocksCleared, BlockRemoved, BlockStored, EventBatch, number

TABLES: Final = 256
"""Dicts of the table: one dict of a million entries would stop the loop for 0.2 s when it is rebuilt."""

RUNS: Final = 512
"""Runs of a publisher that are kept for their requests."""

GONE: Final = 65_536
"""Removed blocks that are remembered while it is unknown what else the cache holds."""


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
        """The publisher of this bit holds nothing any more. O(1); `sweep` clears the bit of these keys later."""
        self.alive &= ~bit
        self._retired.append((bit, keys))

    def sweep(self, budget: int) -> int:
        """Clear up to `budget` retired bits; returns how many."""
        swept = 0
        while self._retired and swept < budget:
            bit, keys = self._retired[0]
            while keys and swept < budget:
                self.remove(keys.popitem()[1], bit)
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

    def __len__(self) -> int:
        return sum(map(len, self.tables))


class Run:
    """Blocks that follow each other in the order in which they were stored: those of a request, and those of the next
    turn where its blocks follow at once."""

    __slots__ = ("keys", "parent", "stored", "taken")

    def __init__(self, parent: int) -> None:
        self.stored: list[tuple[float, int]] = []
        """(time on this process's clock, blocks before) of each event."""
        self.parent = parent
        """Key of the block before them; 0 at the beginning of a prompt."""
        self.keys = array("Q")
        self.taken = False
        """Whether its request was found: what follows is another run."""

    def between(self, since: float, until: float) -> tuple[int, int]:
        """First and last place, exclusive, of the blocks that were stored in this time."""
        places = [place for at, place in self.stored if at < since or at > until]
        start = next((place for at, place in self.stored if at >= since), len(self.keys))
        return start, next((place for place in places if place > start), len(self.keys))

    def before(self, place: int) -> int:
        """Key of the block before this place; 0 at the beginning of a prompt."""
        return self.keys[place - 1] if place else self.parent


class HeldBlocks:
    """The cache of one publisher: one engine, or one data-parallel rank of it."""

    __slots__ = ("_bit", "_block_size", "_complete", "_gone", "_holders", "_keys", "_more", "_open", "_runs", "now")

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._bit = holders.new_bit()
        self._keys: dict[int, int] = {}
        """The engine's hash -> key."""
        self._more: dict[int, int] = {}
        """The engine's hash -> how often it is stored beyond once: two requests computed the block at the same time."""
        self._complete = False
        self._gone: dict[int, None] = {}
        self._open: dict[int, Run] = {}
        """The engine's hash of a run's last block -> the run."""
        self._runs: deque[Run] = deque(maxlen=RUNS)
        self._block_size = 0
        self.now = 0.0
        """Time of the batch that is being applied, on this process's clock."""

    @property
    def bit(self) -> int:
        """Its bit in the table of holders; another one after each reset."""
        return self._bit

    @property
    def complete(self) -> bool:
        """Whether it is known of every block whether it is held."""
        return self._complete

    @property
    def block_size(self) -> int:
        """Tokens a block; 0 before the first."""
        return self._block_size

    @property
    def runs(self) -> deque[Run]:
        """The last runs, oldest first."""
        return self._runs

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Iterator[int]:
        """The keys of all blocks that are known to be held."""
        return iter(self._keys.values())

    def hashes(self) -> KeysView[int]:
        """The same blocks by the engine's own hashes."""
        return self._keys.keys()

    def was_removed(self, key: int) -> bool:
        """Whether the block is known not to be held."""
        return self._complete or key in self._gone

    def reset(self, empty: bool) -> None:
        """Forget everything. `empty`: the cache is empty, so what follows is all that it holds."""
        if self._keys:
            self._holders.retire(self._bit, self._keys)
            self._bit, self._keys = self._holders.new_bit(), {}
        self._more = {}
        self._open, self._complete = {}, empty
        self._gone.clear()
        self._runs.clear()

    def retire(self) -> None:
        """It is not followed any more."""
        self._holders.retire(self._bit, self._keys)
        self._keys = {}

    def apply(self, batch: EventBatch) -> None:
        """Take a batch."""
        for event in batch.events:
            if isinstance(event, BlockStored):
                if not event.group_idx and (event.medium or GPU) == GPU:
                    self._store(event)
            elif isinstance(event, BlockRemoved):
                if not event.group_idx and (event.medium or GPU) == GPU:
                    self._remove(event)
            elif isinstance(event, AllBlocksCleared):
                self.reset(True)

    def _store(self, event: BlockStored) -> None:
        hashes = [number(block) for block in event.block_hashes]
        size = event.block_size
        parent = None if event.parent_block_hash is None else number(event.parent_block_hash)
        if not hashes or size < 1 or len(event.token_ids) != size * len(hashes):
            return
        self._block_size = size
        run = self._run_after(parent)
        run.stored.append((self.now, len(run.keys)))
        keys, holders, bit, more = self._keys, self._holders, self._bit, self._more
        for link, key in zip(hashes, _keys_of(event, run.before(len(run.keys))), strict=True):
            run.keys.append(key)
            if link in keys:
                more[link] = more.get(link, 0) + 1
            else:
                keys[link] = key
                holders.add(key, bit)
        self._open[hashes[-1]] = run
        if len(self._open) > 2 * RUNS:
            for link in list(islice(self._open, RUNS)):
                del self._open[link]

    def _run_after(self, parent: int | None) -> Run:
        """The run whose last block is this one, or a new one that begins after it."""
        if parent is None:
            run = Run(0)
        else:
            going = self._open.pop(parent, None)
            if going is not None and not going.taken:
                return going
            # Of a block that was stored before this process followed the engine, the engine's own hash must do.
            run = Run(self._keys.get(parent) or parent or 1)
        self._runs.append(run)
        return run

    def _remove(self, event: BlockRemoved) -> None:
        keys, more = self._keys, self._more
        for block in event.block_hashes:
            link = number(block)
            if more and link in more:
                more[link] -= 1
                if not more[link]:
                    del more[link]
                continue
            key = keys.pop(link, 0)
            if not key:
                continue
            self._holders.remove(key, self._bit)
            if not self._complete:
                self._gone[key] = None
                if len(self._gone) > GONE:
                    del self._gone[next(iter(self._gone))]


def _keys_of(event: BlockStored, key: int) -> Iterator[int]:
    """The keys of the event's blocks; `key` is that of the block before them."""
    tokens = array("Q", event.token_ids).tobytes()
    wide = 8 * event.block_size
    lora = event.lora_name or event.lora_id
    extras = event.extra_keys or ()
    for at in range(len(event.block_hashes)):
        block = tokens[at * wide : (at + 1) * wide]
        if lora is not None:
            block += str(lora).encode()
        if at < len(extras) and extras[at]:
            block += msgspec.msgpack.encode(extras[at])
        key = xxh3_64_intdigest(block, key) or 1
        yield key
