"""The blocks that one pod is expected to hold, least recently used first.

The state is a dict from block to a code (the part that touched it last, and its size) and a log of parts: arrays of
blocks in the order of their touches. Only the part in a block's code counts for it; the block's entries in older parts
are stale and skipped. So a touch is two C calls a chain, however many blocks; pages stay right whatever happens between
two of them; and a garbage collection visits nothing, as a dict of ints is not tracked (an `OrderedDict` of 680,000
blocks stopped the loop for 0.1 s).

This file knows no other pod and no mask. Children are noted before their parents, so a parent is never older than its
children, and a pod always holds a leading part of a chain.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, repeat
from typing import Any, Final

from schedulers.types import PodId
from statesync.errors import StateError
from statesync.types import PrefixPage

BLOCKS_PER_SIZE: Final = 8
"""Blocks of one size, after which the size doubles: 32 KB of prompt are 32 blocks, 0.4 MB are 60. A block is at most
1/8 of the blocks before it (plus one), so a long prefix is measured to within 6 % on average. With 16 a prompt has up
to twice the blocks, and the simulated conversation trace the same times to first token."""

_SIZES: Final = 16  # 2 KB x (2^16 - 1) = 134 MB of prompt; the rest is ignored

WEIGHTS: Final = tuple(2 ** (at // BLOCKS_PER_SIZE) for at in range(BLOCKS_PER_SIZE * _SIZES))
"""By n: base blocks in the n-th block of a chain."""

REACH: Final = tuple(accumulate(WEIGHTS, initial=0))
"""By n: base blocks in the first n blocks of a chain."""

MAX_SIZE: Final = 40
"""Largest block size in a page, as log2 of base blocks: 2^40 are more than any pod holds."""

PART = 1024
"""Blocks noted in a part before the next begins. Compacting a part takes 0.1 ms."""

SLACK: Final = 4
"""The log is compacted when it has this many entries a held block: at 4, a block costs 8 to 32 bytes in it."""

_SHIFT: Final = 6
_SIZE: Final = (1 << _SHIFT) - 1
_LIVE: Final = 1 << 40
"""First number of this replica's parts. Parts restored from another replica's pages are numbered from 0: all older."""


class PodLru:
    """A pod's blocks, oldest first."""

    __slots__ = (
        "_codes",
        "_draining",
        "_hand",
        "_log",
        "_logged",
        "_numbers",
        "_open",
        "_part",
        "_restored",
        "bit",
        "blocks",
        "capacity",
        "pod",
        "reported",
        "slot",
        "trust",
        "used",
    )

    def __init__(self, pod: PodId, slot: int, capacity: int) -> None:
        self.pod = pod
        self.slot = slot
        self.bit = 1 << slot
        """One int object for all blocks that only this pod holds: with 1,000 pods it is 160 bytes long."""
        self.reported = capacity
        """Capacity of the pod's KV cache, by report or default, in base blocks."""
        self.trust = 1.0
        """Share of the capacity that the index counts on (`accuracy.py`)."""
        self.capacity = capacity
        """`reported` times `trust`, in base blocks."""
        self.used = 0
        """Base blocks held."""
        self.blocks: dict[int, int] = {}
        """Block -> part number << 6 | log2 of its size."""
        self._log: dict[int, array[int]] = {}
        """Part number -> blocks, oldest first; of a block's several entries the last one counts."""
        self._numbers: list[int] = []
        """The parts, oldest first; the open one is the last."""
        self._logged = 0
        """Entries in all parts, stale ones included."""
        self._hand = 0
        self._restored = 0
        self._part = array("Q")
        """The open part."""
        self._open = _LIVE - 1
        self._draining = -1
        """The part that blocks are evicted from: each block once, newest first, as arrays pop from the end only."""
        self._codes: tuple[int, ...] = ()
        """By position in a chain, for the open part."""
        self._begin()

    def touch(self, chain: Sequence[int]) -> list[int]:
        """Make the chain the newest, its end first. Returns the blocks that were not held, each once."""
        blocks = self.blocks
        # The last touch was of this very chain (its last hash identifies it): it is the newest already. This saves 8 us
        # for 32 KB where many clients send the same prompt.
        size, part = len(chain), self._part
        if 0 < size <= len(part) and part[len(part) - size] == chain[-1] and chain[-1] in blocks:
            return []
        noted = array("Q", chain)  # first, because it may raise
        before = len(blocks)
        # Any: mypyc would take each int out of its object and put it into another. update() takes three times as long.
        links: Sequence[Any] = chain
        codes: Sequence[Any] = self._codes
        for link, code in zip(links, codes, strict=False):
            blocks[link] = code
        fresh: list[int] = []
        if len(blocks) > before:
            fresh = list(islice(reversed(blocks), len(blocks) - before))  # a dict keeps its keys in order
            start = len(chain) - len(fresh)
            if chain[start] == fresh[-1]:
                self.used += REACH[len(chain)] - REACH[start]
            else:  # no prompt makes such a chain
                self.used += sum([1 << (blocks[link] & _SIZE) for link in fresh])
        noted.reverse()
        part += noted
        self._logged += size
        if len(part) >= PART:
            self._begin()
            if self._logged > SLACK * len(blocks) + PART:
                self._compact()
        return fresh

    def take_older(self, links: Sequence[int], sizes: bytes) -> list[int]:
        """Add blocks, oldest first, that are older than all ever touched and newer than those added this way before.

        Returns the blocks that were not held, each once.
        """
        fresh: list[int] = []
        for start in range(0, len(links), PART):
            fresh += self._take_part(links[start : start + PART], sizes[start : start + PART])
        return fresh

    def evict(self, to: int) -> list[int]:
        """Evict the least recently touched blocks until at most `to` base blocks are used; returns them."""
        blocks, used, gone = self.blocks, self.used, []
        get = blocks.get
        while used > to and blocks:
            number = self._numbers[0]
            if number != self._draining:
                self._drain(number)
            part = self._log[number]
            before = len(part)
            while part and used > to:
                link = part.pop()
                code = get(link, -1)
                if code >> _SHIFT == number:
                    del blocks[link]
                    used -= 1 << (code & _SIZE)
                    gone.append(link)
            self._logged -= before - len(part)
            if not part:
                self._remove(number)
        self.used = used if blocks else 0
        return gone

    def empty(self, most: int) -> list[int]:
        """Evict up to `most` blocks in any order, for a pod that is forgotten."""
        return [self.blocks.popitem()[0] for _ in range(min(most, len(self.blocks)))]

    def pages(self, blocks: int) -> Iterator[PrefixPage]:
        """All blocks held, oldest first, page by page.

        About `blocks` entries, and up to a part more, are read for each page, so stale ones make it smaller. Blocks
        touched or evicted between two pages are in none of the pages after.
        """
        links, sizes = array("Q"), bytearray()
        last, end, read = -1, self._open, 0
        while (at := bisect_right(self._numbers, last)) < len(self._numbers) and self._numbers[at] <= end:
            last = self._numbers[at]
            read += len(self._log[last])
            self._gather(last, links, sizes)
            if read >= blocks:  # entries read, not blocks found: stale entries take as long
                yield _page(self.pod, links, sizes)
                links, sizes, read = array("Q"), bytearray(), 0
        if sizes:
            yield _page(self.pod, links, sizes)

    def __repr__(self) -> str:
        return f"<PodLru {self.slot} of {self.pod}: {len(self.blocks)} blocks, {self.used}/{self.capacity} used>"

    def _take_part(self, links: Sequence[int], sizes: bytes) -> list[int]:
        blocks, number = self.blocks, self._restored
        self._restored += 1
        if not blocks.keys().isdisjoint(links) or len(set(links)) < len(links):
            fresh = self._take_each(number, links, sizes)
        else:
            base = number << _SHIFT
            for link, size in zip(links, sizes, strict=True):
                blocks[link] = base | size
            self.used += sum([sizes.count(size) << size for size in set(sizes)])
            fresh = list(links)
        self._log[number] = array("Q", links)
        insort(self._numbers, number)
        self._logged += len(links)
        return fresh

    def _take_each(self, number: int, links: Sequence[int], sizes: bytes) -> list[int]:
        """As `_take_part` if some blocks are held: those touched here stay, those restored before become newer."""
        blocks = self.blocks
        fresh: list[int] = []
        for link, size in zip(links, sizes, strict=True):
            code = blocks.get(link, -1)
            if code < 0:
                fresh.append(link)
            elif code >= _LIVE << _SHIFT:
                continue
            else:
                self.used -= 1 << (code & _SIZE)
            self.used += 1 << size
            blocks[link] = number << _SHIFT | size
        return fresh

    def _begin(self) -> None:
        """Open the next part."""
        number = self._open = self._open + 1
        self._part = self._log[number] = array("Q")
        self._numbers.append(number)
        codes: list[int] = []
        for size in range(_SIZES):
            codes += [number << _SHIFT | size] * BLOCKS_PER_SIZE
        self._codes = tuple(codes)

    def _drain(self, number: int) -> None:
        """Reverse the oldest part, so that blocks are evicted from its end."""
        if number == self._open:
            self._begin()
        before, part = len(self._log[number]), self._latest(number)
        if self._draining in self._log:  # older ones were restored meanwhile
            self._log[self._draining].reverse()
        part.reverse()
        self._log[number] = part
        self._logged += len(part) - before
        self._draining = number

    def _latest(self, number: int) -> array[int]:
        """The current blocks of a part, oldest first, each at its last entry."""
        part, get, low = self._log[number], self.blocks.get, number << _SHIFT
        codes = set(map(get, part, repeat(-1)))  # there are few different ones
        if not any(low <= code <= low | _SIZE for code in codes):
            return array("Q")
        newest_first = dict.fromkeys(part if number == self._draining else reversed(part))
        latest = array("Q", [link for link in newest_first if get(link, -1) >> _SHIFT == number])
        latest.reverse()
        return latest

    def _compact(self) -> None:
        """Remove stale entries from the next two parts in turn: it is called once a part."""
        for _ in range(2):
            self._hand = self._hand + 1 if self._hand + 2 < len(self._numbers) else 0
            number = self._numbers[self._hand]
            if number in (self._open, self._draining):
                continue
            kept = self._latest(number)
            self._logged += len(kept) - len(self._log[number])
            self._log[number] = kept
            if not kept:
                self._remove(number)
                self._hand -= 1

    def _remove(self, number: int) -> None:
        self._logged -= len(self._log.pop(number))
        del self._numbers[bisect_left(self._numbers, number)]

    def _gather(self, number: int, links: array[int], sizes: bytearray) -> None:
        """Append the current blocks of a part, oldest first."""
        latest = self._latest(number)
        links += latest
        sizes += bytes([code & _SIZE for code in map(self.blocks.__getitem__, latest)])


def links_of(page: PrefixPage) -> list[int]:
    """The page's block hashes. Raises StateError if it was damaged."""
    if len(page.hashes) != 8 * len(page.sizes) or max(page.sizes, default=0) > MAX_SIZE:
        raise StateError(f"a damaged page of {page.pod!r}: {len(page.hashes)} bytes for {len(page.sizes)} blocks")
    links = array("Q", page.hashes)
    if sys.byteorder == "big":
        links.byteswap()
    return links.tolist()


def _page(pod: PodId, links: array[int], sizes: bytearray) -> PrefixPage:
    if sys.byteorder == "big":
        links.byteswap()
    return PrefixPage(pod, links.tobytes(), bytes(sizes))
