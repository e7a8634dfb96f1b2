"""`pick()` of every policy by the number of pods, with and without prefix hits and tried pods."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from loadtests.bench.micro.pools import POD_COUNTS, POOL, in_turn, pod_ids, request, view
from schedulers import registry
from schedulers.hits import PrefixHits, levels
from schedulers.types import Decision, PodId

REQUESTS = 64
BLOCKS = 60
"""Of a prompt of 3,840 tokens."""

PLAIN, TRIED = "", "one tried"
HITS = {"few hits": 3, "all pods hit alike": 1000, "all pods hit differently": 1000}
CASES = [(policy, case) for policy in registry.names() for case in (PLAIN, TRIED)]
CASES += [("prefix_aware", case) for case in HITS]


def hits(case: str, pods: int, rng: random.Random) -> Mapping[PodId, int]:
    """Which pods hold how much of a prompt: a system prompt that all hold, or the hardest case to weigh."""
    holders = rng.sample(pod_ids(pods), min(pods, HITS.get(case, 0)))
    held = {pod: BLOCKS // 2 if case.endswith("alike") else rng.randrange(1, BLOCKS) for pod in holders}
    return PrefixHits(held, levels(held.items()))  # as the index hands them out


def group(case: str) -> str:
    """The plot it belongs to."""
    return "pick, hits" if case in HITS else "pick, retry" if case == TRIED else "pick"


@pytest.mark.parametrize("pods", POD_COUNTS)
@pytest.mark.parametrize(("policy", "case"), CASES)
def bench_pick(benchmark: BenchmarkFixture, policy: str, case: str, pods: int) -> None:
    """One decision on a snapshot that is there already."""
    benchmark.group = group(case)
    benchmark.extra_info.update(series=case if case in HITS else policy, size=pods)
    pick = registry.create(policy).pick
    snapshot = view(pods).snapshot(POOL)
    rng = random.Random(pods)
    tried = frozenset(pod_ids(pods)[:1]) if case == TRIED else frozenset()
    following = in_turn(
        [
            request(number, prompt_tokens=BLOCKS * 64, hits=hits(case, pods, rng), tried=tried)
            for number in range(REQUESTS)
        ]
    )
    answer = benchmark(lambda: pick(following(), snapshot))
    assert isinstance(answer, Decision)
