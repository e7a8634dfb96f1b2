"""What one publisher's cache holds, as its events say. Pure; which batch comes next is `feed.py`'s.

An engine's hashes mean something to that engine only, so each block gets a key of its content: a chained hash of its
tokens and of what else the engine hashes (`holders.py`).

Stores that follow each other make a run: what one request added to the cache. `matching.py` finds the request.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, KeysView
from itertools import islice
from typing import Final

from statesync.kv_events.events import GPU, AllBlocksCleared, BlockRemoved, BlockStored, EventBatch, number
from statesync.kv_events.holders import Holders, keys_of
from statesync.kv_events.tiers import Tiers

RUNS: Final = 512
"""Runs of a publisher that are kept for their requests."""

UNKNOWN: Final = -1

DEPTH: Final = 64
"""Bits of a key: beyond them is the number of the prompt's blocks up to its block, where that is known, else 0. One
integer takes less memory than two."""
KEY: Final = (1 << DEPTH) - 1

GONE: Final = 65_536
"""Removed blocks that are remembered while it is unknown what else the cache holds."""


class Run:
    """Blocks that follow each other in the order in which they were stored: those of a request, and those of the next
    turn where its blocks follow at once."""

    __slots__ = ("first", "keys", "parent", "stored", "taken")

    def __init__(self, parent: int, first: int) -> None:
        self.stored: list[tuple[float, int]] = []
        """(time on this process's clock, blocks before) of each event."""
        self.parent = parent
        """Key of the block before them; 0 at the beginning of a prompt."""
        self.first = first
        """Blocks of the prompt before them; UNKNOWN where the one before was stored before all that is known."""
        self.keys = array("Q")
        self.taken = False
        """Whether its request was found: what follows is another run."""

    def between(self, since: float, until: float) -> tuple[int, int]:
        """First and last place, exclusive, of the blocks that were stored in this time."""
        places = [place for at, place in self.stored if at < since or at > until]
        start = next((place for at, place in self.stored if at >= since), len(self.keys))
        return start, next((place for place in places if place > start), len(self.keys))

    def since(self, place: int) -> float:
        """When the block at this place was stored."""
        return next((at for at, first in reversed(self.stored) if first <= place), 0.0)

    def count(self, until: float) -> int:
        """How many of the blocks were stored until then."""
        return next((place for at, place in self.stored if at > until), len(self.keys))

    def before(self, place: int) -> int:
        """Key of the block before this place; 0 at the beginning of a prompt."""
        return self.keys[place - 1] if place else self.parent


class HeldBlocks:
    """The cache of one publisher: one engine, or one data-parallel rank of it."""

    __slots__ = (
        "_bit",
        "_block_size",
        "_complete",
        "_gone",
        "_holders",
        "_keys",
        "_more",
        "_open",
        "_runs",
        "now",
        "tiers",
    )

    def __init__(self, holders: Holders, tiers: Tiers) -> None:
        self._holders = holders
        self.tiers = tiers
        """What it holds outside GPU memory."""
        self._bit = holders.new_bit()
        self._keys: dict[int, int] = {}
        """The engine's hash -> key and depth."""
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
        return self._block_size or self.tiers.block_size

    @property
    def runs(self) -> deque[Run]:
        """The last runs, oldest first."""
        return self._runs

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> Iterator[int]:
        """The keys of all blocks that are known to be held."""
        return (key & KEY for key in self._keys.values())

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
        self.tiers.reset()

    def retire(self) -> None:
        """It is not followed any more."""
        self._holders.retire(self._bit, self._keys)
        self._keys = {}
        self.tiers.reset()

    def apply(self, batch: EventBatch) -> None:
        """Take a batch."""
        for event in batch.events:
            if isinstance(event, AllBlocksCleared):
                self.reset(True)
            elif event.group_idx:
                continue
            elif isinstance(event, BlockStored):
                if (event.medium or GPU) == GPU:
                    self._store(event)
                else:
                    self.tiers.stored(event, self._keys, self.block_size)
            elif (event.medium or GPU) == GPU:
                self._remove(event)
            else:
                self.tiers.removed(event)

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
        depth = run.first + len(run.keys) if run.first != UNKNOWN else UNKNOWN
        for link, key in zip(hashes, keys_of(event, run.before(len(run.keys)), size), strict=True):
            run.keys.append(key)
            if depth != UNKNOWN:
                depth += 1
            if link in keys:
                more[link] = more.get(link, 0) + 1
            else:
                keys[link] = key | max(0, depth) << DEPTH
                holders.add(key, bit)
        self._open[hashes[-1]] = run
        if len(self._open) > 2 * RUNS:
            for link in list(islice(self._open, RUNS)):
                del self._open[link]

    def _run_after(self, parent: int | None) -> Run:
        """The run whose last block is this one, or a new one that begins after it."""
        if parent is None:
            run = Run(0, 0)
        else:
            going = self._open.pop(parent, None)
            if going is not None and not going.taken:
                return going
            # Of a block that was stored before this process followed the engine, the engine's own hash must do.
            key = self._keys.get(parent, 0)
            run = Run(key & KEY or parent or 1, key >> DEPTH or UNKNOWN)
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
            key = keys.pop(link, 0) & KEY
            if not key:
                continue
            self._holders.remove(key, self._bit)
            if not self._complete:
                self._gone[key] = None
                if len(self._gone) > GONE:
                    del self._gone[next(iter(self._gone))]
