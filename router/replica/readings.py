"""What a replica shows of itself: the readings behind its metrics, and the control plane. Part of the composition root,
apart so that both can be read; nothing is decided here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from router import __version__
from router.control.plane import ControlPlane
from router.telemetry.collector import Readings
from router.telemetry.exposition import Exposition
from router.telemetry.trials import families

if TYPE_CHECKING:
    from router.replica.replica import Replica


def control_plane(of: Replica) -> ControlPlane:
    """All that the control port of this replica reads or calls."""
    exposition = Exposition(of.metrics, readings(of))
    return ControlPlane(
        settings=of.settings,
        view=of.view,
        store=of.store,
        policies=of.policies,
        lifecycle=of.lifecycle,
        render_metrics=exposition.render,
        connections=lambda: len(of.listener.edges),
        active=lambda: len(of.gateway.deps.admission.active),
        pods_scraped=lambda: of.scraper.pods_read_here,
        waits_for=of.warmup.waits_for,
        drain=lambda: of.asked_to_drain(),
        clock=of.clock,
        started_at=time.time(),
        trial=of.trials.report,
        plugins=of.plugins.shown,
        replica=of.name,
        version=__version__,
    )


def readings(of: Replica) -> Readings:
    """What is asked of this replica when it is scraped."""
    return Readings(
        pods=of.view.statuses,
        view_age_s=of.store.age_s,
        replicas=lambda: len(of.store.replicas()),
        prefix_index_bytes=lambda: of.prefix.bytes_used,
        prefix_index_blocks=lambda: of.prefix.blocks,
        prefix_truth=lambda: of.prefix_accuracy.pods,
        client_connections=lambda: len(of.listener.edges),
        waiting=lambda: of.gateway.deps.admission.queued,
        phase=lambda: of.lifecycle.phase,
        cold=lambda: of.lifecycle.cold,
        phase_s=of.lifecycle.lasted_s,
        active=lambda: len(of.gateway.deps.admission.active),
        state=of.store.health,
        pods_scraped=lambda: of.scraper.pods_read_here,
        unseen=of.view.unseen_by_pool,
        clusters=of.routes.clusters,
        trials=lambda: families(of.trials.readings(), of.trials.taken_back),
        policies=lambda: {pool: (each.name, each.generation) for pool, each in of.policies.records.items()},
        policies_out=lambda: [pool for pool in of.policies.records if of.policies.live(pool).taken_out],
        policies_alone=lambda: [pool for pool in of.policies.records if of.policies.live(pool).local],
        version=__version__,
        replica=of.name,
    )
