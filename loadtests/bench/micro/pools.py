"""Pools and requests to measure with: any number of pods, loads and random numbers from a fixed seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.view import LoadView
from statesync.types import EngineReport

T = TypeVar("T")

POOL = "default"
POD_COUNTS = (10, 100, 1000)


def pod_ids(count: int) -> list[PodId]:
    """Addresses, as without Kubernetes."""
    return [PodId(f"10.0.{at // 250}.{at % 250 + 1}:8000") for at in range(count)]


def view(pods: int) -> LoadView:
    """A pool under load: every pod has 0 to 7 requests in flight of up to 4,000 tokens, and reported."""
    clock = itertools.count(1000.0, 1e-5).__next__
    made = LoadView(clock)
    made.set_pods(POOL, [Pod(pod, pod) for pod in pod_ids(pods)])
    rng = random.Random(pods)
    for pod in pod_ids(pods):
        for number in range(rng.randrange(8)):
            made.reserve(pod, request(number, prompt_tokens=rng.randrange(1, 4000)))
    for pod in pod_ids(pods):
        made.report(pod, EngineReport(queued=rng.randrange(4), running=4, kv_usage=rng.random()))
    made.snapshot(POOL)
    return made


def request(
    number: int,
    *,
    prompt_tokens: int = 300,
    hits: Mapping[PodId, int] | None = None,
    tried: frozenset[PodId] = frozenset(),
) -> RequestInfo:
    """A request with its own random bits and session."""
    return RequestInfo(
        id=f"{number:08x}",
        model="m",
        prompt_tokens=prompt_tokens,
        max_tokens=256,
        arrived_at=1000.0,
        entropy=random.Random(number).getrandbits(64),
        sequence=number,
        session_key=f"session-{number}",
        prefix_hits={} if hits is None else hits,
        tried=tried,
    )


def in_turn(values: Sequence[T]) -> Callable[[], T]:
    """The values in an endless cycle: repeating one request could favour a policy by chance."""
    return itertools.cycle(values).__next__
