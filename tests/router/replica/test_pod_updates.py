"""Pods that fail, restart and report, here and on other replicas: every component with state about them follows."""

from __future__ import annotations

import logging

import pytest

from router.replica.pod_updates import KEPT_LOGGED
from schedulers.types import PodId
from statesync.discovery.ranks import ranks_of
from statesync.engines.health import HealthTracker, Outcome
from statesync.engines.model_list import ModelCard
from statesync.prefix.index import REACH
from statesync.settings import Health
from statesync.types import EngineReport
from tests.fakes.pod_parts import A, B, C, PodFixture, pod
from tests.fakes.whole_pools import set_ids


@pytest.mark.parametrize("blocked", [True, False])
def test_a_health_change_of_a_pod_that_left_is_ignored(blocked: bool) -> None:
    pods = PodFixture()
    pods.updates.on_health(A.id, "probe", blocked)
    assert pods.metrics.ejections == {}


def test_a_report_reaches_the_view_and_sets_the_capacity() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A])
    pods.updates.on_report(A.id, EngineReport(queued=3, running=4, kv_capacity_tokens=640), 2.5)
    load = pods.view.status(A.id).load
    assert (load.queued, load.running, load.reported_at) == (3, 4, 97.5)
    chain = pods.prefix.chain("m", [b"x" * 64 * 4 * 16])
    pods.prefix.place(A.id, chain)
    assert REACH[len(chain)] > 10
    assert pods.prefix.match(chain).get(A.id, 0) <= 10


def test_the_models_of_a_pod_make_its_pool_reachable() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A])
    pods.lists(A, "m")
    assert pods.routes.resolve("m", None, None).pool == "learns"
    pods.updates.on_models(PodId("gone"), {"x": ModelCard({"id": "x"})})
    assert "x" not in pods.routes.models()


def test_case_a_1_a_pod_is_a_candidate_only_for_the_models_that_it_lists() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    pods.lists(A, "model-a")
    pods.lists(B, "model-b")
    for model, own in (("model-a", A), ("model-b", B)):
        assert [pod.id for pod, _ in pods.view.snapshot("learns", model).candidates] == [own.id]


def test_a_pod_without_a_list_has_the_models_that_discovery_names_and_without_those_takes_what_no_list_names() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B._replace(models=frozenset({"labelled"})), C])
    pods.lists(A, "m")
    pods.updates.on_models(B.id, None)
    pods.updates.on_models(C.id, None)
    for model, own in (("m", A), ("labelled", B), ("other", C)):
        assert pods.routes.resolve(model).pool == "learns"
        assert [pod.id for pod, _ in pods.view.snapshot("learns", model).candidates] == [own.id]


def test_a_restarted_engine_has_an_empty_cache_and_no_connections() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A])
    chain = pods.prefix.chain("m", [b"x" * 4096])
    pods.prefix.place(A.id, chain)
    pods.idle_connection(A)
    pods.updates.on_restart(A.id)
    assert (pods.prefix.match(chain), pods.upstream.idle) == ({}, {})
    pods.updates.on_restart(PodId("gone"))


def test_a_pod_that_fails_leaves_the_rotation_and_comes_back() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    pods.health.outcome(A.id, Outcome.FAILURE, pods.now)
    assert pods.routable("learns") == ["p2"]
    assert pods.metrics.ejections == {("p1", "ejected"): 1}
    pods.health.due(pods.now + 1000)
    assert sorted(pods.routable("learns")) == ["p1", "p2"]


def test_placements_on_a_pod_that_stays_unknown_are_dropped_at_the_second_call() -> None:
    pods = PodFixture()
    chain = pods.prefix.chain("m", [b"x" * 4096])
    pods.registry.on_pods("knows", [A])
    for each in (A, B, C):
        pods.updates.placed_elsewhere(each.id, chain)
    pods.updates.forget_unknown()
    assert set(pods.prefix.match(chain)) == {A.id, B.id, C.id}, "discovery may still report them"
    pods.registry.on_pods("learns", [B])
    pods.updates.forget_unknown()
    assert set(pods.prefix.match(chain)) == {A.id, B.id}
    pods.registry.on_pods("learns", [])
    pods.updates.placed_elsewhere(B.id, chain)
    pods.updates.forget_unknown()
    pods.updates.forget_unknown()
    assert set(pods.prefix.match(chain)) == {A.id}, "a pod that left is unknown too"


