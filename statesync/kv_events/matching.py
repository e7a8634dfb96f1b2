"""Finds which stored blocks belong to which answer. Pure.

Events name no request. An answer says how many tokens its prompt had, how many of them were cached, and how many tokens
it has itself: a run of stored blocks that begins where the cached part ends and is as long as the rest belongs to it,
if there is only one. Where several requests of one shape run at the same time, none of them is taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import islice
from math import inf
from typing import Final, NamedTuple

from statesync.kv_events.held import UNKNOWN, HeldBlocks, Run
from statesync.kv_events.paths import PromptChain, PromptPath, PromptPaths

SETTLE_S: Final = 0.05
"""Seconds from an answer's end until its last blocks' events have come."""

PATIENCE_S: Final = 5.0
"""Seconds after which an answer without a run is given up."""

WAITING: Final = 1024
"""Answers that may wait for their runs."""


class Answered(NamedTuple):
    """An answer that is complete."""

    chain: PromptChain
    arrived_at: float
    ended_at: float
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int


class AnswerMatcher:
    """The answers of one pod, and the runs of its publishers."""

    def __init__(self, paths: PromptPaths, held: Callable[[], list[HeldBlocks]]) -> None:
        self._paths = paths
        self._held = held
        self._waiting: list[tuple[float, int, Answered]] = []
        """A heap: when to look next, and the number of the answer."""
        self._count = 0
        self.matched_total = 0
        """Counter: answers whose blocks were found."""
        self.missed_total = 0
        """Counter: answers that stored blocks which could not be distinguished from others'."""

    @property
    def waiting(self) -> Sequence[Answered]:
        """Answers whose blocks were not found yet."""
        return [answer for _, _, answer in self._waiting]

    def answered(self, answer: Answered) -> None:
        """Note an answer; `settle` looks for its blocks."""
        self._wait(answer, answer.ended_at + SETTLE_S)
        if len(self._waiting) > WAITING:
            heappop(self._waiting)

    def _wait(self, answer: Answered, until: float) -> None:
        self._count += 1
        heappush(self._waiting, (until, self._count, answer))

    def settle(self, now: float) -> None:
        """Match the answers that ended a while ago. Each look is after twice the time of the one before."""
        due = list[Answered]()
        while self._waiting and self._waiting[0][0] <= now:
            due.append(heappop(self._waiting)[2])
        for answer in due:
            if self._match(answer):
                self.matched_total += 1
            elif now - answer.ended_at < PATIENCE_S:
                twice = now + max(SETTLE_S, now - answer.ended_at)
                self._wait(answer, min(twice, answer.ended_at + PATIENCE_S))
            else:
                self.missed_total += 1

    def _match(self, answer: Answered) -> bool:
        known = self._paths.find(answer.chain)
        parts = self._parts(answer, known, _part) or self._parts(answer, known, _part_at)
        if len(parts) == 1:
            parts[0].run.taken = True
            self._learn(answer, known, parts[0].size, parts[0].keys)
            return True
        sizes = {held.block_size for held in self._held() if held.block_size}
        whole = [size for size in sizes if answer.prompt_tokens // size == answer.cached_tokens // size]
        if whole and known is not None:  # it stored nothing of its prompt
            self._learn(answer, known, whole[0], array("Q"))
        return bool(whole)

    def _parts(
        self, answer: Answered, known: PromptPath | None, part_of: Callable[[Answered, HeldBlocks, Run], _Part | None]
    ) -> list[_Part]:
        """What the request may have stored; of two none is taken."""
        found = (part_of(answer, held, run) for held in self._held() for run in held.runs)
        parts = list(islice(filter(None, found), 2 if known is None else None))
        if known is not None:
            before = [known.key(answer.cached_tokens // part.size - 1) for part in parts]
            parts = [part for part, key in zip(parts, before, strict=True) if part.before == key] or parts
        return parts

    def _learn(self, answer: Answered, known: PromptPath | None, size: int, keys: array[int]) -> None:
        cached, prompt = answer.cached_tokens // size, answer.prompt_tokens // size
        first = cached
        if known is not None and known.first <= cached <= known.depth:
            first, keys = known.first, known.keys[: cached - known.first] + keys
        if keys:
            self._paths.learn(answer.chain, first, keys, prompt)


class _Part(NamedTuple):
    """The blocks of a run that a request may have stored."""

    run: Run
    keys: array[int]
    before: int
    """Key of the block before them; 0 at the beginning of a prompt."""
    size: int
    """Tokens a block."""


def _part(answer: Answered, held: HeldBlocks, run: Run) -> _Part | None:
    """The part of a run that has the time, the place and the length of what the request stored; None if there is
    none."""
    if run.taken or run.stored[-1][0] < answer.arrived_at:
        return None
    size = held.block_size
    cached = answer.cached_tokens // size
    if not cached and (run.parent or run.stored[0][0] < answer.arrived_at):
        return None  # the most frequent: another's, of the same time
    least = answer.prompt_tokens // size - cached
    most = (answer.prompt_tokens + answer.answer_tokens) // size - cached
    # The next turn may have begun right after the answer, and a replay brings blocks late.
    for until in (answer.ended_at + SETTLE_S, answer.ended_at, inf):
        start, stop = run.between(answer.arrived_at, until)
        before = run.before(start)
        if run.first != UNKNOWN and run.first + start != cached:
            continue
        if max(1, least) <= stop - start <= most and (before == 0) == (cached == 0):
            return _Part(run, run.keys[start:stop], before, size)
    return None


def _part_at(answer: Answered, held: HeldBlocks, run: Run) -> _Part | None:
    """The same by the place in the prompt: other requests may have stored what is before and after in the run."""
    if run.first == UNKNOWN:
        return None
    size = held.block_size
    cached, least = answer.cached_tokens // size, answer.prompt_tokens // size
    start, stop = cached - run.first, least - run.first
    if not 0 <= start < len(run.keys) or stop > len(run.keys) or run.since(start) < answer.arrived_at:
        return None
    stop = max(stop, start + 1)
    if run.since(stop - 1) > answer.ended_at + PATIENCE_S:
        return None
    most = (answer.prompt_tokens + answer.answer_tokens) // size - run.first
    stop = max(stop, min(most, run.count(answer.ended_at + SETTLE_S)))
    return _Part(run, run.keys[start:stop], run.before(start), size)
