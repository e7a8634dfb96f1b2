"""Example requests and pools for checks: the same each time, of every size, and complete."""

from __future__ import annotations

from router.plugins.examples import SIZES, examples, idle, shuffled, traffic


def test_examples_are_equal_each_time_and_share_no_mutable_value() -> None:
    first, second = examples(), examples()
    assert first == second
    assert all(a.request.prefix_hits is not b.request.prefix_hits for a, b in zip(first, second, strict=True))


def test_there_are_pools_of_every_size_with_none_some_and_all_pods_tried() -> None:
    made = examples()
    assert {len(example.snapshot.candidates) for example in made} == set(SIZES)
    for size in (2, 8, 1000):
        tried = {len(each.request.tried) for each in made if len(each.snapshot.candidates) == size}
        assert tried == {0, 1, size - 1, size}


def test_every_other_snapshot_has_the_form_it_has_on_a_retry() -> None:
    made = examples()
    for whole, cut in zip(made[::2], made[1::2], strict=True):
        assert whole.snapshot.positions == whole.snapshot._replace(positions=None).position_of()
        assert whole.snapshot.inflight == whole.snapshot._replace(inflight=None).total_inflight()
        assert (cut.snapshot.positions, cut.snapshot.inflight) == (None, None)


def test_a_description_has_the_number_of_pods_and_of_tried_pods() -> None:
    assert [each.describe() for each in examples()[6:11]] == [
        "2 pods",
        "2 pods",
        "2 pods, 1 of them tried",
        "2 pods, 1 of them tried",
        "2 pods, 2 of them tried",
    ]


def test_a_shuffled_pool_has_the_same_pods_in_another_order() -> None:
    pool = idle(8)
    other = shuffled(pool, 1)
    assert other.candidates != pool.candidates
    assert sorted(other.candidates, key=lambda each: each.pod.id) == sorted(
        pool.candidates, key=lambda each: each.pod.id
    )


def test_traffic_has_random_bits_of_its_own_for_each_request() -> None:
    assert len({request.entropy for request in traffic(100, keyed=False)}) == 100
    assert len({request.session_key for request in traffic(100, keyed=True)}) == 100
