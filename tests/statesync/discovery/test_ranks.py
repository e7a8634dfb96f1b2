"""Pods that become targets by rank."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery.ranks import by_rank, is_first, process_of, rank_of, ranks_of, whole

POD = Pod(PodId("vllm-0.1a2b"), "10.0.0.1:8000", labels={"zone": "a"}, max_inflight=4, unready="terminating")


def test_each_rank_is_a_target_with_the_address_and_the_properties_of_its_pod() -> None:
    ranks = ranks_of(POD, 2)
    assert [rank.id for rank in ranks] == ["vllm-0.1a2b@0", "vllm-0.1a2b@1"]
    assert [dict(rank.labels) for rank in ranks] == [
        {"zone": "a", "dp_rank": "0", "dp_ranks": "2"},
        {"zone": "a", "dp_rank": "1", "dp_ranks": "2"},
    ]
    assert [rank._replace(id=POD.id, labels=POD.labels) for rank in ranks] == [POD, POD]


@pytest.mark.parametrize(("said", "count"), [("3", 3), ("1", 1), ("", 2), ("0", 2), ("x", 2), ("257", 2)])
def test_a_pod_may_say_how_many_it_has(said: str, count: int) -> None:
    pod = POD._replace(labels={"dp_ranks": said})
    assert len(ranks_of(pod, 2)) == count


def test_a_pod_with_one_rank_stays_as_it_is() -> None:
    assert ranks_of(POD, 1) == [POD]
    assert (rank_of(POD), is_first(POD), whole(POD), process_of(POD)) == (None, True, POD.id, [POD.id])


def test_a_rank_knows_its_pod_and_the_others_of_its_process() -> None:
    first, second = ranks_of(POD, 2)
    assert [rank_of(each) for each in (first, second)] == [0, 1]
    assert [is_first(each) for each in (first, second)] == [True, False]
    assert process_of(first) == process_of(second) == [first.id, second.id]
    assert whole(second) == POD.id


def test_discovery_reports_the_ranks_of_every_pod_and_without_ranks_the_pods() -> None:
    seen: list[Sequence[Pod]] = []
    other = POD._replace(id=PodId("b"), address="10.0.0.2:8000")
    by_rank(seen.append, 2)([POD, other])
    assert seen == [[*ranks_of(POD, 2), *ranks_of(other, 2)]]
    take = seen.append
    assert by_rank(take, 0) is take
