"""What one pod is believed to hold, in the order in which it would be given up.

A shelf is a dict from block to a code (which part touched it last, and its size) and a log of parts: arrays of blocks
in the order in which they were touched. A block counts where its code says; where it was touched again since, what the
older part still says of it is stale and skipped. So a touch is two C calls a chain, however many blocks; what was read
page by page is right whatever comes between two pages; and a garbage collection has nothing to visit, for a dict of
ints is not tracked (an `OrderedDict` of 680,000 blocks stopped the loop for 0.1 s).

This file knows no other pod and no mask. Children are noted before their parents, so a parent is never older than its
children, and what a pod holds of any chain is a leading part.
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
"""So many blocks of a size, then the size doubles: 32 KB of prompt are 32 blocks, 0.4 MB 60; a block is at most 1/8 of
what lies before it (plus one), so a long prefix is seen to within 6 % on average. With 16 a size a prompt has up to
twice the blocks, and the simulated conversation trace the same times to first token."""

_SIZES: Final = 16  # 2 KB x (2^16 - 1) = 134 MB of prompt; what lies behind is not told apart

WEIGHTS: Final = tuple(2 ** (at // BLOCKS_PER_SIZE) for at in range(BLOCKS_PER_SIZE * _SIZES))
"""How many base blocks the n-th block of a chain stands for."""

REACH: Final = tuple(accumulate(WEIGHTS, initial=0))
"""How many base blocks the first n blocks of a chain stand for."""

MAX_SIZE: Final = 40
"""The largest size (log2 of base blocks) that a page may name: 2^40 blocks are more than any pod holds."""

PART = 1024
"""Blocks noted until the next part begins. Sifting one stops the loop for 0.1 ms."""

SLACK: Final = 4
"""The log is sifted when it is so many times as long as what is held: at 4, a block costs 8 to 32 bytes in it."""

_SHIFT: Final = 6
_SIZE: Final = (1 << _SHIFT) - 1
_LIVE: Final = 1 << 40
"""Parts noted here are numbered from here on, those restored from another replica's pages from 0: all older."""


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
        "slot",
        "told",
        "trust",
        "used",
    )

    def __init__(self, pod: PodId, slot: int, capacity: int) -> None:
        self.pod = pod
        self.slot = slot
        self.bit = 1 << slot
        """The one int object used for all blocks that only this pod holds: 1,000 pods make it 160 bytes long."""
        self.told = capacity
        """What the pod's KV cache holds as far as anybody said, in base blocks."""
        self.trust = 1.0
        """The share of it that the pod is believed to keep."""
        self.capacity = capacity
        """The product of both."""
        self.used = 0
        """In base blocks."""
        self.blocks: dict[int, int] = {}
        """Block -> part number << 6 | log2 of its size."""
        self._log: dict[int, array[int]] = {}
        """Part number -> blocks, oldest first; a block may come several times: the last one counts."""
        self._numbers: list[int] = []
        """The parts, oldest first; the open one is the last."""
        self._logged = 0
        """Blocks in all parts, the stale ones included."""
        self._hand = 0
        self._restored = 0
        self._part = array("Q")
        """The open part."""
        self._open = _LIVE - 1
        self._draining = -1
        """The part that gives up blocks: each of it once, newest first, for an array is short of what it pops."""
        self._codes: tuple[int, ...] = ()
        """By position in a chain, for the open part."""
        self._begin()

    def touch(self, chain: Sequence[int]) -> list[int]:
        """Make the chain the newest, its end first. Returns the blocks that were not held, each once."""
        blocks = self.blocks
        # Nothing came since this very chain (an end names all that leads to it): it is the newest already. Prompts that
        # many clients share come this way, 0.2 us against 8 for 32 KB.
        size, part = len(chain), self._part
        if 0 < size <= len(part) and part[len(part) - size] == chain[-1] and chain[-1] in blocks:
            return []
        noted = array("Q", chain)  # first, because it is what may raise
        before = len(blocks)
        # Any: mypyc would take each int out of its object and put it into another. update() takes three times as long.
        links: Sequence[Any] = chain
        codes: Sequence[Any] = self._codes
        for link, code in zip(links, codes, strict=False):
            blocks[link] = code
        fresh: list[int] = []
        if len(blocks) > before:
            fresh = list(islice(reversed(blocks), len(blocks) - before))  # a dict keeps its keys as they came
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
                self._sift()
        return fresh

    def take_older(self, links: Sequence[int], sizes: bytes) -> list[int]:
        """Hold these, oldest first, too: older than all that was ever touched, newer than what came this way before.

        Returns the blocks that were not held, each once.
        """
        fresh: list[int] = []
        for start in range(0, len(links), PART):
            fresh += self._take_part(links[start : start + PART], sizes[start : start + PART])
        return fresh

    def give_up(self, to: int) -> list[int]:
        """Give up the least recently touched blocks until at most `to` base blocks are used; returns them."""
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
        """Give up so many blocks, whichever: for a shelf that nobody asks any more."""
        return [self.blocks.popitem()[0] for _ in range(min(most, len(self.blocks)))]

    def pages(self, blocks: int) -> Iterator[PrefixPage]:
        """All that is held now, oldest first, page by page.

        So many blocks, and up to a part more, are looked at for each, so stale ones make a page smaller. What is
        touched or given up between two pages is in none of those that follow.
        """
        links, sizes = array("Q"), bytearray()
        last, end, read = -1, self._open, 0
        while (at := bisect_right(self._numbers, last)) < len(self._numbers) and self._numbers[at] <= end:
            last = self._numbers[at]
            read += len(self._log[last])
            self._gather(last, links, sizes)
            if read >= blocks:  # counted as read, not as found: a page of stale parts takes as long
                yield _page(self.pod, links, sizes)
                links, sizes, read = array("Q"), bytearray(), 0
        if sizes:
            yield _page(self.pod, links, sizes)

    def __repr__(self) -> str:
        return f"<Shelf {self.slot} of {self.pod}: {len(self.blocks)} blocks, {self.used}/{self.capacity} used>"

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
        """As above where some are held: what was touched here stays as it is, what was restored before moves up."""
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
        """Turn the oldest part around, so that it can give up its blocks from the end."""
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
        """The blocks of a part that still count, oldest first, each where it came last."""
        part, get, low = self._log[number], self.blocks.get, number << _SHIFT
        codes = set(map(get, part, repeat(-1)))  # there are few different ones
        if not any(low <= code <= low | _SIZE for code in codes):
            return array("Q")
        newest_first = dict.fromkeys(part if number == self._draining else reversed(part))
        latest = array("Q", [link for link in newest_first if get(link, -1) >> _SHIFT == number])
        latest.reverse()
        return latest

    def _sift(self) -> None:
        """Drop what is stale in two parts, each in turn: it is called once a part."""
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
        """Add what still counts of a part, oldest first."""
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
