"""What it takes to make one set of pods another, whole or in steps. Pure.

Discovery always tells the full truth; comparing it with what is known is done once, here. Whoever keeps something about
pods is told only the difference, so that a step of a large change costs what the step changes and not the whole pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from schedulers.types import Pod, PodId


class PodChange(NamedTuple):
    """A difference. Telling it twice is no harm."""

    come: tuple[Pod, ...] = ()
    """Pods that are new, or described anew."""
    gone: tuple[PodId, ...] = ()


def change_of(now: Mapping[PodId, Pod], wanted: Iterable[Pod]) -> PodChange:
    """What makes `now` the same as `wanted`."""
    there = {pod.id: pod for pod in wanted}
    return PodChange(
        tuple(pod for pod in there.values() if now.get(pod.id) != pod),
        tuple(pod for pod in now if pod not in there),
    )


def in_steps(change: PodChange, most: int) -> Iterator[PodChange]:
    """The same change, at most `most` pods at a time; at least one step. Pods come before others go, so that no pool
    runs empty on the way."""
    come, gone = change
    if len(come) + len(gone) <= most:
        yield change
        return
    for at in range(0, len(come), most):
        yield PodChange(come=come[at : at + most])
    for at in range(0, len(gone), most):
        yield PodChange(gone=gone[at : at + most])
