"""Which engines are pods of the pool: from the first time they are ready until they are gone."""

from __future__ import annotations

from schedulers.types import Pod, PodId
from statesync.discovery.kubernetes.eligible import EligiblePods
from statesync.discovery.kubernetes.pod_objects import ObservedPod


def seen(uid: str, unready: str = "", incarnation: str = "1", note: str = "", rank: int = 0) -> ObservedPod:
    return ObservedPod(uid, Pod(PodId(uid), f"{uid}-{rank}:80", unready=unready), note, incarnation, rank)


def listed(eligible: EligiblePods, *engines: ObservedPod) -> list[tuple[str, str]]:
    return [(pod.id, pod.unready) for pod in eligible.listing(engines).pods]


def test_an_engine_is_a_pod_once_it_was_ready_and_stays_one_until_it_is_gone() -> None:
    eligible = EligiblePods()
    assert listed(eligible, seen("a", "not_ready")) == []
    assert listed(eligible, seen("a")) == [("a", "")]
    assert listed(eligible, seen("a", "not_ready")) == [("a", "not_ready")]
    assert listed(eligible, seen("a", "terminating")) == [("a", "terminating")]
    assert listed(eligible) == []
    assert listed(eligible, seen("a", "not_ready")) == []


def test_an_engine_with_new_containers_starts_over() -> None:
    eligible = EligiblePods()
    listed(eligible, seen("a", incarnation="1"))
    assert listed(eligible, seen("a", "not_ready", "2")) == []
    assert listed(eligible, seen("a", "", "2")) == [("a", "")]


def test_an_engine_that_is_no_longer_routable_is_not_a_pod() -> None:
    eligible = EligiblePods()
    listed(eligible, seen("a"))
    assert listed(eligible, ObservedPod("a", None)) == []


def test_pods_are_reported_in_the_same_order_after_any_change() -> None:
    assert listed(EligiblePods(), seen("b"), seen("a")) == listed(EligiblePods(), seen("a"), seen("b"))


def test_of_two_objects_of_one_engine_the_lower_rank_counts_then_the_later() -> None:
    assert listed(EligiblePods(), seen("a"), seen("a", "terminating")) == []
    assert listed(EligiblePods(), seen("a", "terminating"), seen("a")) == [("a", "")]
    (pod,) = EligiblePods().listing([seen("a"), seen("a", rank=1)]).pods
    assert pod.address == "a-0:80"
    (pod,) = EligiblePods().listing([seen("a", rank=1), seen("a")]).pods
    assert pod.address == "a-0:80"


def test_a_note_is_reported_once_while_it_holds() -> None:
    eligible = EligiblePods()
    assert eligible.listing([seen("a", note="no port")]).notes == ("no port",)
    assert eligible.listing([seen("a", note="no port")]).notes == ()
    assert eligible.listing([seen("a")]).notes == ()
    assert eligible.listing([seen("a", note="no port")]).notes == ("no port",)


def test_case_c11_of_two_pods_under_one_name_the_one_that_terminates_is_left_out() -> None:
    old, new = seen("1", "terminating"), seen("2")
    old, new = (each._replace(pod=each.pod and each.pod._replace(id=PodId("agent-0.llm"))) for each in (old, new))
    eligible = EligiblePods()
    listed(eligible, old._replace(pod=old.pod and old.pod._replace(unready="")))
    assert listed(eligible, old) == [("agent-0.llm", "terminating")]
    assert listed(eligible, old, new) == listed(eligible, new, old) == [("agent-0.llm", "")]
