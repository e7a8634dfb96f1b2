"""Snapshots and requests for the schedulers' tests: hypothesis strategies, and short makers for fixed examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product

from hypothesis import strategies as st

from schedulers.ttft import PACE_S
from schedulers.types import (
    PREFIX_BLOCK_TOKENS,
    Candidate,
    LoadSnapshot,
    Pod,
    PodId,
    PodLoad,
    RequestInfo,
)
from schedulers.weighing import Weighed
from tests.fakes.examples import examples

unhurried = examples(60)
"""For every property."""


BITS = st.integers(min_value=0, max_value=2**64 - 1)


def pod_ids(count: int) -> list[PodId]:
    """`count` different ids in the form that discovery gives them."""
    return [PodId(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}:8000") for at in range(count)]


def snapshot_of(loads: Mapping[PodId, PodLoad] | Sequence[PodLoad]) -> LoadSnapshot:
    """A snapshot with these loads in this order."""
    named = loads if isinstance(loads, Mapping) else dict(zip(pod_ids(len(loads)), loads, strict=True))
    return LoadSnapshot.of([Candidate(Pod(pod, pod, labels={}), load) for pod, load in named.items()])


def idle(count: int) -> LoadSnapshot:
    """`count` pods with equal load."""
    return snapshot_of([PodLoad()] * count)


def weighed(scores: Sequence[float]) -> Weighed:
    """The scores of one scorer alone."""
    alone = Weighed(len(scores))
    alone.add(1.0, list(scores))
    return alone


def ids_of(snapshot: LoadSnapshot) -> list[PodId]:
    """The ids of a snapshot's pods, in its order."""
    return [pod.id for pod, _ in snapshot.candidates]


def request_of(
    *,
    prompt_tokens: int = 1000,
    entropy: int = 0,
    sequence: int = 0,
    session_key: str = "",
    prefix_hits: Mapping[PodId, int] | None = None,
    tried: frozenset[PodId] = frozenset(),
) -> RequestInfo:
    """A request with defaults for all fields that a test does not need."""
    return RequestInfo(
        id="r",
        model="m",
        prompt_tokens=prompt_tokens,
        max_tokens=0,
        arrived_at=0.0,
        entropy=entropy,
        sequence=sequence,
        session_key=session_key,
        prefix_hits={} if prefix_hits is None else prefix_hits,
        tried=tried,
    )


LOADS = [
    PodLoad(queued, 1, 0.5, inflight, tokens, work, 0.25, 7.0, min(work, inflight), work if inflight else 0, 1.5, pace)
    for queued, inflight, tokens, work, pace in product((0, 1), (0, 1, 4), (0, 5000), (0, 1, 64, 4000), (PACE_S, 1e-4))
]
"""Few distinct values, so that equal pods and exact ties are common. One draw a pod keeps hypothesis quick."""


ANY_LOAD = st.sampled_from(LOADS)


@cache
def _pool_states(count: int) -> st.SearchStrategy[tuple[list[PodId], list[PodLoad]]]:
    """`count` pods in any order, each with a load; cached, because hypothesis inspects each new strategy."""
    return st.tuples(st.permutations(pod_ids(count)), st.lists(ANY_LOAD, min_size=count, max_size=count))


@st.composite
def snapshots(draw: st.DrawFn, max_pods: int = 12) -> LoadSnapshot:
    """One to `max_pods` pods in any order, with or without the optional columns."""
    order, given = draw(_pool_states(draw(st.integers(1, max_pods))))
    snapshot = snapshot_of(dict(zip(order, given, strict=True)))
    return snapshot if draw(st.booleans()) else snapshot._replace(positions=None, inflight=None)


@cache
def _hits(known: tuple[PodId, ...], most: int) -> st.SearchStrategy[dict[PodId, int]]:
    """Up to `most` blocks on all of these pods, or on some."""
    blocks = st.integers(1, most)
    return st.fixed_dictionaries(dict.fromkeys(known, blocks)) | st.dictionaries(st.sampled_from(known), blocks)


@cache
def _tried(known: tuple[PodId, ...]) -> st.SearchStrategy[frozenset[PodId]]:
    """None of these pods, one, or any subset."""
    return st.frozensets(st.sampled_from(known), max_size=1) | st.frozensets(st.sampled_from(known))


@st.composite
def requests(draw: st.DrawFn, snapshot: LoadSnapshot) -> RequestInfo:
    """Any request: hits on none, some or all pods and on pods that have left; none, some or all pods tried."""
    known = (*sorted(ids_of(snapshot)), PodId("gone:1"))
    prompt_blocks = draw(st.integers(0, 6))
    return request_of(
        prompt_tokens=draw(st.integers(1, PREFIX_BLOCK_TOKENS)) + PREFIX_BLOCK_TOKENS * prompt_blocks,
        entropy=draw(BITS),
        sequence=draw(st.integers(0, 2**40)),
        session_key=draw(st.sampled_from(["", "a", "session-7", "\udcff"])),
        prefix_hits=draw(_hits(known, prompt_blocks + 1)),
        tried=draw(_tried(known)),
    )


@st.composite
def cases(draw: st.DrawFn, max_pods: int = 12) -> tuple[RequestInfo, LoadSnapshot]:
    """A request and a snapshot."""
    snapshot = draw(snapshots(max_pods))
    return draw(requests(snapshot)), snapshot
