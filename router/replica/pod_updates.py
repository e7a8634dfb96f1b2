"""What is learned of single pods, passed on to everything that keeps state about pods: load view, prefix index, routes,
connections, metrics. Health, engines and other replicas call in; which pods there are is `pod_registry.py`'s. No
request passes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from router.dataplane.http.upstream import Upstream
from router.dataplane.request.routes import Routes
from router.telemetry.metrics import Metrics
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import process_of
from statesync.engines.health import HealthTracker, Outcome
from statesync.engines.model_list import ModelCards
from statesync.errors import UnknownPod
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.types import EngineReport, PrefixPage

PROBE: Final = "probe"
"""The reason of a pod that fails its probes."""

KEPT_LOGGED: Final = 20
"""Pods of a pool that the log names as failing and kept. Each is counted against all pods of the pool."""

_log = logging.getLogger("turnout.pods")


class PodUpdates:
    """Applies each update of a pod to every component that it concerns."""

    def __init__(
        self,
        view: LoadView,
        prefix: PrefixIndex,
        prefix_accuracy: PrefixAccuracy,
        routes: Routes,
        upstream: Upstream,
        metrics: Metrics,
    ) -> None:
        self._view = view
        self._prefix = prefix
        self._prefix_accuracy = prefix_accuracy
        self._routes = routes
        self._upstream = upstream
        self._metrics = metrics
        self.on_probe_failed: Callable[[AbstractSet[PodId]], None] = _ignore
        """Called with the pods of a pool that fail their probes, whenever that changes in the pool."""
        self._failing: dict[str, set[PodId]] = {}
        """These, by pool. Kept up, as all pods of a pool may fail one after the other."""
        self._kept: dict[str, set[PodId]] = {}
        """Pods that fail and are kept in the rotation, by pool."""
        self._failed_last: set[PodId] = set()
        """Ranks whose own last request failed."""
        self._unknown: set[PodId] = set()
        """Pods of no pool on which another replica placed a prompt since the last `forget_unknown`."""
        self._long_unknown: set[PodId] = set()
        """Those that were unknown at the last `forget_unknown` already."""
        self._foreign: set[PodId] = set()
        """Those that stayed unknown after it, and have been placed on since: no pods of this fleet."""

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
            if reason == PROBE:
                self._hand_back(pod)
        except UnknownPod:
            return  # it left the pool between the probe and its verdict

    def on_kept(self, pod: PodId, reasons: frozenset[str]) -> None:
        """A pod that fails stays in the rotation because its pool has too few others, or fails no more."""
        try:
            was = self._view.status(pod)
            self._view.keep(pod, reasons)
        except UnknownPod:
            return
        kept = self._kept.setdefault(was.pool, set())
        (kept.add if reasons else kept.discard)(pod)
        if reasons and not was.kept:
            self._log_kept(pod, was.pool, reasons)
        elif was.kept and not reasons and was.routable:
            _log.info("pod %s no longer fails", pod)
        if (PROBE in reasons) != (PROBE in was.kept):
            self._hand_back(pod)

    def _log_kept(self, pod: PodId, pool: str, reasons: frozenset[str]) -> None:
        count = len(self._kept[pool])
        if count > KEPT_LOGGED:
            return
        pods = self._view.statuses(pool)
        well, why = sum(each.well() for each in pods), ", ".join(sorted(reasons))
        more = "; more of them are in `turnout pods`, not here" if count == KEPT_LOGGED else ""
        message = "pod %s fails (%s) and is kept, for pool %s has too few others: %d of %d pods are well%s"
        _log.warning(message, pod, why, pool, well, len(pods), more)

    def _hand_back(self, pod: PodId) -> None:
        """Let the requests of the pool's pods that fail their probes move on, to those that answer them now."""
        status = self._view.status(pod)
        failing = self._failing.setdefault(status.pool, set())
        (failing.add if PROBE in status.blockers or PROBE in status.kept else failing.discard)(pod)
        if failing:
            # One probe finds all ranks of a process failing, one after the other: none moves its requests to the next.
            ranks = process_of(self._view.pod(pod))
            self.on_probe_failed(failing if len(ranks) < 2 else failing.union(ranks))

    def ends_of(self, health: HealthTracker) -> Callable[[PodId, Outcome, float], None]:
        """Takes the ends of requests. A failure counts for all ranks of the pod's process, and a success for those
        whose own last request did not fail: otherwise rare failures would add up on a rank with few requests."""

        def take(pod: PodId, outcome: Outcome, now: float) -> None:
            unsettled = pod in health.unsettled
            health.outcome(pod, outcome, now)
            if outcome is Outcome.BUSY or (outcome is Outcome.OK and not unsettled) or not self._is_known(pod):
                return
            ranks = [rank for rank in process_of(self._view.pod(pod)) if rank != pod]
            if not ranks:
                return
            (self._failed_last.discard if outcome is Outcome.OK else self._failed_last.add)(pod)
            for rank in ranks:
                if outcome is Outcome.FAILURE or rank not in self._failed_last:
                    health.outcome(rank, outcome, now)

        return take

    def not_probed(self, pool: str, pod: PodId) -> None:
        """The pod is not probed any more: nothing is known against it."""
        for pods in (self._failing, self._kept):
            pods.get(pool, set()).discard(pod)

    def on_report(self, pod: PodId, report: EngineReport, age_s: float) -> None:
        """An engine's own reading, made `age_s` ago."""
        if not self._is_known(pod):
            return  # the pod left while its scrape was under way
        self._view.report(pod, report, age_s)
        if report.kv_capacity_tokens:
            self._prefix.set_capacity(pod, report.kv_capacity_tokens)
        self._prefix_accuracy.on_report(pod, report)

    def on_models(self, pod: PodId, cards: ModelCards | None) -> None:
        """The models that a pod serves, as its engine lists them; None if it has no list: then those that discovery
        names, if any."""
        try:
            pool = self._view.pool_of(pod)
        except UnknownPod:
            return
        models = frozenset(cards) if cards is not None else self._view.pod(pod).models or None
        self._routes.cards.set(pool, pod, cards)
        self._routes.learned(pool, pod, models)
        self._view.set_models(pod, models)

    def on_restart(self, pod: PodId) -> None:
        """The engine is a new process: its cache is empty and its connections are dead."""
        self._prefix.forget(pod)
        self._prefix_accuracy.restarted(pod)
        try:
            self._upstream.drop_idle(self._view.pod(pod).address)
        except UnknownPod:
            return

    def on_gone(self, pool: str, pods: Sequence[Pod]) -> None:
        """Pods left the pool: forget all that is kept for them."""
        for pod in pods:
            self._prefix.forget(pod.id)
            self._upstream.drop_idle(pod.address)
        gone = {pod.id for pod in pods}
        self._failed_last -= gone
        for pod in pods:
            self.not_probed(pool, pod.id)
        self._routes.forgotten(pool, gone)
        self._metrics.forget_pods(gone)
        self._prefix_accuracy.forget(gone)

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int]) -> None:
        """Another replica sent a prompt to the pod, which discovery may have shown to that replica first."""
        if not self._is_known(pod):
            self._unknown.add(pod)
            if pod in self._foreign:
                return
        self._prefix.place(pod, blocks)

    def restored(self, page: PrefixPage) -> None:
        """A page of another replica's index."""
        self._prefix.restore(page)
        if not self._is_known(page.pod):
            self._unknown.add(page.pod)

    def forget_unknown(self) -> None:
        """Forget what was placed on pods that are unknown now and were at the last call: discovery had its time."""
        for pod in self._long_unknown:
            if not self._is_known(pod):
                self._prefix.forget(pod)
        self._prefix_accuracy.forget(
            [pod for pod in self._prefix_accuracy.pods if not self._is_known(pod)]
        )  # pods whose last answer came after they had left
        unknown = {pod for pod in self._unknown if not self._is_known(pod)}
        self._foreign = unknown & (self._long_unknown | self._foreign)
        self._long_unknown, self._unknown = unknown, set()

    def _is_known(self, pod: PodId) -> bool:
        try:
            self._view.pool_of(pod)
        except UnknownPod:
            return False
        return True


def _ignore(pods: AbstractSet[PodId]) -> None:
    """Stands for a listener before there is one."""
