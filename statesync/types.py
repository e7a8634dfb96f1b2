"""The values statesync keeps and hands out. Frozen, except `Charge`, which remembers whether it was given back."""

from __future__ import annotations

from typing import NamedTuple

from schedulers.types import Pod, PodLoad


class EngineReport(NamedTuple):
    """One reading of an engine's /metrics. None where the engine does not say."""

    queued: int | None = None
    running: int | None = None
    kv_usage: float | None = None
    kv_capacity_tokens: int | None = None
    """Tokens the KV cache holds (blocks x block size), offload tier included where reported."""
    prefix_queries_tokens: int | None = None
    """Counter: prompt tokens looked up in the prefix cache since the engine started."""
    prefix_hits_tokens: int | None = None
    """Counter: of those, found."""
    started_at: float | None = None
    """The engine process's own start stamp, to tell a restart; never compared with our clocks."""


class PodStatus(NamedTuple):
    """A pod as the control API shows it."""

    pod: Pod
    pool: str
    load: PodLoad
    routable: bool
    blockers: tuple[str, ...]
    """Why it is not routable: `probe`, `ejected`, `draining`, `not_ready`, ..."""


class InflightNumbers(NamedTuple):
    """What one replica has in flight on one pod. Absolute numbers, never increments."""

    requests: int = 0
    tokens: int = 0
    prefill_tokens: int = 0
