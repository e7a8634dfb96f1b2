"""Selects the engines in Kubernetes that are pods of the pool. A pure fold over the objects of all watches.

An engine becomes a pod when it is first ready: until then it loads its model and must get no request. From then on it
stays one, ready or not, until it is gone, as it has a cache and perhaps streams. If its containers are replaced, it
starts again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schedulers.types import Pod, PodId
from statesync.discovery.kubernetes.pod_objects import ObservedPod


class Listing(NamedTuple):
    """The pods, and messages to log."""

    pods: tuple[Pod, ...]
    notes: tuple[str, ...]
    """Messages that were not logged before."""


class EligiblePods:
    """Keeps which engines were ready, and which notes were made."""

    def __init__(self) -> None:
        self._ready: dict[str, str] = {}
        """By UID: the incarnation that was ready."""
        self._noted: frozenset[str] = frozenset()

    def listing(self, seen: Iterable[ObservedPod]) -> Listing:
        """The pool's pods now, from all known objects, the last changed one last."""
        engines: dict[str, ObservedPod] = {}
        for each in seen:
            known = engines.get(each.uid)
            if known is None or each.rank <= known.rank:
                engines[each.uid] = each
        ready = {uid: each.incarnation for uid, each in engines.items() if self._was_ready(each)}
        self._ready = ready
        pods: dict[PodId, Pod] = {}
        for uid, each in engines.items():
            # Of two StatefulSet pods under one name, the one that terminates is the old one.
            if each.pod is not None and uid in ready and not (each.pod.unready and each.pod.id in pods):
                pods[each.pod.id] = each.pod
        notes = frozenset(each.note for each in engines.values() if each.note)
        new, self._noted = notes - self._noted, notes
        return Listing(tuple(pods[key] for key in sorted(pods)), tuple(sorted(new)))

    def _was_ready(self, seen: ObservedPod) -> bool:
        if seen.pod is None:
            return False
        return not seen.pod.unready or self._ready.get(seen.uid) == seen.incarnation
