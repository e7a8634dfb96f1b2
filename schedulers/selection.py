"""The cheapest pod, where a pod costs what it has to do anyway plus what this request adds to that, given its cache.

Only the sum is known here: a policy says what its column means and what is added. A thousand pods are not priced one
by one. Those to whom this request adds least (the deepest level of `hits.py`) come first, and the search ends at the
level whose pods would lose even if they were the least busy of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from schedulers import entropy
from schedulers.hits import Level, levels_of
from schedulers.types import LoadSnapshot, PodId

Added = Callable[[int], float]
"""Blocks that a pod holds -> what this request adds there. Called once a level; must not grow with the blocks."""

_SECOND_DRAW = 16
"""Clear of the draws `entropy.tied` makes, so that who is to be beaten does not say who of the winners is taken."""


class Cheapest(NamedTuple):
    """Who won, and at what cost."""

    at: int
    """Position in the snapshot."""
    cost: float
    least_busy: bool
    """Nobody has a smaller number in the column."""


class _ToBeat(NamedTuple):
    """One of the least busy pods, drawn: whoever beats it holds more of the prompt."""

    busy: float
    """Its number in the column, the least."""
    held: int
    cost: float


def cheapest(
    snapshot: LoadSnapshot, column: Sequence[float], hits: Mapping[PodId, int], added: Added, dice: int
) -> Cheapest:
    """The least of `column[at] + added(blocks held at it)`, equal ones each as likely."""
    least = min(column)
    at = entropy.tied(column, least, dice)
    if not hits:
        return Cheapest(at, least + added(0), True)
    held = hits.get(snapshot.candidates[at].pod.id, 0)
    to_beat = _ToBeat(least, held, least + added(held))
    # Mostly nobody holds more: a system prompt is what every pod holds.
    levels = tuple(takewhile(lambda level: level.blocks > held, levels_of(hits)))
    best, ties = _deeper(snapshot.position_of(), column, hits, added, levels, to_beat)
    if not ties:
        return Cheapest(at, to_beat.cost, True)
    if best == to_beat.cost:
        ties += _equals(snapshot, column, hits, added, to_beat)
    at = ties[entropy.index(dice, len(ties), _SECOND_DRAW)]
    return Cheapest(at, best, column[at] == least)


def _deeper(
    positions: Mapping[PodId, int],
    column: Sequence[float],
    hits: Mapping[PodId, int],
    added: Added,
    levels: Sequence[Level],
    to_beat: _ToBeat,
) -> tuple[float, list[int]]:
    """The least cost on these levels and who has it; nobody where all cost more than the one to beat."""
    best, ties = to_beat.cost, list[int]()
    for blocks, pods in levels:
        more = added(blocks)
        if to_beat.busy + more > best:
            break  # and so would whoever holds less
        for pod in pods:
            at = positions.get(pod)
            if at is None or (cost := column[at] + more) > best:
                continue
            if cost < best:
                best, ties = cost, [at]
            elif hits[pod] == blocks:  # else it was priced before, for all that it holds
                ties.append(at)
    return best, ties


def _equals(
    snapshot: LoadSnapshot, column: Sequence[float], hits: Mapping[PodId, int], added: Added, to_beat: _ToBeat
) -> list[int]:
    """The least busy pods that cost as much as the one to beat: for when a busy pod that holds more is equal to it."""
    idle = [at for at, busy in enumerate(column) if busy == to_beat.busy]
    held = [hits.get(snapshot.candidates[at].pod.id, 0) for at in idle]
    # Those that hold more were priced already.
    equal = {each: each <= to_beat.held and to_beat.busy + added(each) == to_beat.cost for each in set(held)}
    return [at for at, each in zip(idle, held, strict=True) if equal[each]]
