"""The values of statesync. All are frozen except `Charge`, which records what has been given back."""

from __future__ import annotations

from typing import Final, NamedTuple

from schedulers.types import Adapters, Pod, PodId, PodLoad

LEARNED: Final = 0
"""`Pod.max_inflight` of a pod whose limit is learned from its engine's reports."""


class EngineReport(NamedTuple):
    """One reading of an engine's /metrics; None for what the engine does not report."""

    queued: int | None = None
    running: int | None = None
    kv_usage: float | None = None
    kv_capacity_tokens: int | None = None
    """Tokens the KV cache holds (blocks x block size), with an offload tier if it is reported."""
    prefix_queries_tokens: int | None = None
    """Counter: prompt tokens looked up in the prefix cache since the engine started."""
    prefix_hits_tokens: int | None = None
    """Counter: of those, found."""
    started_at: float | None = None
    """The engine's own start time, to detect a restart; never compared with this process's clocks."""
    adapters: Adapters | None = None
    """LoRA adapters in use; None also if the engine serves none."""


class PodStatus(NamedTuple):
    """A pod as the control API shows it."""

    pod: Pod
    pool: str
    load: PodLoad
    routable: bool
    blockers: tuple[str, ...]
    """Why it is not routable: `probe`, `ejected`, `draining`, `not_ready`, ..."""
    own_inflight: int = 0
    """This replica's part of `load.inflight`."""
    kept: tuple[str, ...] = ()
    """Why health would take it out, if its pool had pods to spare: `probe`, `ejected`. It is routable all the same."""
    expected_ttft_s: float = 0.0
    """What was expected of the times to first token in `load.ttft_ewma_s`: a moving average like it."""
    ttft_error: float = 0.0
    """By how much of the found time that was wrong, likewise."""
    limit: int | None = None
    """Most requests in flight at a time, as configured or learned; None is no limit."""

    def well(self) -> bool:
        """Whether it may be picked and is expected to answer."""
        return self.routable and not self.kept


class KnownPod(NamedTuple):
    """What a replica knows of a pod, for replicas that start."""

    well: bool | None = None
    """What its probes say; None before the first."""
    models: bytes | None = None
    """Its list of models as a page; empty for a pod that has none, None before the first reading."""


class InflightNumbers(NamedTuple):
    """One replica's requests in flight on one pod. Absolute numbers, never increments."""

    requests: int = 0
    tokens: int = 0
    prefill_tokens: int = 0
    dispatched: int = 0
    """Counter: requests it ever sent to the pod. Its growth is the replica's dispatch rate; it is no part of the
    load."""
    prefilling: int = 0
    """Requests whose first token has not come back yet."""
    prefill_work: int = 0
    """Their prefill work, in token equivalents."""


class PrefixPage(NamedTuple):
    """A run of the blocks that one pod is expected to hold, oldest first: a part of a checkpoint."""

    pod: PodId
    hashes: bytes
    """Chained block hashes, 8 bytes each, little-endian."""
    sizes: bytes
    """One byte a block: log2 of its size in base blocks."""
