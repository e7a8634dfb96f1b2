"""Who is believed to hold which prompt prefix: one look-up answers for all pods.

Here is the table from block hash to the pods that hold the block; how a prompt becomes a chain of hashes is
`block_hash.py`. This file knows no policy, no clock and no other replica: they call `place` and `forget` like
anybody else.

The table maps a hash to a bit mask with one bit per pod, so the longest prefix for all pods is found by
bisection down the prompt, ANDing masks. Each pod has its own least-recently-used order (`pod_lru.py`), bounded
by what its KV cache holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from math import log2
from types import MappingProxyType
from typing import Final

from schedulers.hits import Level, PrefixHits
from schedulers.types import PREFIX_BLOCK_TOKENS, PodId
from statesync.prefix.block_hash import BLOCK_BYTES as BLOCK_BYTES
from statesync.prefix.block_hash import chain
from statesync.prefix.pod_lru import BLOCKS_PER_SIZE as BLOCKS_PER_SIZE
from statesync.prefix.pod_lru import REACH as REACH
from statesync.prefix.pod_lru import WEIGHTS as WEIGHTS
from statesync.prefix.pod_lru import PodLru, links_of
from statesync.types import PrefixPage

# A dict that entries come to and go from holds 3 to 6 slots of 20 bytes an entry; these are the costs at 6, so that
# `max_bytes` is never exceeded (tracemalloc: real memory of blocks with one holder is 0.64 to 0.82 of what is counted).
BLOCK_COST: Final = 170
"""Bytes a block costs however many hold it: its hash (48) and its entry in the table (60 to 120)."""

HOLDING_COST: Final = 150
"""Bytes a pod's hold on a block costs: its entry (60 to 120) and its place in the log (8 to 32) of the pod's shelf."""

HASH_COST: Final = 48
"""Bytes of one more copy of the hash, which every holder but the first keeps."""

_TABLES: Final = 256
"""The table is so many dicts: one dict of a million entries stops the loop for 0.2 s when it is rebuilt, one of 4,000
for 0.1 ms. The look-up in two steps costs 0.03 us a block."""

_SPREAD: Final = 0x1FFF
"""The low bits of a hash that say which dict. The largest gets twice as many hashes as the smallest: dicts of one size
would all be rebuilt at the same moment, 25 ms at a million blocks."""

_SHARES: Final = tuple(int(_TABLES * log2(1 + at / (_SPREAD + 1))) for at in range(_SPREAD + 1))
"""By those bits, the dict: density 1/(1+x) over 0..1."""

_NO_HITS: Final[Mapping[PodId, int]] = MappingProxyType({})
_FEW: Final = 8  # up to here bits are found one by one (0.2 us each), beyond by `compress` (25 us of 1,000 pods)
_MEMO: Final = 16
_BITS: Final = bytes.maketrans(b"01", b"\0\1")


class PrefixIndex:
    """The placements of this and all other replicas, as far as they can still be true.

    Bounded twice: per pod by the tokens its KV cache holds (`set_capacity`, else `default_kv_tokens`), and in all
    by `max_bytes`. When that is reached, pods that hold at least the average give up their oldest blocks in turn,
    so a busy pod cannot push out a quiet one.
    """

    def __init__(self, max_bytes: int, default_kv_tokens: int) -> None:
        self._max_bytes = max_bytes
        self._default_capacity = default_kv_tokens // PREFIX_BLOCK_TOKENS
        tables: list[dict[int, int]] = [{} for _ in range(_TABLES)]
        self._tables = [tables[at] for at in _SHARES]
        """Hash -> mask of the pods that hold the block."""
        self._blocks = 0
        self._shelves: dict[PodId, PodLru] = {}
        self._slots: list[PodLru | None] = []
        self._names: list[PodId] = []
        """The pod in each slot, as a column for `compress`."""
        self._free: list[int] = []
        self._alive = 0
        """Mask of slots whose pod was not forgotten."""
        self._forgotten: deque[PodLru] = deque()
        self._holdings = 0
        self._hand = 0
        self._wide: dict[tuple[int, int], PrefixHits] = {}
        """Hits by mask and length, where many pods share a prefix. A mask means the same pods until a slot changes
        hands."""

    # The three calls every request makes (one core of this machine class, Python 3.11, any number of pods):
    #              chain   match   place again   place new
    # 1.2 KB       1.4 us  1.0 us  1.9 us        4 us
    # 32 KB          6 us  1.0 us    8 us       11 us
    # 400 KB        20 us  1.0 us   15 us       20 us    so 0.06 ms at most together

    def chain(self, model: str, parts: Sequence[bytes | memoryview]) -> list[int]:
        """See `prefix_chain.chain`."""
        return chain(model, parts)

    def match(self, chain: Sequence[int]) -> Mapping[PodId, int]:
        """For every pod that holds a leading part of the chain, how long it is in base blocks of 64 tokens.

        The answer may be shared between calls: read only.
        """
        if not chain:
            return _NO_HITS
        mask = self._tables[chain[0] & _SPREAD].get(chain[0], 0) & self._alive
        return self._hits(self._levels(chain, mask)) if mask else _NO_HITS

    def _levels(self, chain: Sequence[int], mask: int) -> list[tuple[int, int]]:
        """Who holds how much, from shallow to deep, as (mask, base blocks); `mask` are those that hold the first block.

        What a pod holds is a leading part, so masks only ever shrink on the way down: where two depths have the same,
        all between have it. Each change is found by bisection: 7 us less than a walk down 32 KB.
        """
        tables = self._tables
        levels: list[tuple[int, int]] = []
        depth, last = 0, min(len(chain), len(WEIGHTS)) - 1
        while mask:
            link = chain[last]
            if tables[link & _SPREAD].get(link, 0) & mask == mask:
                levels.append((mask, REACH[last + 1]))
                break
            deeper = last  # the shallowest depth known to have fewer
            while deeper - depth > 1:
                middle = (depth + deeper) // 2
                link = chain[middle]
                if tables[link & _SPREAD].get(link, 0) & mask == mask:
                    depth = middle
                else:
                    deeper = middle
            levels.append((mask, REACH[deeper]))
            link = chain[deeper]
            mask &= tables[link & _SPREAD].get(link, 0)
            depth = deeper
        return levels

    def place(self, pod: PodId, chain: Sequence[int]) -> None:
        """Note that a prompt with this chain was sent to the pod, so that the pod holds it now."""
        lru = self._shelves.get(pod) or self._open(pod)
        fresh = lru.touch(chain if len(chain) <= len(WEIGHTS) else chain[: len(WEIGHTS)])
        if fresh:
            self._join(lru, fresh)

    # Told by discovery, scraper and the app's timer.

    def set_capacity(self, pod: PodId, tokens: int) -> None:
        """Bound what the pod is believed to hold by what its KV cache can hold."""
        lru = self._shelves.get(pod) or self._open(pod)
        lru.told = tokens // PREFIX_BLOCK_TOKENS
        self._bound(lru)

    def set_trust(self, pod: PodId, trust: float) -> None:
        """Believe the pod to keep this share of its capacity until it is told anew or forgotten (`accuracy.py`)."""
        lru = self._shelves.get(pod)
        if lru is not None:
            lru.trust = trust
            self._bound(lru)

    def forget(self, pod: PodId) -> None:
        """The pod restarted or is gone: it holds nothing, at once. O(1); `sweep` frees the memory later."""
        lru = self._shelves.pop(pod, None)
        if lru is not None:
            self._alive &= ~lru.bit
            self._forgotten.append(lru)

    def sweep(self, budget: int) -> int:
        """Free up to `budget` blocks of forgotten pods (0.5 us each); returns how many it freed."""
        freed = 0
        while self._forgotten and freed < budget:
            lru = self._forgotten[0]
            gone = lru.empty(budget - freed)
            self._drop(lru, gone)
            freed += len(gone)
            if not lru.blocks:
                # Only a slot no mask mentions any more may get another pod.
                self._forgotten.popleft()
                self._slots[lru.slot] = None
                self._free.append(lru.slot)
        return freed

    # Told and asked by the shared state.

    def pods(self) -> tuple[PodId, ...]:
        """Every pod that was told of and not forgotten since."""
        return tuple(self._shelves)

    def pages(self, blocks: int = 2048) -> Iterator[PrefixPage]:
        """All that is held, pod by pod, oldest first, in pages of about so many blocks: 0.4 ms each at 2048.

        Anything may be called between two pages: each is true when it is handed out, and what was placed since the
        first may be missing.
        """
        for lru in list(self._shelves.values()):
            for page in lru.pages(blocks):
                if self._shelves.get(lru.pod) is not lru:
                    break
                yield page

    def restore(self, page: PrefixPage) -> None:
        """Take a page of another replica's index; a pod's come oldest first. 0.5 us a block.

        What it says is older than all that was placed here, and newer than the pages before it. Raises StateError,
        and changes nothing, if it was damaged.
        """
        links = links_of(page)
        lru = self._shelves.get(page.pod) or self._open(page.pod)
        self._join(lru, lru.take_older(links, page.sizes))

    @property
    def bytes_used(self) -> int:
        """Memory held, by count times measured cost; what `sweep` has not freed yet included.

        A block held by several pods is charged a mask and a hash for every holder but the first; chains mostly share
        their masks, so this overstates where pods are many.
        """
        blocks, holdings = self._blocks, self._holdings
        another = HASH_COST + 32 + len(self._slots) // 30 * 4
        return blocks * BLOCK_COST + holdings * HOLDING_COST + (holdings - blocks) * another

    @property
    def blocks(self) -> int:
        """Different blocks in the table; what `sweep` has not freed yet included."""
        return self._blocks

    def __repr__(self) -> str:
        held = f"{self.blocks} blocks held {self._holdings} times, {self.bytes_used}/{self._max_bytes} bytes"
        return f"<PrefixIndex {len(self._shelves)} pods, {held}, {len(self._forgotten)} to sweep>"

    def _bound(self, lru: PodLru) -> None:
        lru.capacity = int(lru.told * lru.trust)
        if lru.used > lru.capacity:
            self._drop(lru, lru.give_up(lru.capacity))

    def _open(self, pod: PodId) -> PodLru:
        slot = self._free.pop() if self._free else len(self._slots)
        lru = PodLru(pod, slot, self._default_capacity)
        if slot == len(self._slots):
            self._slots.append(lru)
            self._names.append(pod)
        else:
            self._slots[slot] = lru
            self._names[slot] = pod
        self._shelves[pod] = lru
        self._alive |= lru.bit
        self._wide.clear()
        return lru

    def _join(self, lru: PodLru, fresh: Sequence[int]) -> None:
        """Set the shelf's bit for what it holds now and did not before, each once; then keep the bounds."""
        tables, bit = self._tables, lru.bit
        seen, joined = 0, bit  # neighbours mostly have the same holders: they share one mask object, made once
        new = len(fresh)
        for link in fresh:
            table = tables[link & _SPREAD]
            held = table.setdefault(link, bit)
            if held != bit:  # by value: where this is compiled, a small int is a new object each time
                new -= 1
                if held != seen:
                    seen, joined = held, held | bit
                table[link] = joined
        self._blocks += new
        self._holdings += len(fresh)
        if lru.used > lru.capacity:
            self._drop(lru, lru.give_up(lru.capacity))
        if self.bytes_used > self._max_bytes:
            self._relieve()

    def _drop(self, lru: PodLru, links: Sequence[int]) -> None:
        """The shelf gave up these blocks: take its bit away."""
        tables, bit = self._tables, lru.bit
        self._holdings -= len(links)
        for link in links:
            table = tables[link & _SPREAD]
            rest = table[link] ^ bit
            if not rest:
                del table[link]
                self._blocks -= 1
            elif rest & (rest - 1):
                table[link] = rest
            else:  # one holder left: back to the one mask object that its blocks share
                last = self._slots[rest.bit_length() - 1]
                table[link] = last.bit if last is not None else rest

    def _relieve(self) -> None:
        """Get below `max_bytes`: the forgotten first, then in turn whoever holds at least the average.

        The hand passes a shelf below the average only while others have more than their share to give, so it
        moves about one step a block given up: O(1), amortised.
        """
        slots = self._slots
        while self.bytes_used > self._max_bytes:
            if self._forgotten:
                self.sweep(64)
                continue
            average = max(1, self._holdings // len(self._shelves))
            lru = slots[self._hand]
            if lru is not None and len(lru.blocks) >= average:
                self._drop(lru, lru.give_up(lru.used - 1))
            else:
                self._hand = (self._hand + 1) % len(slots)

    def _hits(self, levels: list[tuple[int, int]]) -> Mapping[PodId, int]:
        """`levels` are (mask, base blocks) from shallow to deep, each mask a part of the one before."""
        mask, reach = levels[0]
        if mask.bit_count() <= _FEW:
            return self._few_hits(levels)
        shared = self._wide_hits(mask, reach)
        if len(levels) == 1:
            return shared
        hits, found = dict(shared), list(shared.levels)
        for at in range(1, len(levels)):
            mask, reach = levels[at]
            deeper = levels[at + 1][0] if at + 1 < len(levels) else 0
            pods = self._pods(mask ^ deeper)
            found.append(Level(reach, pods))
            for pod in pods:
                hits[pod] = reach
        found.reverse()
        return PrefixHits(hits, found)

    def _few_hits(self, levels: list[tuple[int, int]]) -> dict[PodId, int]:
        """A plain dict: sorting a few pods by what they hold costs less than bringing them sorted, 1.5 us a request."""
        hits: dict[PodId, int] = {}
        names = self._names
        for mask, reach in levels:
            while mask:
                slot = mask.bit_length() - 1
                hits[names[slot]] = reach
                mask ^= 1 << slot
        return hits

    def _wide_hits(self, mask: int, reach: int) -> PrefixHits:
        """The start of the hits where many pods share a prefix, such as a system prompt: 3 us with 1,000 pods once
        known, 70 us if made anew."""
        known = self._wide.get((mask, reach))
        if known is None:
            if len(self._wide) >= _MEMO:
                self._wide.clear()
            pods = self._pods(mask)
            known = self._wide[mask, reach] = PrefixHits(dict.fromkeys(pods, reach), [Level(reach, pods)])
        return known

    def _pods(self, mask: int) -> list[PodId]:
        if mask.bit_count() > _FEW:
            return list(compress(self._names, bin(mask)[:1:-1].encode().translate(_BITS)))
        pods: list[PodId] = []
        while mask:
            slot = mask.bit_length() - 1
            pods.append(self._names[slot])
            mask ^= 1 << slot
        return pods
