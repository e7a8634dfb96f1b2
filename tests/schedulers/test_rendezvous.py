from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from schedulers.rendezvous import descending, hash32, order, rank, ranking
from tests.fakes.scheduler_inputs import idle, pod_ids, unhurried

PROGRAM = "from schedulers.rendezvous import hash32; print([hash32(text) for text in ('session-7', '10.0.0.1:8000')])"


def test_a_hash_is_the_same_in_every_process() -> None:
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == repr([hash32("session-7"), hash32("10.0.0.1:8000")])


@unhurried
@given(st.integers(1, 40), st.text(min_size=1, max_size=5))
def test_one_long_multiplication_gives_the_ranks_of_one_pod_at_a_time(count: int, session: str) -> None:
    ranks = ranking(session, idle(count))
    expected = [hash32(pod) * (hash32(session) | 1) % 2**32 for pod in pod_ids(count)]
    assert [rank(ranks, at) for at in range(count)] == expected


@unhurried
@given(st.sampled_from([1, 2, 63, 64, 65, 300]), st.text(min_size=1, max_size=5))
def test_positions_come_by_descending_rank_each_once(count: int, session: str) -> None:
    ranks = ranking(session, idle(count))
    assert list(descending(ranks)) == sorted(range(count), key=lambda at: rank(ranks, at), reverse=True)


def test_snapshots_with_different_positions_of_one_generation_get_different_orders() -> None:
    few, many = idle(3), idle(90)
    assert few.generation == many.generation
    orders = [next(descending(ranking("s", snapshot))) for snapshot in (many, few, many, few._replace(positions=None))]
    assert orders[1] == orders[3] < 3
    assert orders[0] == orders[2]
    assert len(ranking("s", many)) == 30 * len(ranking("s", few))


def test_more_pools_than_the_cache_holds_keep_their_own_order() -> None:
    pools = [idle(count) for count in range(1, 200)]
    first = [list(islice(descending(ranking("s", pool)), 3)) for pool in pools]
    assert [list(islice(descending(ranking("s", pool)), 3)) for pool in pools] == first


def test_the_order_of_a_list_of_pods_is_that_of_a_snapshot_of_them() -> None:
    for count in (1, 5, 90):
        assert list(order("s", pod_ids(count))) == list(descending(ranking("s", idle(count))))
    assert list(order("s", [])) == []
