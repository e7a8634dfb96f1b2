"""What a replica shows of itself: the readings behind its metrics, and its control plane. Reads components; decides
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain

from router import __version__
from router.control.plane import ControlPlane, LiveSources
from router.plugins.samples import Samples
from router.replica.parts import Components
from router.telemetry.collector import Readings
from router.telemetry.exposition import Exposition
from router.telemetry.kv_events import families as kv_families
from router.telemetry.ports import tls_families
from router.telemetry.scale_signals import families as scale_families
from router.telemetry.span_family import families as span_families
from router.telemetry.trials import families
from schedulers.protocols import Scheduler
from statesync.store.lineage import as_number, digest


def control_plane(of: Components, *, drain: Callable[[], None]) -> ControlPlane:
    """What the control port of a replica reads and calls; `drain` begins its drain."""
    return ControlPlane(
        settings=of.core.settings,
        tokens=of.control.tokens,
        audit=of.control.audit,
        view=of.state.view,
        store=of.state.store,
        policies=of.policy.controller,
        lifecycle=of.core.lifecycle,
        render_metrics=Exposition(of.core.metrics, readings(of)).render,
        connections=lambda: len(of.dataplane.listener.edges),
        active=lambda: len(of.network.admission.active),
        pods_scraped=lambda: of.pods.scraper.pods_read_here,
        waits_for=of.warmup.waits_for,
        drain=drain,
        clock=of.core.clock,
        started_at=time.time(),
        trial=of.policy.trials.report,
        plugins=of.policy.plugins.describe,
        keys=of.dataplane.access.shared if of.dataplane.access is not None else None,
        replica=of.core.name,
        version=__version__,
        live=_live_sources(of),
    )


def _live_sources(of: Components) -> LiveSources:
    dispatch, policy = of.dataplane.gateway.deps.dispatch, of.policy

    def decider(pool: str, name: str) -> Scheduler | None:
        live, running = policy.controller.live(pool).scheduler, policy.trials.watched.get(pool)
        candidate = running.trial.canary if running is not None else None
        deciders = [live, candidate.scheduler] if candidate is not None else [live]
        return next((each for each in deciders if each.name == name), policy.catalog.by_name().get(name))

    def open_samples() -> Samples:
        samples = dispatch.samples = policy.samples or Samples()
        return samples

    def close_samples() -> None:
        dispatch.samples = policy.samples

    limits = of.dataplane.gateway.deps.limits
    return LiveSources(
        metrics=of.core.metrics,
        accuracy=of.state.prefix_accuracy.pods,
        waiting=lambda: of.network.admission.queued,
        policy_names=lambda: list(policy.catalog.by_name()),
        decider=decider,
        open_samples=open_samples,
        close_samples=close_samples,
        limits=limits.registry if limits is not None else None,
    )


def readings(of: Components) -> Readings:
    """What a scrape of a replica's metrics reads."""
    policies, admission = of.policy.controller, of.network.admission
    export, kv_events = of.dataplane.observers.export, of.pods.kv_events
    return Readings(
        pods=of.state.view.statuses,
        pools=of.state.view.pools,
        view_age_s=of.state.store.age_s,
        replicas=lambda: len(of.state.store.replicas()),
        prefix_index_bytes=lambda: of.state.prefix.bytes_used,
        prefix_index_blocks=lambda: of.state.prefix.blocks,
        prefix_truth=lambda: of.state.prefix_accuracy.pods,
        client_connections=lambda: len(of.dataplane.listener.edges),
        waiting=lambda: admission.queued,
        phase=lambda: of.core.lifecycle.phase,
        cold=lambda: of.core.lifecycle.cold,
        phase_s=of.core.lifecycle.lasted_s,
        active=lambda: len(admission.active),
        state=of.state.store.health,
        pods_scraped=lambda: of.pods.scraper.pods_read_here,
        unseen=of.state.view.unseen_by_pool,
        clusters=of.network.routes.clusters,
        more=lambda: chain(
            families(of.policy.trials.readings(), of.policy.trial_monitor.rollbacks),
            tls_families(of.ports.tls),
            span_families(export.counts() if export is not None else {}),
            of.control.families(),
            kv_families(kv_events.counts() if kv_events is not None else {}),
            scale_families(of.state.view.pools(), of.state.view.statuses(), admission.backlogs(), of.core.clock()),
        ),
        policies=lambda: {pool: (each.name, each.generation) for pool, each in policies.records.items()},
        policy_digests=lambda: {pool: as_number(digest(each)) for pool, each in policies.records.items()},
        policies_out=lambda: [pool for pool in policies.records if policies.live(pool).taken_out],
        policies_alone=lambda: [pool for pool in policies.records if policies.live(pool).local],
        version=__version__,
        replica=of.core.name,
    )
