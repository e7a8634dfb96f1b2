"""The change between two sets of pods: whole, and in steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of, in_steps, replaced


def pod(number: int, limit: int | None = None) -> Pod:
    return Pod(PodId(f"p{number}"), f"10.0.0.{number}:80", max_inflight=limit)


def applied(here: dict[PodId, Pod], change: PodChange) -> dict[PodId, Pod]:
    after = {id: about for id, about in here.items() if id not in change.gone}
    return after | {each.id: each for each in change.come}


def test_a_change_has_new_updated_and_removed_pods() -> None:
    now = {each.id: each for each in (pod(1), pod(2), pod(3))}
    change = change_of(now, [pod(1), pod(2, limit=8), pod(4)])
    assert change == PodChange((pod(2, limit=8), pod(4)), (pod(3).id,))


def test_the_same_pods_in_another_order_are_no_change() -> None:
    now = {each.id: each for each in (pod(1), pod(2))}
    assert change_of(now, [pod(2), pod(1)]) == PodChange()


def test_no_change_is_one_step() -> None:
    assert list(in_steps(PodChange(), 5)) == [PodChange()]


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(1, 9))
def test_every_step_changes_no_more_than_it_may_and_the_last_arrives(
    now: set[int], wanted: set[int], most: int
) -> None:
    here = {pod(number).id: pod(number) for number in now}
    there = {pod(number).id: pod(number, limit=number % 2) for number in wanted}
    for step in in_steps(change_of(here, there.values()), most):
        assert len(step.come) + len(step.gone) <= most
        here = applied(here, step)
        assert here or not there, "no pool runs empty on the way"
    assert here == there


def test_a_pod_that_is_another_process_under_the_same_id_goes_before_it_comes() -> None:
    old, new = (pod(1)._replace(labels={"uid": uid}) for uid in ("1a", "2b"))
    now = {old.id: old, pod(2).id: pod(2)}
    assert replaced(now, change_of(now, [new, pod(2)])).gone == (old.id,)
    assert replaced(now, change_of(now, [old._replace(unready="not_ready"), pod(2), pod(3)])).gone == ()