def test_restored_pages_of_pods_that_stay_unknown_are_dropped_likewise() -> None:
    pods, other = PodFixture(), PodFixture()
    chain = other.prefix.chain("m", [b"x" * 4096])
    for each in (A, B):
        other.prefix.place(each.id, chain)
    pods.registry.on_pods("knows", [A])
    for page in other.prefix.pages():
        pods.updates.restored(page)
    assert set(pods.prefix.match(chain)) == {A.id, B.id}
    pods.updates.forget_unknown()
    pods.updates.forget_unknown()
    assert set(pods.prefix.match(chain)) == {A.id}


def test_a_restart_resets_a_pods_trust_and_counters_lower_it_where_answers_have_no_usage() -> None:
    pods = PodFixture()
    prefix_accuracy = pods.prefix_accuracy
    pods.registry.on_pods("learns", [A])
    sums = prefix_accuracy.pods[A.id]
    sums.asked = sums.expected = 1
    pods.updates.on_report(A.id, EngineReport(prefix_queries_tokens=0, prefix_hits_tokens=0), 0.0)
    sums.asked = sums.expected = 100_000
    pods.updates.on_report(A.id, EngineReport(prefix_queries_tokens=200_000, prefix_hits_tokens=0), 0.0)
    assert prefix_accuracy.pods[A.id].trust < 1.0
    pods.updates.on_restart(A.id)
    assert prefix_accuracy.pods[A.id].trust == 1.0


def test_the_measurements_of_a_pod_go_with_it_also_if_its_last_answer_arrives_later() -> None:
    pods = PodFixture()
    prefix_accuracy = pods.prefix_accuracy
    pods.registry.on_pods("learns", [A, B])
    prefix_accuracy.judge(A.id, 1000, 1000)
    prefix_accuracy.judge(B.id, 1000, 1000)
    pods.registry.on_pods("learns", [B])
    assert set(prefix_accuracy.pods) == {B.id}
    prefix_accuracy.judge(A.id, 1000, 1000)
    pods.updates.forget_unknown()
    assert set(prefix_accuracy.pods) == {B.id}


def test_a_failing_pod_that_is_kept_is_logged_once_and_does_not_look_well(caplog: pytest.LogCaptureFixture) -> None:
    """Case H 37."""
    pods = PodFixture()
    pods.registry.on_pods("learns", [A])
    with caplog.at_level(logging.INFO, "turnout.pods"):
        for _ in range(3):
            pods.health.probe(A.id, False, pods.now)
            pods.health.outcome(A.id, Outcome.FAILURE, pods.now)
        status = pods.view.status(A.id)
        assert (status.routable, status.kept, status.well()) == (True, ("ejected", "probe"), False)
        assert pods.routable("learns") == ["p1"]
        pods.health.probe(A.id, True, pods.now)
        pods.health.outcome(A.id, Outcome.OK, pods.now)
    assert pods.view.status(A.id).well()
    said = [record.getMessage() for record in caplog.records if "p1" in record.getMessage()]
    assert said == [
        "pod p1 fails (probe) and is kept, for pool learns has too few others: 0 of 1 pods are well",
        "pod p1 no longer fails",
    ]


def test_a_kept_pod_that_leaves_or_is_blocked_is_not_reported_as_well(caplog: pytest.LogCaptureFixture) -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B])
    for each in (A, B):
        pods.health.probe(each.id, False, pods.now)
    assert [(each.routable, each.kept) for each in pods.view.statuses("learns")] == [(False, ()), (True, ("probe",))]
    with caplog.at_level(logging.INFO, "turnout.pods"):
        pods.health.probe(A.id, True, pods.now)
        pods.health.probe(B.id, False, pods.now)
        pods.updates.on_kept(PodId("gone"), frozenset({"probe"}))
    assert [(each.routable, each.kept) for each in pods.view.statuses("learns")] == [(True, ()), (False, ())]
    assert not [record for record in caplog.records if "no longer fails" in record.getMessage()]


def test_placements_on_pods_that_stay_unknown_are_ignored_until_discovery_shows_the_pod() -> None:
    """Case I 50: the pods of another fleet in the same namespace."""
    pods, chain = PodFixture(), [1, 2, 3]
    pods.updates.placed_elsewhere(A.id, chain)
    assert pods.prefix.match(chain).get(A.id), "discovery may show it to other replicas first"
    for _ in range(3):
        pods.updates.forget_unknown()
        pods.updates.placed_elsewhere(A.id, chain)
    assert not pods.prefix.match(chain).get(A.id)
    pods.registry.on_pods("learns", [A])
    pods.updates.placed_elsewhere(A.id, chain)
    assert pods.prefix.match(chain).get(A.id)


