"""Requests by cluster add up to the requests by pool."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.counts import by_cluster
from router.telemetry.metrics import Metrics

CLUSTERS = {"near": "east", "next": "east", "far": "west", "plain": ""}


def test_pools_of_a_cluster_are_summed_by_class_of_status() -> None:
    metrics = Metrics()
    for pool, status in (("near", 200), ("next", 201), ("near", 503), ("far", 200), ("plain", 200), ("-", 404)):
        metrics.count_request(pool, "p2c", "pod", status)
    assert by_cluster(metrics, CLUSTERS) == {
        ("east", "2xx"): 2,
        ("east", "5xx"): 1,
        ("west", "2xx"): 1,
        ("-", "2xx"): 1,
        ("-", "4xx"): 1,
    }


@given(
    st.lists(
        st.tuples(st.sampled_from([*CLUSTERS, "-"]), st.sampled_from("abc"), st.sampled_from([200, 404, 499, 503]))
        | st.sampled_from("abc")
    )
)
def test_the_sums_only_grow_and_lose_nothing_when_pods_leave(history: list[tuple[str, str, int] | str]) -> None:
    metrics = Metrics()
    counted = 0
    before: Counter[tuple[str, str]] = Counter()
    for step in history:
        if isinstance(step, str):
            metrics.forget_pods([step])
        else:
            pool, pod, status = step
            metrics.count_request(pool, "p2c", pod, status)
            counted += 1
        now = Counter(by_cluster(metrics, CLUSTERS))
        assert now >= before
        assert now.total() == counted
        before = now
