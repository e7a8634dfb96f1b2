"""Readings of a small, fixed gateway, for tests of code that shows them."""

from __future__ import annotations

from router.lifecycle import Phase
from router.telemetry.collector import Readings
from schedulers.types import Pod, PodId, PodLoad
from statesync.store.protocol import StoreHealth
from statesync.types import PodStatus


def pods(count: int, *, pool: str = "default") -> list[PodStatus]:
    """`count` pods, each with a different load."""
    return [
        PodStatus(
            Pod(PodId(f"10.0.{at // 256}.{at % 256}:8000"), f"10.0.{at // 256}.{at % 256}:8000"),
            pool,
            PodLoad(queued=at, running=2 * at, kv_usage=0.25, inflight=at + 1, inflight_tokens=2_000_000 + at),
            at % 2 == 0,
            () if at % 2 == 0 else ("probe",),
        )
        for at in range(count)
    ]


def readings(count: int) -> Readings:
    """The readings of a ready replica with `count` pods."""
    statuses = pods(count)
    return Readings(
        pods=lambda: statuses,
        view_age_s=lambda: 0.5,
        replicas=lambda: 2,
        prefix_index_bytes=lambda: 4096,
        prefix_index_blocks=lambda: 64,
        prefix_truth=dict,
        client_connections=lambda: 7,
        waiting=lambda: 2,
        phase=lambda: Phase.READY,
        cold=lambda: False,
        phase_s=lambda: {Phase.STARTING: 0.5, Phase.READY: 60.0},
        active=lambda: 3,
        state=lambda: StoreHealth(round_trips=500, bytes_sent=7_000_000, lease_losses=1, error="x"),
        pods_scraped=lambda: 4,
        unseen=lambda: {"default": 1.5},
        policies=lambda: {"default": ("p2c", 3)},
        policy_digests=lambda: {"default": 271828182845904},
        version="1.2.3",
        replica="r-1",
    )
