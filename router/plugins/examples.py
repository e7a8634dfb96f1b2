"""The input of a policy's check: requests and snapshots as a gateway makes them, the same in every check. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final, NamedTuple

from schedulers.entropy import index, mix
from schedulers.ttft import PACE_S
from schedulers.types import NO_SLO, Candidate, LoadSnapshot, Pod, PodId, PodLoad, RequestInfo, Slo

SIZES: Final = (1, 2, 3, 8, 100, 1000)
ROUNDS: Final = 6
"""Snapshots of each size."""


class Example(NamedTuple):
    """A request and the snapshot to pick from."""

    request: RequestInfo
    snapshot: LoadSnapshot

    def describe(self) -> str:
        """A description for messages."""
        tried = len(self.request.tried)
        count = len(self.snapshot.candidates)
        return f"{count} pod{'s' if count > 1 else ''}" + (f", {tried} of them tried" if tried else "")


def pod_ids(count: int) -> list[PodId]:
    """`count` ids, as discovery gives them."""
    return [PodId(f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}:8000") for at in range(count)]


def snapshot_of(loads: Sequence[PodLoad], ids: Sequence[PodId] = ()) -> LoadSnapshot:
    """Pods with these loads."""
    pairs = zip(ids or pod_ids(len(loads)), loads, strict=True)
    candidates = [
        Candidate(Pod(pod, str(pod), labels={"zone": f"z{at % 3}"}), load) for at, (pod, load) in enumerate(pairs)
    ]
    return LoadSnapshot.of(candidates, taken_at=100.0)


def idle(count: int) -> LoadSnapshot:
    """Pods that do not differ in load or labels."""
    return _unlabelled(snapshot_of([PodLoad()] * count))


def traffic(count: int, *, keyed: bool) -> Iterator[RequestInfo]:
    """Requests with random bits and a number of their own; each with its own session, if `keyed`."""
    for at in range(count):
        session = f"session-{at}" if keyed else ""
        yield RequestInfo(f"r{at}", "m", 1000, 256, 100.0, mix(7, at), at, session_key=session)


def examples() -> list[Example]:
    """Pools of one to a thousand pods, under all kinds of load, with no, one, most and all pods tried. New objects."""
    return [example_of(size, turn) for size in SIZES for turn in range(ROUNDS)]


def example_of(size: int, turn: int) -> Example:
    """The example with `size` pods; `turn` is from 0 up to `ROUNDS`."""
    snapshot = snapshot_of(_loads(size, turn))
    if turn % 2:  # as `without` and `only` leave it
        snapshot = snapshot._replace(positions=None, inflight=None)
    return Example(_request(size * ROUNDS + turn, snapshot, turn), snapshot)


def shuffled(snapshot: LoadSnapshot, seed: int) -> LoadSnapshot:
    """The same pods in another order."""
    order = sorted(range(len(snapshot.candidates)), key=lambda at: mix(seed, at))
    candidates = [snapshot.candidates[at] for at in order]
    ids, loads = [pod.id for pod, _ in candidates], [load for _, load in candidates]
    return _unlabelled(snapshot_of(loads, ids))


def _request(seed: int, snapshot: LoadSnapshot, turn: int) -> RequestInfo:
    ids = [pod.id for pod, _ in snapshot.candidates]
    tried = (0, 0, 1, len(ids) - 1, len(ids), 0)[turn]
    holders = ids[:: max(1, len(ids) // 4)] if turn in (1, 3) else []
    order = sorted(ids, key=lambda pod: mix(seed, hash_of(pod))) if tried else ids
    return RequestInfo(
        id=f"r{seed}",
        model="m",
        prompt_tokens=(17, 1000, 30_000)[seed % 3],
        max_tokens=(0, 256)[seed % 2],
        arrived_at=100.0 + turn / 7,
        entropy=mix(seed, 1),
        sequence=seed * 31,
        session_key=("", f"session-{seed}", "")[turn % 3],
        priority=(0, 0, 5)[turn % 3],
        deadline=None if turn % 2 else 160.0,
        prefix_hits={pod: 1 + at % 8 for at, pod in enumerate(holders)},
        tried=frozenset(order[:tried]),
        slo=(NO_SLO, Slo(2.0, 0.05), Slo(0.0, 0.1))[turn % 3],
    )


def hash_of(text: str) -> int:
    """A hash that is the same on every machine, unlike `hash`."""
    return int.from_bytes(text.encode()[-8:], "little")


@cache
def _loads(size: int, turn: int) -> tuple[PodLoad, ...]:
    """Cached, as they are immutable: to make them for each question took a tenth of a check."""
    return tuple([_load(mix(size * 7 + turn, at)) for at in range(size)])


def _load(rng: int) -> PodLoad:
    inflight, tokens = index(rng, 6, 1), index(rng, 5, 2) * 1500
    work = (0, 64, 4000)[index(rng, 3, 3)] if inflight else 0
    return PodLoad(
        queued=index(rng, 3, 4),
        running=inflight,
        kv_usage=index(rng, 101, 5) / 100,
        inflight=inflight,
        inflight_tokens=tokens if inflight else 0,
        pending_prefill_tokens=work,
        ttft_ewma_s=index(rng, 20, 6) / 10,
        reported_at=99.5,
        prefilling=min(inflight, 1) if work else 0,
        prefill_work=work,
        head_since=99.0,
        pace_s=(PACE_S, 2 * PACE_S)[index(rng, 2, 7)],
        kv_capacity_tokens=(0, 400_000)[index(rng, 2, 8)],
        e2e_ewma_s=index(rng, 10, 9) / 2,
        promised=((), ((0.05, 2.0), (0.25, 0.5)))[index(rng, 2, 10)] if inflight else (),
    )


def _unlabelled(snapshot: LoadSnapshot) -> LoadSnapshot:
    candidates = tuple([Candidate(pod._replace(labels={}), load) for pod, load in snapshot.candidates])
    return snapshot._replace(candidates=candidates)
