"""A pool with pods from Kubernetes: `kubernetes://NAMESPACE?selector=app=vllm`, `kubernetes+service://NAMESPACE/NAME`.

The parts are put together here. `watch.py` decides the requests, `follower.py` sends them through `client.py`;
`pod_objects.py` and `endpoint_slices.py` interpret objects; `eligible.py` selects the pool's pods. Each namespace is
followed separately, so that one that may not be read does not delay the others.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from schedulers.types import Pod
from statesync.discovery.kubernetes import endpoint_slices, pod_objects
from statesync.discovery.kubernetes.client import Access, ApiServer
from statesync.discovery.kubernetes.eligible import EligiblePods
from statesync.discovery.kubernetes.follower import Follower, ResourceKind
from statesync.discovery.kubernetes.pod_objects import ObservedPod
from statesync.discovery.kubernetes.target import KubernetesTarget
from statesync.discovery.kubernetes.watch import Item, ListWatch
from statesync.discovery.source import OnPods, PodTemplate

_log = logging.getLogger("turnout.discovery")

QUIET_S: Final = 90.0
"""Seconds without a byte after which a watch counts as dead: an API server sends a bookmark about once a minute."""

_Engines = tuple[ObservedPod, ...]


class KubernetesSource:
    """Keeps a pool in step with a cluster. `clock`, `sleep` and `rng` are injected; `access` defaults to the
    credentials that `target` and the environment name."""

    def __init__(
        self,
        target: KubernetesTarget,
        *,
        template: PodTemplate | None = None,
        access: Access | None = None,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._eligible = EligiblePods()
        self._pods: tuple[Pod, ...] | None = None
        self._on_pods: OnPods | None = None
        access = access or Access(target.kubeconfig, target.context)
        kind = _kind_of(target, template or PodTemplate())
        self._followers = [
            Follower(
                place,
                kind,
                ApiServer(access, quiet_s=quiet_s),
                ListWatch[_Engines](target.relist_s, rng),
                on_change=self._announce,
                clock=clock,
                sleep=sleep,
            )
            for place in target.places
        ]

    async def run(self, on_pods: OnPods, /) -> None:
        """Follow every namespace until cancelled; calls `on_pods` when the pods change."""
        self._on_pods = on_pods
        async with asyncio.TaskGroup() as group:
            for follower in self._followers:
                group.create_task(follower.run())

    def _announce(self) -> None:
        """Call `on_pods` if the pods changed, once every namespace has been listed or has failed."""
        followers = self._followers
        if not all(each.tried or each.known.synced for each in followers):
            return
        if self._on_pods is None or not any(each.known.synced for each in followers):
            return
        engines = (each for follower in followers for each in follower.known.values())
        listing = self._eligible.listing(seen for each in engines for seen in each)
        for note in listing.notes:
            _log.warning("discovery: %s", note)
        if listing.pods != self._pods:
            before, self._pods = len(self._pods or ()), listing.pods
            _log.debug("discovery: %d pods after %d", len(listing.pods), before)
            self._on_pods(listing.pods)


def _kind_of(target: KubernetesTarget, template: PodTemplate) -> ResourceKind[_Engines]:
    def pods(raw: msgspec.Raw) -> Item[_Engines]:
        found = pod_objects.decode_pod(raw)
        return _item(found.metadata, (pod_objects.seen_in(found, target.port, template),))

    def endpoints(raw: msgspec.Raw) -> Item[_Engines]:
        found = endpoint_slices.decode_slice(raw)
        return _item(found.metadata, endpoint_slices.seen_in(found, target.port, template))

    if not target.service:
        return ResourceKind("/api/v1/namespaces/{}/pods", "/api/v1/pods", target.selector, pods)
    group = "/apis/discovery.k8s.io/v1"
    selector = f"{endpoint_slices.SERVICE_LABEL}={target.service}"
    return ResourceKind(f"{group}/namespaces/{{}}/endpointslices", f"{group}/endpointslices", selector, endpoints)


def _item(meta: pod_objects.Metadata, engines: _Engines) -> Item[_Engines]:
    return Item(meta.uid, meta.resource_version, engines)
