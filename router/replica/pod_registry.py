"""Who the pods are, told to everyone who keeps something about pods. Discovery, engines' own pages and health call in;
view, prober, scraper, prefix index, routes and connections hear of it in one place. No request passes here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from router.dataplane.http.upstream import Upstream
from router.dataplane.request.routes import Routes
from router.telemetry.metrics import Metrics
from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of, in_steps
from statesync.engines.health import HealthTracker
from statesync.engines.prober import Prober
from statesync.engines.scraper import Scraper
from statesync.errors import StateError, UnknownPod
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.types import EngineReport, PrefixPage

_log = logging.getLogger("turnout.membership")

MOST_AT_ONCE = 25
"""Pods that come or go in one turn of the event loop: 1 ms, however many there are; 1,000 at once took 0.13 s."""


@dataclass(slots=True)
class _Course:
    """A change of one pool that is under way."""

    steps: deque[PodChange]
    """What is left of it."""
    came: int = 0
    went: int = 0


class PodRegistry:
    """Keeps all that is known of pods in step."""

    def __init__(
        self,
        view: LoadView,
        prefix: PrefixIndex,
        routes: Routes,
        upstream: Upstream,
        metrics: Metrics,
        prefix_accuracy: PrefixAccuracy | None = None,
    ) -> None:
        self._view = view
        self._prefix = prefix
        self._routes = routes
        self._upstream = upstream
        self._metrics = metrics
        self._prefix_accuracy = prefix_accuracy or PrefixAccuracy(prefix.set_trust)
        self.health: HealthTracker | None = None
        self.prober: Prober | None = None
        self.scraper: Scraper | None = None
        self.known: set[str] = set()
        """Pools whose source has spoken."""
        self._strangers: set[PodId] = set()
        """Pods that no pool knows, on which another replica placed a prompt since the last look."""
        self._old_strangers: set[PodId] = set()
        self._courses: dict[str, _Course] = {}
        """Pools on the way to what discovery said last."""
        self._pods: dict[str, dict[PodId, Pod]] = {}

    def on_pods(self, pool: str, pods: Sequence[Pod]) -> None:
        """Discovery's full truth for a pool. A large change takes effect over several turns of the event loop."""
        steps = deque(in_steps(change_of(self._pods.get(pool, {}), pods), MOST_AT_ONCE))
        under_way = self._courses.get(pool)
        if under_way is not None:
            under_way.steps = steps
            return
        self._courses[pool] = _Course(steps)
        self._step(pool)

    def _step(self, pool: str) -> None:
        """Come as near to what is wanted as one turn of the loop allows, and go on in the next."""
        course = self._courses[pool]
        taken = self._apply(pool, course.steps.popleft(), course)
        if taken and course.steps:
            asyncio.get_running_loop().call_soon(self._step, pool)
            return
        del self._courses[pool]
        if taken:
            self.known.add(pool)
        if course.came or course.went:
            _log.info("pool %s: %d pods (%d new, %d gone)", pool, len(self._pods[pool]), course.came, course.went)

    def _apply(self, pool: str, change: PodChange, course: _Course) -> bool:
        """Tell everybody; whether the pool could take these."""
        try:
            added, removed = self._view.change_pods(pool, change)
        except StateError as error:
            _log.error("pool %s keeps its pods: %s", pool, error)
            return False
        here = self._pods.setdefault(pool, {})
        here.update((pod.id, pod) for pod in change.come)
        for gone in change.gone:
            here.pop(gone, None)
        self._watch_health(pool, change)
        if self.scraper is not None:
            self.scraper.change_pods(pool, change)
        self._forget(pool, removed)
        course.came += len(added)
        course.went += len(removed)
        return True

    def _watch_health(self, pool: str, change: PodChange) -> None:
        """A pod that discovery holds unready is not probed, and is none of those of which so many may be ejected:
        Kubernetes' own probe says when it is well, and a pod that terminates fails ours for good reason."""
        unready = tuple(pod.id for pod in change.come if pod.unready)
        watched = PodChange(tuple(pod for pod in change.come if not pod.unready), change.gone + unready)
        if self.health is not None:
            for pod in unready:
                for reason in self.health.blockers(pod):
                    self._view.unblock(pod, reason)
            self.health.change_pods(pool, [pod.id for pod in watched.come], watched.gone)
        if self.prober is not None:
            self.prober.change_pods(pool, watched)

    def _forget(self, pool: str, removed: Sequence[Pod]) -> None:
        for pod in removed:
            self._prefix.forget(pod.id)
            self._upstream.drop_idle(pod.address)
        gone = {pod.id for pod in removed}
        self._routes.forgotten(pool, gone)
        self._metrics.forget_pods(gone)
        self._prefix_accuracy.forget(gone)

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

    def on_report(self, pod: PodId, report: EngineReport, age_s: float) -> None:
        """An engine's own reading, made `age_s` ago."""
        try:
            self._view.pool_of(pod)
        except UnknownPod:
            return  # a scrape that came back after its pod had left must not open a place for it
        self._view.report(pod, report, age_s)
        if report.kv_capacity_tokens:
            self._prefix.set_capacity(pod, report.kv_capacity_tokens)
        self._prefix_accuracy.on_report(pod, report)

    def on_models(self, pod: PodId, models: frozenset[str]) -> None:
        """What a pod says it serves."""
        try:
            self._routes.learned(self._view.pool_of(pod), pod, models)
        except UnknownPod:
            return

    def on_restart(self, pod: PodId) -> None:
        """The engine is a new process: its cache is empty and its connections are dead."""
        self._prefix.forget(pod)
        self._prefix_accuracy.restarted(pod)
        try:
            self._upstream.drop_idle(self._view.pod(pod).address)
        except UnknownPod:
            return

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int]) -> None:
        """Another replica sent a prompt to the pod, which discovery may tell it of before it tells us."""
        self._prefix.place(pod, blocks)
        if not self._is_here(pod):
            self._strangers.add(pod)

    def restored(self, page: PrefixPage) -> None:
        """A page of another replica's index."""
        self._prefix.restore(page)
        if not self._is_here(page.pod):
            self._strangers.add(page.pod)

    def forget_strangers(self) -> None:
        """Forget what was placed on pods that are unknown now and were at the last call: discovery had its time."""
        for pod in self._old_strangers:
            if not self._is_here(pod):
                self._prefix.forget(pod)
        self._prefix_accuracy.forget(
            [pod for pod in self._prefix_accuracy.pods if not self._is_here(pod)]
        )  # answered after they had left
        self._old_strangers, self._strangers = {pod for pod in self._strangers if not self._is_here(pod)}, set()

    def _is_here(self, pod: PodId) -> bool:
        return any(pod in pods for pods in self._pods.values())

    def complete(self) -> bool:
        """Whether every pool has been told its pods, and the models of those that have any."""
        return all(
            name in self.known and (pool.models or name in self._routes.pools_learned() or not self._pods.get(name))
            for name, pool in self._routes.pools.items()
        )
