"""Which pods are priced: all of a small pool with a current view, few of a large one, fewer the older the view is."""

from __future__ import annotations

from collections import Counter

import pytest

from schedulers.entropy import mix
from schedulers.soonest import DRAWN, FEWEST, HOLDERS, soonest
from schedulers.types import LoadSnapshot, PodLoad
from tests.fakes.chance import five_deviations
from tests.fakes.scheduler_inputs import idle, ids_of, pod_ids, request_of, snapshot_of

A = pod_ids(1)[0]


def distinct(pods: int, unseen: float) -> LoadSnapshot:
    """Pods of which each is busier than the one before."""
    loads = [PodLoad(inflight=1, prefilling=1, prefill_work=1000 * (at + 1)) for at in range(pods)]
    return snapshot_of(loads)._replace(unseen=unseen)


@pytest.mark.parametrize(("unseen", "drawn"), [(0.0, 16.0), (0.05, 3 + 13 * 0.25 / 0.3), (1e9, 3.0)])
def test_the_older_the_view_the_fewer_requests_go_to_the_best_pod(unseen: float, drawn: float) -> None:
    snapshot = distinct(16, unseen)
    best = [soonest(request_of(entropy=mix(3, at)), snapshot).pod == A for at in range(1000)]
    assert abs(sum(best) - 1000 * drawn / 16) <= five_deviations(1000, drawn / 16)


def test_three_are_drawn_and_the_pod_with_the_longest_prefix_is_always_priced() -> None:
    snapshot = distinct(16, 1e9)
    share = Counter(soonest(request_of(entropy=mix(4, at)), snapshot).pod for at in range(6000))
    assert set(share) == set(ids_of(snapshot)[: 16 - FEWEST + 1])  # the busiest is never the best of three
    hits = {ids_of(snapshot)[-1]: 15}
    costly = request_of(prompt_tokens=100_000, prefix_hits=dict.fromkeys(hits, 1500))
    assert {soonest(costly._replace(entropy=mix(5, at)), snapshot).pod for at in range(200)} == set(hits)


def test_of_a_large_pool_the_least_busy_and_the_best_holders_are_priced() -> None:
    pods = pod_ids(1000)
    snapshot = distinct(1000, 0.0)
    assert {soonest(request_of(entropy=mix(6, at)), snapshot).pod for at in range(50)} == {A}
    hits = {pod: 1500 + at % 2 for at, pod in enumerate(pods[-2 * HOLDERS :])}
    request = request_of(prompt_tokens=1_000_000, prefix_hits={**hits, pods[-1]: 15_000})
    assert {soonest(request._replace(entropy=mix(6, at)), snapshot).pod for at in range(50)} == {pods[-1]}


def test_of_a_large_pool_where_all_hold_the_same_every_idle_pod_gets_its_share() -> None:
    snapshot = idle(100)
    request = request_of(prefix_hits=dict.fromkeys(ids_of(snapshot), 7))
    share = Counter(soonest(request._replace(entropy=mix(8, at)), snapshot).pod for at in range(5000))
    assert len(share) == 100
    assert max(share.values()) < 50 + five_deviations(5000, 1 / 100)
    assert DRAWN < 100
