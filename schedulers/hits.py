"""Who holds how much of a prompt, readable from the deepest down: what a policy weighs before it looks at a thousand
pods. Knows no index and no policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schedulers.types import PodId


class Level(NamedTuple):
    """Pods that hold at least so much of the prompt."""

    blocks: int
    pods: Sequence[PodId]


class PrefixHits(dict[PodId, int]):
    """`RequestInfo.prefix_hits` with its `levels`, as whoever looked them up found them. Read only."""

    __slots__ = ("levels",)

    def __init__(self, hits: Mapping[PodId, int], levels: Sequence[Level]) -> None:
        """`levels`: deepest first; each pod of `hits` stands in the level of what it holds, maybe in shallower too."""
        super().__init__(hits)
        self.levels = levels


def levels_of(hits: Mapping[PodId, int]) -> Sequence[Level]:
    """Deepest first: the ones that came with the hits, or made here (0.15 us a pod)."""
    return hits.levels if isinstance(hits, PrefixHits) else levels(hits.items())


def levels(held: Iterable[tuple[PodId, int]]) -> Sequence[Level]:
    """The same from each pod's own number of blocks."""
    by_blocks: dict[int, list[PodId]] = {}
    for pod, blocks in held:
        by_blocks.setdefault(blocks, []).append(pod)
    return [Level(blocks, by_blocks[blocks]) for blocks in sorted(by_blocks, reverse=True)]
