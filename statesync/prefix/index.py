"""The prompt prefixes that each pod is expected to hold: one look-up answers for all pods.

Here is the table from block hash to the pods that hold the block; `block_hash.py` makes a chain of hashes from a
prompt. This file knows no policy, no clock and no other replica: placements of all replicas come by `place`.

The table maps a hash to a bit mask with one bit per pod, so the longest prefix for all pods is found by bisection down
the prompt, ANDing masks. Each pod has its own least-recently-used order (`pod_lru.py`), bounded by the capacity of its
KV cache.
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

# A dict with a changing content has 3 to 6 slots of 20 bytes an entry; these are the costs at 6, so that `max_bytes` is
# never exceeded (tracemalloc: the real memory of blocks with one holder is 0.64 to 0.82 of the count).
BLOCK_COST: Final = 170
"""Bytes a block, for any number of holders: its hash (48) and its entry in the table (60 to 120)."""

HOLDING_COST: Final = 150
"""Bytes a holder of a block: an entry in the pod's dict (60 to 120) and in its log (8 to 32)."""

HASH_COST: Final = 48
"""Bytes of another copy of the hash, one for every holder but the first."""

_TABLES: Final = 256
"""Dicts that make up the table. Rebuilding one dict of a million entries would stop the loop for 0.2 s, one of 4,000
for 0.1 ms. The second step of a look-up costs 0.03 us a block."""

_SPREAD: Final = 0x1FFF
"""The low bits of a hash, which select the dict. The largest dict gets twice as many hashes as the smallest: dicts of
one size would all be rebuilt at the same moment, 25 ms at a million blocks."""

_SHARES: Final = tuple(int(_TABLES * log2(1 + at / (_SPREAD + 1))) for at in range(_SPREAD + 1))
"""By those bits, the index of the dict: density 1/(1+x) over 0..1."""

_NO_HITS: Final[Mapping[PodId, int]] = MappingProxyType({})
_FEW: Final = 8  # up to here bits are found one by one (0.2 us each), beyond by `compress` (25 us of 1,000 pods)
_MEMO: Final = 16
_BITS: Final = bytes.maketrans(b"01", b"\0\1")


