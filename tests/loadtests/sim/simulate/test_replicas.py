"""Simulated replicas behave like the gateway; updates reach other replicas at the right time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from loadtests.sim.simulate.events import parse_event, schedule
from loadtests.sim.simulate.replica import Replica
from loadtests.sim.simulate.replicas import Replicas, Sharing
from loadtests.sim.simulate.traces import Arrival
from loadtests.sim.simulate.world import World
from schedulers import registry
from schedulers.protocols import Scheduler
from schedulers.types import Candidate, Decision, LoadSnapshot, PodId, Rejection, RequestInfo, Slo
from tests.fakes.simulated_world import SMALL, UNIT, arrival, chain, prompt, trace, world


class Watching:
    """A policy that picks the first pod that was not tried, and keeps its inputs."""

    name = "watching"

    def __init__(self) -> None:
        self.requests: list[RequestInfo] = []
        self.shown: list[LoadSnapshot] = []

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        self.requests.append(request)
        self.shown.append(snapshot)
        return Decision(
            next(each.pod.id for each in snapshot.candidates if each.pod.id not in request.tried), self.name
        )

    def first_pod(self, at: int) -> Candidate:
        return self.shown[at].candidates[0]


class Refusing:
    name = "refusing"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        return Rejection("saturated")


def replicas(here: World, scheduler: Scheduler, sharing: Sharing | None = None, seed: int = 0) -> Replicas:
    return Replicas(here, scheduler, UNIT, sharing, seed=seed)


class InTurn(Replicas):
    """Replicas that get requests in an order given by the test."""

    def __init__(self, here: World, scheduler: Scheduler, sharing: Sharing, order: Sequence[int]) -> None:
        super().__init__(here, scheduler, UNIT, sharing)
        queue = list(order)
        self._rng.randrange = lambda *_: queue.pop(0)  # type: ignore[method-assign]


def test_a_policy_sees_hits_load_and_random_bits() -> None:
    here, policy = world(), Watching()
    units = chain(1, 10)
    here.play(trace(prompt(*units), prompt(*units, at_s=0.1)), replicas(here, policy))
    first, second = policy.requests
    assert first.prefix_hits == {}
    assert second.prefix_hits == {PodId("pod-0"): 10}
    assert first.entropy != second.entropy
    assert [each.arrived_at for each in policy.requests] == [0.0, 0.1]
    load = policy.first_pod(1).load
    assert (load.inflight, load.pending_prefill_tokens) == (1, 641)


def test_prefill_is_released_with_the_first_token_and_the_rest_at_the_end() -> None:
    here, policy = world(), Watching()
    here.play(trace(arrival(0.0, 640, 100), arrival(1.0), arrival(60.0)), replicas(here, policy))
    decoding, idle = policy.first_pod(1).load, policy.first_pod(2).load
    assert (decoding.inflight, decoding.pending_prefill_tokens) == (1, 0)
    assert (idle.inflight, idle.inflight_tokens) == (0, 0)
    assert idle.ttft_ewma_s > 0.6


def test_engines_are_scraped_also_without_requests() -> None:
    here, policy = world(), Watching()
    here.play(trace(arrival(0.0), arrival(30.0)), replicas(here, policy))
    assert policy.first_pod(1).load.reported_at > 28.0


def evicted(here: World, sharing: Sharing | None = None, after: Callable[[Replica], None] | None = None) -> Replicas:
    """Play a prompt of 5,760 tokens, another one that evicts it, and the first again, of which all is expected.

    `after` is called with the first replica after the last prompt's first token, and after its last.
    """
    here.engines[0].kv.capacity = 400
    router = InTurn(here, Watching(), sharing or Sharing(), [0, 0, 0])
    if after is not None:
        for at_s in (207.0, 215.0):
            here.at(at_s, partial(after, router.replicas[0]))
    again = prompt(*chain(1, 90), at_s=200.0, output=300)
    here.play(trace(prompt(*chain(1, 90)), prompt(*chain(2, 90), at_s=100.0), again), router)
    return router


def test_a_prefix_that_the_engine_had_evicted_lowers_the_trust_in_the_pod_at_the_answers_end() -> None:
    here, shown = world(1), list[float]()
    router = evicted(here, after=lambda first: shown.append(first.accuracy.pods[PodId("pod-0")].trust))
    accuracy = router.replicas[0].accuracy.pods[PodId("pod-0")]
    assert accuracy.predicted > 5_600
    assert accuracy.true == 9 * UNIT
    assert shown == [1.0, pytest.approx(0.955, abs=0.01)]


def test_only_the_replica_that_sent_a_request_learns_from_its_answer() -> None:
    sender, other = evicted(world(1), Sharing(2)).replicas
    assert sender.accuracy.pods[PodId("pod-0")].trust < 1.0
    assert PodId("pod-0") not in other.accuracy.pods


def test_without_usage_the_counters_of_the_metrics_page_correct_the_index() -> None:
    here = World([SMALL], UNIT, cached_in_usage=False)
    here.engines[0].kv.capacity = 400
    router = replicas(here, Watching())
    prompts = [prompt(*chain(n % 2, 90), at_s=20.0 * n) for n in range(30)]
    here.play(trace(*prompts), router)
    accuracy = router.replicas[0].accuracy.pods[PodId("pod-0")]
    assert accuracy.trust < 1.0
    assert accuracy.predicted > 50_000 > accuracy.true


def test_a_replicas_dispatch_reaches_the_others_after_the_delay() -> None:
    here, policy = world(), Watching()
    units = chain(1, 10)
    router = InTurn(here, policy, Sharing(2, age_s=0.5), [0, 1, 1])
    here.play(trace(prompt(*units, output=900), prompt(*units, at_s=0.4), prompt(*units, at_s=0.6)), router)
    assert policy.first_pod(1).load.inflight == 0
    assert policy.requests[1].prefix_hits == {}
    assert policy.first_pod(2).load.inflight == 2
    assert policy.requests[2].prefix_hits == {PodId("pod-0"): 10}


def test_a_fresh_view_is_complete() -> None:
    here, policy = world(), Watching()
    here.play(trace(arrival(0.0), arrival(0.0)), InTurn(here, policy, Sharing(2), [0, 1]))
    assert policy.first_pod(1).load.inflight == 1
    assert policy.shown[1].unseen == 0.0


def test_an_old_view_reports_the_load_it_cannot_show() -> None:
    here, policy = world(), Watching()
    arrivals = [arrival(0.01 * n, 64, 2) for n in range(400)]
    here.play(trace(*arrivals), replicas(here, policy, Sharing(4, age_s=0.1)))
    assert 4.0 < policy.shown[-1].unseen < 12.0  # 100 a second, three quarters of them elsewhere, 0.1 s not visible


def test_replicas_that_share_nothing_have_no_state_of_each_other() -> None:
    here, policy = world(), Watching()
    units = chain(1, 10)
    router = InTurn(here, policy, Sharing(2, shared=False), [0, 1])
    here.play(trace(prompt(*units, output=900), prompt(*units, at_s=5.0)), router)
    assert policy.first_pod(1).load.inflight == 0
    assert policy.requests[1].prefix_hits == {}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_a_restarted_replica_has_the_shared_state(count: int, shared: bool) -> None:
    here, policy = world(), Watching()
    units = chain(1, 10)
    router = InTurn(here, policy, Sharing(count, shared=shared), [0, 0, 0])
    here.at(5.0, router.restart)
    here.play(trace(prompt(*units, output=900), prompt(*units, at_s=6.0), prompt(*units, at_s=60.0)), router)
    assert policy.requests[1].prefix_hits == ({PodId("pod-0"): 10} if shared else {})
    assert policy.first_pod(1).load.inflight == (1 if shared else 0), "the old one's request goes on"
    assert policy.first_pod(2).load.inflight == 0
    assert policy.requests[2].prefix_hits == {PodId("pod-0"): 10}


# Pods that change


def shown_pods(policy: Watching) -> list[list[str]]:
    return [[candidate.pod.id for candidate in each.candidates] for each in policy.shown]


def play_events(events: Sequence[str], arrivals: Sequence[Arrival], scheduler: Scheduler, pods: int = 2) -> World:
    """Play with events; the last pod joins."""
    here = World([SMALL] * (pods + 1), UNIT, later=1)
    router = replicas(here, scheduler)
    schedule(here, router, [parse_event(each) for each in events])
    here.play(trace(*arrivals), router)
    return here


def test_discovered_pods_are_candidates_at_once_and_those_that_leave_are_none() -> None:
    policy = Watching()
    arrivals = [arrival(at_s) for at_s in (0.0, 2.0, 4.0)]
    play_events(["1:pod-2:join", "3:pod-0:leave"], arrivals, policy)
    assert shown_pods(policy) == [["pod-0", "pod-1"], ["pod-0", "pod-1", "pod-2"], ["pod-2", "pod-1"]]


def test_a_pod_that_leaves_finishes_its_requests() -> None:
    here = play_events(["1:pod-0:leave"], [arrival(0.0, 640, 500)], Watching())
    assert (here.lost, here.retried, here.open) == (0, 0, 0)


def test_a_request_whose_pod_fails_before_its_first_token_goes_to_another_pod_as_in_the_gateway() -> None:
    policy = registry.create("round_robin")
    here = play_events(["1:pod-0:fail"], [arrival(0.0, 64, 400), arrival(0.1), arrival(0.2, 5000)], policy)
    assert (here.lost, here.retried) == (1, 1), "the first has had its first token from the pod"


def test_a_pod_that_fails_is_ejected_and_comes_back_by_a_probe() -> None:
    policy = Watching()
    arrivals = [arrival(0.5 * n, 64, 2) for n in range(80)]
    here = play_events(["10:pod-0:fail", "25:pod-0:join"], arrivals, policy)
    assert here.lost == 0
    assert here.retried == 3, "three failures eject it"
    counts = [len(each.candidates) for each in policy.shown]
    assert counts.count(1) > 25
    assert counts[0] == counts[-1] == 2


def test_a_pod_that_is_started_again_is_not_expected_to_hold_anything() -> None:
    policy = Watching()
    units = chain(1, 10)
    arrivals = [prompt(*units, at_s=at_s) for at_s in (0.0, 4.0, 12.0)]
    play_events(["5:pod-0:fail", "6:pod-0:join"], arrivals, policy)
    assert [dict(each.prefix_hits) for each in policy.requests] == [{}, {PodId("pod-0"): 10}, {}]


def test_a_new_replica_knows_at_once_which_pods_fail_their_probes() -> None:
    policy = Watching()
    here = World([SMALL] * 3, UNIT)
    router = replicas(here, policy, Sharing(1, shared=False))
    schedule(here, router, [parse_event("1:pod-0:fail")])
    here.at(2.0, router.restart)
    here.play(trace(arrival(3.0)), router)
    assert "pod-0" not in shown_pods(policy)[-1]


def test_without_a_pod_requests_are_lost() -> None:
    here = play_events(["1:pod-0:leave", "1:pod-1:leave"], [arrival(2.0)], Watching())
    assert here.lost == 1


def test_a_seed_determines_the_run() -> None:
    def run(seed: int) -> list[int]:
        here = world(4)
        arrivals = [arrival(0.1 * n, 200 + n) for n in range(50)]
        return [each.pod for each in here.play(trace(*arrivals), replicas(here, registry.create("random"), seed=seed))]

    assert run(1) == run(1) != run(2)


def test_a_request_that_the_policy_rejects_reaches_no_pod_and_the_run_goes_on() -> None:
    here, refused = world(), arrival(0.0)
    assert here.play(trace(refused, arrival(1.0)), replicas(here, Refusing())) == []
    assert here.unserved == [refused, arrival(1.0)]
    assert (here.shed, here.lost, here.rejected) == (2, 0, 0)


def test_a_policy_is_given_a_requests_priority_and_its_slo() -> None:
    here, policy = world(), Watching()
    here.play(trace(arrival(0.0)._replace(priority=3, slo=Slo(2.0, 0.1))), replicas(here, policy))
    assert (policy.requests[0].priority, policy.requests[0].slo) == (3, Slo(2.0, 0.1))
