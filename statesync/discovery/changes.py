"""The difference between two sets of pods, whole or in steps. Pure.

Discovery always gives the full list; it is compared with the known pods once, here. Components that keep something
about pods get only the difference, so the cost of a step grows with the step and not with the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from schedulers.types import Pod, PodId

STATEFUL_SET: Final = "statefulset"
"""Label of a pod that comes back under its id: the StatefulSet it belongs to."""

INCARNATION: Final = "uid"
"""Label that differs between two pods that have the same id one after the other: caches and connections of the first
are gone."""


class PodChange(NamedTuple):
    """A difference. Applying it twice is harmless."""

    come: tuple[Pod, ...] = ()
    """Pods that are new, or have a new description."""
    gone: tuple[PodId, ...] = ()


def change_of(now: Mapping[PodId, Pod], wanted: Iterable[Pod]) -> PodChange:
    """The change that turns `now` into `wanted`."""
    there = {pod.id: pod for pod in wanted}
    return PodChange(
        tuple(pod for pod in there.values() if now.get(pod.id) != pod),
        tuple(pod for pod in now if pod not in there),
    )


def in_steps(change: PodChange, most: int) -> Iterator[PodChange]:
    """The same change in steps of at most `most` pods; at least one step. Pods come before others go, so that no pool
    is empty in between."""
    come, gone = change
    if len(come) + len(gone) <= most:
        yield change
        return
    for at in range(0, len(come), most):
        yield PodChange(come=come[at : at + most])
    for at in range(0, len(gone), most):
        yield PodChange(gone=gone[at : at + most])


def replaced(now: Mapping[PodId, Pod], change: PodChange) -> PodChange:
    """What of the change has to go before the rest of it comes: pods that are another process under the same id."""
    return PodChange(
        gone=tuple(
            pod.id
            for pod in change.come
            if (before := now.get(pod.id)) is not None and before.labels.get(INCARNATION) != pod.labels.get(INCARNATION)
        )
    )