class PrefixIndex:
    """The placements of this and all other replicas that the engines may still have cached.

    Bounded twice: per pod by the capacity of its KV cache (`set_capacity`, else `default_kv_tokens`), and in all by
    `max_bytes`. At that limit, pods that hold at least the average evict their oldest blocks in turn, so a busy pod
    cannot displace a quiet one.
    """

    def __init__(self, max_bytes: int, default_kv_tokens: int) -> None:
        self._max_bytes = max_bytes
        self._default_capacity = default_kv_tokens // PREFIX_BLOCK_TOKENS
        tables: list[dict[int, int]] = [{} for _ in range(_TABLES)]
        self._tables = [tables[at] for at in _SHARES]
        """Hash -> mask of the pods that hold the block."""
        self._blocks = 0
        self._lrus: dict[PodId, PodLru] = {}
        self._slots: list[PodLru | None] = []
        self._names: list[PodId] = []
        """The pod in each slot, as a column for `compress`."""
        self._free: list[int] = []
        self._alive = 0
        """Mask of the slots of pods not forgotten."""
        self._forgotten: deque[PodLru] = deque()
        self._holdings = 0
        self._hand = 0
        self._wide: dict[tuple[int, int], PrefixHits] = {}
        """Hits by mask and length, for prefixes that many pods share. A mask means the same pods until a slot gets
        another pod."""

    # The three calls every request makes (one core of this machine class, Python 3.11, any number of pods):
    #              chain   match   place again   place new
    # 1.2 KB       1.4 us  1.0 us  1.9 us        4 us
    # 32 KB          6 us  1.0 us    8 us       11 us
    # 400 KB        20 us  1.0 us   15 us       20 us    so 0.06 ms at most together

    def chain(self, model: str, parts: Sequence[bytes | memoryview]) -> list[int]:
        """See `block_hash.chain`."""
        return chain(model, parts)

    def match(self, chain: Sequence[int]) -> Mapping[PodId, int]:
        """For every pod that holds a leading part of the chain, its length in base blocks of 64 tokens.

        The result may be shared between calls: read only.
        """
        if not chain:
            return _NO_HITS
        mask = self._tables[chain[0] & _SPREAD].get(chain[0], 0) & self._alive
        return self._hits(self._levels(chain, mask)) if mask else _NO_HITS

    def _levels(self, chain: Sequence[int], mask: int) -> list[tuple[int, int]]:
        """Holders by length, from shallow to deep, as (mask, base blocks); `mask`: holders of the first block.

        A pod holds a leading part, so masks only lose bits on the way down: between two depths with the same mask all
        have it. Each change is found by bisection: 7 us less than a walk down 32 KB.
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
        """Note that a prompt with this chain was sent to the pod, which holds it from now on."""
        lru = self._lrus.get(pod) or self._open(pod)
        fresh = lru.touch(chain if len(chain) <= len(WEIGHTS) else chain[: len(WEIGHTS)])
        if fresh:
            self._join(lru, fresh)

    # Called by discovery, the scraper and a timer.

    def set_capacity(self, pod: PodId, tokens: int) -> None:
        """Bound the pod's blocks by the capacity of its KV cache."""
        lru = self._lrus.get(pod) or self._open(pod)
        lru.reported = tokens // PREFIX_BLOCK_TOKENS
        self._bound(lru)

    def set_trust(self, pod: PodId, trust: float) -> None:
        """Count on this share of the pod's capacity until the next call, or until it is forgotten (`accuracy.py`)."""
        lru = self._lrus.get(pod)
        if lru is not None:
            lru.trust = trust
            self._bound(lru)

    def forget(self, pod: PodId) -> None:
        """The pod restarted or is gone: it holds nothing from now on. O(1); `sweep` frees the memory later."""
        lru = self._lrus.pop(pod, None)
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
                # No mask has this slot's bit any more, so another pod may get it.
                self._forgotten.popleft()
                self._slots[lru.slot] = None
                self._free.append(lru.slot)
        return freed

    # Called by the shared state.

    def pods(self) -> tuple[PodId, ...]:
        """Every pod that was named since it was last forgotten."""
        return tuple(self._lrus)

    def pages(self, blocks: int = 2048) -> Iterator[PrefixPage]:
        """All blocks held, pod by pod, oldest first, in pages of about `blocks` blocks: 0.4 ms each at 2048.

        Anything may be called between two pages: each is right when it is returned, and placements since the first may
        be missing.
        """
        for lru in list(self._lrus.values()):
            for page in lru.pages(blocks):
                if self._lrus.get(lru.pod) is not lru:
                    break
                yield page

    def restore(self, page: PrefixPage) -> None:
        """Take a page of another replica's index; a pod's pages come oldest first. 0.5 us a block.

        Its blocks count as older than all placed here, and newer than those of the pages before it. Raises StateError,
        and changes nothing, if it is damaged.
        """
        links = links_of(page)
        lru = self._lrus.get(page.pod) or self._open(page.pod)
        self._join(lru, lru.take_older(links, page.sizes))

    @property
    def bytes_used(self) -> int:
        """Memory held, as counts times measured costs, with what `sweep` has not freed yet.

        A block counts a mask and a hash for every holder but the first. Chains mostly share their masks, so with many
        pods this is too high.
        """
        blocks, holdings = self._blocks, self._holdings
        another = HASH_COST + 32 + len(self._slots) // 30 * 4
        return blocks * BLOCK_COST + holdings * HOLDING_COST + (holdings - blocks) * another

    @property
    def blocks(self) -> int:
        """Different blocks in the table, with what `sweep` has not freed yet."""
        return self._blocks

    def __repr__(self) -> str:
        held = f"{self.blocks} blocks held {self._holdings} times, {self.bytes_used}/{self._max_bytes} bytes"
        return f"<PrefixIndex {len(self._lrus)} pods, {held}, {len(self._forgotten)} to sweep>"

    def _bound(self, lru: PodLru) -> None:
        lru.capacity = int(lru.reported * lru.trust)
        if lru.used > lru.capacity:
            self._drop(lru, lru.evict(lru.capacity))

    def _open(self, pod: PodId) -> PodLru:
        slot = self._free.pop() if self._free else len(self._slots)
        lru = PodLru(pod, slot, self._default_capacity)
        if slot == len(self._slots):
            self._slots.append(lru)
            self._names.append(pod)
        else:
            self._slots[slot] = lru
            self._names[slot] = pod
        self._lrus[pod] = lru
        self._alive |= lru.bit
        self._wide.clear()
        return lru

    def _join(self, lru: PodLru, fresh: Sequence[int]) -> None:
        """Set the pod's bit for blocks that it holds now and did not before, each once; then enforce the bounds."""
        tables, bit = self._tables, lru.bit
        seen, joined = 0, bit  # neighbours mostly have the same holders: they share one mask object, made once
        new = len(fresh)
        for link in fresh:
            table = tables[link & _SPREAD]
            held = table.setdefault(link, bit)
            if held != bit:  # by value: compiled, a small int is a new object each time
                new -= 1
                if held != seen:
                    seen, joined = held, held | bit
                table[link] = joined
        self._blocks += new
        self._holdings += len(fresh)
        if lru.used > lru.capacity:
            self._drop(lru, lru.evict(lru.capacity))
        if self.bytes_used > self._max_bytes:
            self._relieve()

    def _drop(self, lru: PodLru, links: Sequence[int]) -> None:
        """Clear the pod's bit for blocks that it evicted."""
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
        """Get below `max_bytes`: from forgotten pods first, then in turn from those that hold at least the average.

        The hand passes a pod below the average only while others hold more than that, so it moves about one step a
        block evicted: O(1), amortised.
        """
        slots = self._slots
        while self.bytes_used > self._max_bytes:
            if self._forgotten:
                self.sweep(64)
                continue
            average = max(1, self._holdings // len(self._lrus))
            lru = slots[self._hand]
            if lru is not None and len(lru.blocks) >= average:
                self._drop(lru, lru.evict(lru.used - 1))
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
        """A plain dict: for a few pods, sorting by depth later costs less than keeping levels, 1.5 us a request."""
        hits: dict[PodId, int] = {}
        names = self._names
        for mask, reach in levels:
            while mask:
                slot = mask.bit_length() - 1
                hits[names[slot]] = reach
                mask ^= 1 << slot
        return hits

    def _wide_hits(self, mask: int, reach: int) -> PrefixHits:
        """The first level of hits that many pods share, such as a system prompt: 3 us at 1,000 pods if cached, else 70
        us."""
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
