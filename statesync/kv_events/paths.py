"""Which engine blocks a prompt's bytes become: learned from the requests that were sent, prompt by prompt. Pure.

A prompt is known by the chain of its byte blocks (`prefix/block_hash.py`). Each byte block carries the keys of the
engine blocks that end in it. A prompt's end, after its last whole byte block, is known by length and hash: the next
turn of a conversation contains it, so its engine blocks are found to the last one.

Where a byte block ends between tokens is estimated by its share of the bytes. Two prompts that share byte blocks and
differ in the keys of them show where the estimate was too far; the keys are cut there.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from statesync.prefix.block_hash import BLOCK_BYTES
from statesync.prefix.pod_lru import REACH, WEIGHTS

ENDS_KEPT: Final = 16
"""Ends of prompts that are kept at one byte block, such as those of different questions after one system prompt."""

SEGMENT_COST: Final = 420
"""Bytes of memory a byte block, beside 8 for each engine block."""

_CLOSING: Final = (b"]", b'"')
"""What ends a prompt's bytes and is not there in the next turn: the bracket of a list, the quote of a string."""


class PromptChain(list[int]):
    """A prompt's chain of block hashes, and its bytes."""

    __slots__ = ("data",)

    def __init__(self, links: Sequence[int], data: bytes | memoryview) -> None:
        super().__init__(links)
        self.data = data


class PromptEnd:
    """The end of a prompt after its last whole byte block."""

    __slots__ = ("digest", "keys", "length", "prompt", "start")

    def __init__(self, data: bytes, start: int, keys: array[int], prompt: int) -> None:
        self.length = len(data)
        self.digest = xxh3_64_intdigest(data)
        self.start = start
        """Engine blocks of the prompt before these."""
        self.keys = keys
        """Of the blocks that end in it, and then those of the answer."""
        self.prompt = prompt
        """How many of them are the prompt's."""


class Segment:
    """The engine blocks of one byte block."""

    __slots__ = ("ends", "keys", "start")

    def __init__(self, start: int, keys: array[int]) -> None:
        self.start = start
        """Engine blocks of the prompt before these."""
        self.keys = keys
        self.ends: list[PromptEnd] = []


class PromptPath:
    """The engine blocks of the known part of a prompt."""

    __slots__ = ("answer", "first", "keys", "marks", "reach")

    def __init__(self, first: int) -> None:
        self.first = first
        """Blocks before the first that is known."""
        self.keys = array("Q")
        """Of those from there on."""
        self.marks: list[tuple[int, int]] = []
        """(number of blocks, base blocks of the prompt that they stand for), growing."""
        self.reach = 0
        """Base blocks of the prompt that the path stands for."""
        self.answer = 0
        """How many of the last keys are of the answer to the last prompt, which the engine may find again or not."""

    @property
    def depth(self) -> int:
        """Engine blocks of the path, with those before the first known one."""
        return self.first + len(self.keys)

    def extend(self, start: int, keys: array[int]) -> None:
        """Add the keys of blocks from number `start` on. Of blocks between that are unknown, the next stands for each:
        a cache holds a block only after those before it."""
        if keys:
            self.keys.extend(keys[:1] * (start - self.depth))
            self.keys.extend(keys)

    def mark(self, blocks: int, reach: int) -> None:
        """The first `blocks` engine blocks stand for `reach` base blocks."""
        self.marks.append((blocks, reach))
        self.reach = reach

    def key(self, number: int) -> int:
        """The key of a block; 0 where it is unknown."""
        return self.keys[number - self.first] if self.first <= number < self.depth else 0

    def base_blocks(self, depth: int) -> int:
        """The base blocks that the first `depth` engine blocks stand for."""
        before, base = 0, 0
        for blocks, reach in self.marks:
            if depth < blocks:
                return base + (reach - base) * (depth - before) // (blocks - before)
            before, base = blocks, reach
        return self.reach


class PromptPaths:
    """All prompts that are known, up to `max_bytes`; those learned longest ago go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._segments: dict[int, Segment] = {}
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._segments)

    def find(self, chain: PromptChain) -> PromptPath | None:
        """The longest known path of a prompt; None if nothing is known of it."""
        segments, get = [], self._segments.get
        for link in chain:
            segment = get(link)
            if segment is None:
                break
            segments.append(segment)
        if not segments:
            return None
        path = PromptPath(segments[0].start)
        for at, segment in enumerate(segments):
            if segment.start < path.depth:
                segments = segments[:at]  # learned before the one ahead of it was
                break
            path.extend(segment.start, segment.keys)
            path.mark(path.depth, REACH[at + 1])
        self._add_end(path, segments, chain)
        return path if path.keys else None

    def learn(self, chain: PromptChain, first: int, keys: array[int], prompt: int) -> None:
        """The prompt's engine blocks, from number `first` on, are these. Of all its blocks `prompt` are its own; those
        after are its answer's."""
        if not chain:
            return
        total = len(chain.data)
        depth = first
        kept: list[tuple[int, Segment]] = []
        for at, link in enumerate(chain[: len(WEIGHTS)]):
            segment = self._segments.pop(link, None)
            stop = prompt * REACH[at + 1] * BLOCK_BYTES // total
            ends: list[PromptEnd] = []
            if segment is not None:
                self.bytes_used -= _cost(segment)
                ends = segment.ends
                if segment.keys:
                    stop = segment.start + _agreeing(segment, first, keys)
            segment = Segment(depth, keys[depth - first : max(depth, stop) - first])
            segment.ends = ends
            depth += len(segment.keys)
            kept.append((link, segment))
        _note_end(kept[-1][1], chain, depth, keys[depth - first :], prompt)
        for link, segment in reversed(kept):  # the deepest is the oldest: it goes first
            self._segments[link] = segment
            self.bytes_used += _cost(segment)
        while self.bytes_used > self._max_bytes and self._segments:
            self.bytes_used -= _cost(self._segments.pop(next(iter(self._segments))))

    def _add_end(self, path: PromptPath, segments: list[Segment], chain: PromptChain) -> None:
        """Follow the longest end of a known prompt that this prompt contains."""
        at = REACH[len(segments)] * BLOCK_BYTES
        for end in sorted(segments[-1].ends, key=lambda end: -end.length):
            if end.start >= path.depth and xxh3_64_intdigest(chain.data[at : at + end.length]) == end.digest:
                path.extend(end.start, end.keys)
                path.answer = len(end.keys) - end.prompt
                path.mark(path.depth - path.answer, (at + end.length) // BLOCK_BYTES)
                return


def _agreeing(segment: Segment, first: int, keys: array[int]) -> int:
    """How many of a segment's keys this prompt has at their places."""
    for at, key in enumerate(segment.keys):
        place = segment.start + at - first
        if place >= 0 and (place >= len(keys) or keys[place] != key):
            return at
    return len(segment.keys)


def _note_end(segment: Segment, chain: PromptChain, start: int, keys: array[int], prompt: int) -> None:
    data = bytes(chain.data[REACH[min(len(chain), len(WEIGHTS))] * BLOCK_BYTES :]).rstrip()
    if data.endswith(_CLOSING):
        data = data[:-1].rstrip()
    end = PromptEnd(data, start, keys, max(0, prompt - start))
    segment.ends = [*(other for other in segment.ends if other.digest != end.digest), end][-ENDS_KEPT:]


def _cost(segment: Segment) -> int:
    return SEGMENT_COST + sum(160 + 8 * len(end.keys) for end in segment.ends) + 8 * len(segment.keys)
