"""Which of the engines that Kubernetes tells of are pods of the pool. A pure fold over what all watches know.

An engine becomes a pod when it is first ready: until then it loads its model, and nobody may ask it anything. From then
on it stays one, ready or not, until it is gone: it has a cache that is worth knowing, and perhaps streams. If its
containers were replaced meanwhile it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schedulers.types import Pod
from statesync.discovery.kubernetes.pod_objects import ObservedPod


class Listing(NamedTuple):
    """What is to be told."""

    pods: tuple[Pod, ...]
    notes: tuple[str, ...]
    """What should be logged, and was not before."""


class EligiblePods:
    """Remembers who was ready, and what was said."""

    def __init__(self) -> None:
        self._ready: dict[str, str] = {}
        """UID -> incarnation that was ready."""
        self._noted: frozenset[str] = frozenset()

    def listing(self, seen: Iterable[ObservedPod]) -> Listing:
        """The pool's pods now, given everything that is known, what changed last at the end."""
        engines: dict[str, ObservedPod] = {}
        for each in seen:
            known = engines.get(each.uid)
            if known is None or each.rank <= known.rank:
                engines[each.uid] = each
        ready = {uid: each.incarnation for uid, each in engines.items() if self._was_ready(each)}
        self._ready = ready
        pods = {each.pod.id: each.pod for uid, each in engines.items() if each.pod is not None and uid in ready}
        notes = frozenset(each.note for each in engines.values() if each.note)
        news, self._noted = notes - self._noted, notes
        return Listing(tuple(pods[key] for key in sorted(pods)), tuple(sorted(news)))

    def _was_ready(self, seen: ObservedPod) -> bool:
        if seen.pod is None:
            return False
        return not seen.pod.unready or self._ready.get(seen.uid) == seen.incarnation
