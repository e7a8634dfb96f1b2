"""Who the pods are, told to everyone who keeps something about pods. Discovery, engines' own pages and health call in;
view, prober, scraper, prefix index, routes and connections hear of it in one place. No request passes here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from router.dataplane.routes import Routes
from router.dataplane.upstream import Upstream
from router.telemetry.metrics import Metrics
from schedulers.types import Pod, PodId
from statesync.errors import StateError, UnknownPod
from statesync.health import HealthTracker
from statesync.prefix import PrefixIndex
from statesync.prober import Prober
from statesync.scraper import Scraper
from statesync.types import EngineReport
from statesync.view import LoadView

_log = logging.getLogger("turnout.membership")


class Membership:
    """Keeps all that is known of pods in step."""

    def __init__(
        self, view: LoadView, prefix: PrefixIndex, routes: Routes, upstream: Upstream, metrics: Metrics
    ) -> None:
        self._view = view
        self._prefix = prefix
        self._routes = routes
        self._upstream = upstream
        self._metrics = metrics
        self.health: HealthTracker | None = None
        self.prober: Prober | None = None
        self.scraper: Scraper | None = None
        self.known: set[str] = set()
        """Pools whose source has spoken."""

    def on_pods(self, pool: str, pods: Sequence[Pod]) -> None:
        """Discovery's full truth for a pool."""
        try:
            added, removed = self._view.set_pods(pool, pods)
        except StateError as error:
            _log.error("pool %s keeps its pods: %s", pool, error)
            return
        if self.health is not None:
            self.health.set_pods(pool, [pod.id for pod in pods])
        if self.prober is not None:
            self.prober.set_pods(pool, pods)
        if self.scraper is not None:
            self.scraper.set_pods(pool, pods)
        for pod in removed:
            self._prefix.forget(pod.id)
            self._routes.forgotten(pool, pod.id)
            self._upstream.drop_idle(pod.address)
            self._metrics.forget_pod(pod.id)
        self.known.add(pool)
        if added or removed:
            _log.info("pool %s: %d pods (%d new, %d gone)", pool, len(pods), len(added), len(removed))

    def on_health(self, pod: PodId, reason: str, blocked: bool) -> None:
        """A pod leaves or rejoins the rotation."""
        try:
            if blocked:
                self._view.block(pod, reason)
                self._metrics.count_ejection(pod, reason)
                _log.warning("pod %s leaves the rotation: %s", pod, reason)
            else:
                self._view.unblock(pod, reason)
                _log.info("pod %s is back: no longer %s", pod, reason)
        except UnknownPod:
            return  # it left the pool between the probe and its verdict

    def on_report(self, pod: PodId, report: EngineReport) -> None:
        """An engine's own reading."""
        try:
            self._view.pool_of(pod)
        except UnknownPod:
            return  # a scrape that came back after its pod had left must not open a place for it
        self._view.report(pod, report)
        if report.kv_capacity_tokens:
            self._prefix.set_capacity(pod, report.kv_capacity_tokens)

    def on_models(self, pod: PodId, models: frozenset[str]) -> None:
        """What a pod says it serves."""
        try:
            self._routes.learned(self._view.pool_of(pod), pod, models)
        except UnknownPod:
            return

    def on_restart(self, pod: PodId) -> None:
        """The engine is a new process: its cache is empty and its connections are dead."""
        self._prefix.forget(pod)
        try:
            self._upstream.drop_idle(self._view.pod(pod).address)
        except UnknownPod:
            return

    def complete(self) -> bool:
        """Whether every pool has been told its pods, and the models of those that have any."""
        return all(
            name in self.known
            and (pool.models or name in self._routes.pools_learned() or not self._view.statuses(name))
            for name, pool in self._routes.pools.items()
        )