def test_an_unknown_pod_that_is_not_placed_on_for_a_while_is_no_foreign_one_afterwards() -> None:
    pods, chain = PodFixture(), [1, 2, 3]
    for _ in range(3):
        pods.updates.placed_elsewhere(A.id, chain)
        pods.updates.forget_unknown()
    pods.updates.forget_unknown()
    pods.updates.placed_elsewhere(A.id, chain)
    assert pods.prefix.match(chain).get(A.id)


def test_of_many_pods_that_fail_and_are_kept_the_log_names_some(caplog: pytest.LogCaptureFixture) -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [pod(number) for number in range(1, 26)])
    pods.health = HealthTracker(Health(max_ejected_ratio=0.0), pods.updates.on_health, on_kept=pods.updates.on_kept)
    set_ids(pods.health, "learns", [pod(number).id for number in range(1, 26)])
    for number in range(1, 26):
        pods.health.probe(pod(number).id, False, pods.now)
    named = [record.getMessage() for record in caplog.records if "is kept" in record.getMessage()]
    assert len(named) == KEPT_LOGGED
    assert "24 of 25 pods are well" in named[0]
    assert "turnout pods" in named[-1]


def test_a_pod_that_discovery_reports_as_unready_is_no_longer_among_those_that_fail_their_probes() -> None:
    pods = PodFixture()
    passes: list[frozenset[PodId]] = []
    pods.updates.on_probe_failed = lambda failing: passes.append(frozenset(failing))
    pods.registry.on_pods("learns", [A, B, C])
    pods.health.probe(A.id, False, pods.now)
    pods.registry.on_pods("learns", [A._replace(unready="terminating"), B, C])
    pods.health.probe(B.id, False, pods.now)
    assert passes == [{A.id}, {B.id}]


def test_all_pods_of_a_pool_that_fail_their_probes_give_their_requests_back_in_one_pass() -> None:
    pods = PodFixture()
    pods.registry.on_pods("learns", [A, B, C])
    passes: list[frozenset[PodId]] = []
    pods.updates.on_probe_failed = lambda failing: passes.append(frozenset(failing))
    pods.updates.on_health(A.id, "probe", True)
    pods.updates.on_kept(B.id, frozenset({"probe"}))
    pods.updates.on_health(C.id, "ejected", True)
    pods.updates.on_health(A.id, "probe", False)
    pods.updates.on_kept(B.id, frozenset())
    assert passes == [{A.id}, {A.id, B.id}, {B.id}]


def test_requests_of_a_rank_whose_probe_fails_do_not_move_to_another_rank_of_its_process() -> None:
    pods = PodFixture()
    passes: list[frozenset[PodId]] = []
    pods.updates.on_probe_failed = lambda failing: passes.append(frozenset(failing))
    ranks = ranks_of(A, 3)
    pods.registry.on_pods("learns", [*ranks, B])
    for rank in ranks:
        pods.updates.on_health(rank.id, "probe", True)
    assert passes == [{rank.id for rank in ranks}] * 3


def test_a_failure_of_one_rank_counts_for_its_process_and_a_success_for_itself() -> None:
    pods = PodFixture()
    (first, second), other = ranks_of(A, 2), B
    pods.registry.on_pods("learns", [first, second, other, C])
    ended = pods.updates.ends_of(pods.health)
    ended(second.id, Outcome.FAILURE, pods.now)
    assert sorted(pods.routable("learns")) == [B.id, C.id]
    pods.health.due(pods.now + 1000)
    ended(first.id, Outcome.OK, pods.now)
    assert {first.id, second.id} & pods.health.unsettled == {second.id}
    ended(other.id, Outcome.FAILURE, pods.now)
    assert sorted(pods.routable("learns")) == [first.id, second.id, C.id]
    ended(PodId("gone"), Outcome.FAILURE, pods.now)


def test_rare_failures_of_other_ranks_do_not_add_up_on_a_rank_without_requests() -> None:
    pods = PodFixture()
    ranks = [rank.id for rank in ranks_of(A, 3)]
    pods.registry.on_pods("learns", [*ranks_of(A, 3), B, C])
    health = HealthTracker(Health(eject_failures=3), lambda *change: None, rng=lambda: 0.0)
    health.change_pods("learns", [*ranks, B.id, C.id], [])
    ended = pods.updates.ends_of(health)
    for _ in range(5):
        ended(ranks[0], Outcome.FAILURE, pods.now)
        ended(ranks[1], Outcome.OK, pods.now)
    assert [bool(health.blockers(rank)) for rank in ranks] == [True, False, False], "it failed itself each time"
    assert not health.unsettled.intersection(ranks[1:])
