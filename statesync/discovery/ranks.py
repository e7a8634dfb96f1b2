"""Data-parallel ranks: one pod of discovery becomes a target for each rank of its engine. Pure.

The ranks of a pod share its address and its process. Each has a batch, a queue and a KV cache of its own, and gets the
requests whose header `x-data-parallel-rank` names it. A rank is a `Pod` whose id ends in `@` and its number, with the
labels `dp_rank` and `dp_ranks`. What a process does once, such as answering probes, is done for its first rank and
counts for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from schedulers.types import Pod, PodId
from statesync.discovery.source import OnPods

RANK: Final = "dp_rank"
"""Label of a rank: its number, from 0."""

RANKS: Final = "dp_ranks"
"""Label of a pod that says how many ranks it has, in place of its pool."""

HEADER: Final = "x-data-parallel-rank"
"""Names the rank of a request: vLLM and SGLang read it."""

MOST: Final = 256
"""Ranks of a pod."""


def by_rank(on_pods: OnPods, ranks: int) -> OnPods:
    """Calls `on_pods` with the ranks of the pods of a pool whose pods have `ranks` each; at 0 with the pods."""
    return partial(_expand, on_pods, ranks) if ranks else on_pods


def _expand(on_pods: OnPods, ranks: int, pods: Sequence[Pod]) -> None:
    on_pods([each for pod in pods for each in ranks_of(pod, ranks)])


def ranks_of(pod: Pod, ranks: int) -> list[Pod]:
    """A target for each rank of the pod: as many as its label says, else `ranks`; a single one is the pod itself."""
    own = pod.labels.get(RANKS, "")
    count = int(own) if own.isdecimal() and 0 < int(own) <= MOST else ranks
    if count < 2:
        return [pod]
    labels = {**pod.labels, RANKS: f"{count}"}
    return [
        pod._replace(id=PodId(f"{pod.id}@{rank}"), labels=MappingProxyType({**labels, RANK: f"{rank}"}))
        for rank in range(count)
    ]


def rank_of(pod: Pod) -> int | None:
    """The number of the rank; None for a pod that is a whole engine."""
    rank = pod.labels.get(RANK)
    return None if rank is None else int(rank)


def is_first(pod: Pod) -> bool:
    """Whether the pod is a whole engine, or the first rank of one."""
    return pod.labels.get(RANK, "0") == "0"


def whole(pod: Pod) -> str:
    """The id of the pod that this is a rank of; its own id for a whole engine."""
    rank = pod.labels.get(RANK)
    return pod.id if rank is None else pod.id.removesuffix(f"@{rank}")


def process_of(pod: Pod) -> list[PodId]:
    """The ids of all ranks of the pod's process, in order; its own id for a whole engine."""
    if RANK not in pod.labels:
        return [pod.id]
    base = whole(pod)
    return [PodId(f"{base}@{rank}") for rank in range(int(pod.labels[RANKS]))]
