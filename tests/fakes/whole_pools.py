"""Whole pools for components that follow pods by differences, as a discovery would report them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

from schedulers.types import Pod, PodId
from statesync.discovery.changes import change_of
from statesync.engines.health import HealthTracker

_pods: WeakKeyDictionary[Any, dict[str, dict[PodId, Pod]]] = WeakKeyDictionary()
"""Component -> pool -> the pods that it was given."""


def set_pods(follower: Any, pool: str, pods: Iterable[Pod], *now: float) -> None:
    """Replace the pool's pods in a component with `change_pods`."""
    there = {pod.id: pod for pod in pods}
    pools = _pods.setdefault(follower, {})
    follower.change_pods(pool, change_of(pools.get(pool, {}), there.values()), *now)
    pools[pool] = there


def set_ids(tracker: HealthTracker, pool: str, ids: Iterable[PodId]) -> None:
    """Replace the pool's pods in a health tracker."""
    before, after = tracker._pools.get(pool, set()), set(ids)  # compiled, it cannot be a key above
    tracker.change_pods(pool, after - before, before - after)
