"""Snapshot, pick, reserve: what a policy is given, and what dispatch does with its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import pytest

from router.dataplane.dispatch import MAX_COUNTED, Dispatch
from router.dataplane.exchange import Exchange, Placement
from router.dataplane.request.openai import Call
from router.errors import BadRequest, PolicyNotAllowed
from router.plugins.samples import Samples
from router.policy.circuit_breaker import PolicyCircuitBreaker
from router.policy.model import LivePolicy
from router.settings import Pool
from router.telemetry.metrics import Metrics
from schedulers import registry
from schedulers.guard import Failure
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Pod, PodId, Rejection, RequestInfo
from statesync.discovery.ranks import ranks_of
from statesync.errors import NoRoutablePod, PoolSaturated
from statesync.load.view import LoadView
from statesync.prefix.index import BLOCK_BYTES, BLOCKS_PER_SIZE, PrefixIndex
from statesync.store.protocol import PolicyRecord
from tests.fakes.bare_exchange import exchange, routed
from tests.fakes.virtual_time import Clock

A, B = PodId("10.0.0.1:80"), PodId("10.0.0.2:80")
UNITS = BLOCKS_PER_SIZE + 4 * 2
TOKENS = UNITS * 64
PROMPT = (b"x" * UNITS * BLOCK_BYTES,)


class Watched:
    """Picks the first untried pod and keeps the requests and snapshots that it was given."""

    name = "watched"

    def __init__(self) -> None:
        self.seen: list[tuple[RequestInfo, LoadSnapshot]] = []

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        self.seen.append((request, snapshot))
        for pod, _ in snapshot.candidates:
            if pod.id not in request.tried:
                return Decision(pod.id, self.name)
        return Rejection("no_untried_pod")


class Harness:
    """A dispatch over two pods of one pool."""

    def __init__(self, samples: Samples | None = None, policy: Watched | None = None, **pool: object) -> None:
        self.pool = Pool(name="main", **pool)  # type: ignore[arg-type]
        self.clock = Clock()
        self.view = LoadView(self.clock)
        self.view.set_pods("main", [Pod(A, A, max_inflight=2), Pod(B, B, max_inflight=2)])
        self.prefix = PrefixIndex(1 << 24, 100_000)
        self.metrics = Metrics()
        self.placed: list[tuple[PodId, Sequence[int]]] = []
        self.policy = policy or Watched()
        rng = count(100)
        by_name: Mapping[str, Scheduler] = {name: registry.create(name) for name in registry.names()}
        self.guard = PolicyCircuitBreaker(registry.create("least_load"), self.metrics, self.clock)
        self.dispatch = Dispatch(
            self.view,
            self.prefix,
            {"main": LivePolicy(self.policy, PolicyRecord("watched", {}, 1))},
            self.guard,
            by_name,
            lambda pod, blocks: self.placed.append((pod, blocks)),
            lambda: next(rng),
            samples=samples,
        )

    def request(self, prompt: Sequence[bytes] = (), model: str = "m", **header_map: str) -> Exchange:
        """An exchange that was routed to the pool."""
        made = exchange(
            header_map={name.replace("_", "-").encode(): value.encode() for name, value in header_map.items()}
        )
        made.request_id = b"r1"
        call = Call(model, prompt, TOKENS, 16, False, "from-the-body")
        made.routed = routed(call=call, metrics=self.metrics.pool("main"))
        return made

    def place(self, made: Exchange) -> Placement:
        """Dispatch a request that gets a pod."""
        placed = self.dispatch.place(made, self.pool)
        assert isinstance(placed, Placement)
        return placed


def test_a_placed_request_names_pod_policy_and_charge() -> None:
    harness = Harness()
    made = harness.request()
    placed = harness.place(made)
    assert (placed.pod.id, placed.policy, placed.charge.pod) == (A, "watched", A)
    assert placed.info is harness.policy.seen[0][0]
    assert harness.view.status(A).load.inflight == 1
    assert made.routed.metrics.decision.count == 1


def test_a_policy_gets_every_field_of_the_request() -> None:
    harness = Harness()
    made = harness.request(x_session_id="s", x_turnout_priority="-7")
    made.routed.deadline = 1005.0
    harness.place(made)
    info, snapshot = harness.policy.seen[0]
    assert (info.id, info.model, info.prompt_tokens, info.max_tokens) == ("r1", "m", TOKENS, 16)
    assert (info.arrived_at, info.deadline, info.session_key, info.priority) == (1000.0, 1005.0, "s", -7)
    assert (info.entropy, info.sequence, info.tried) == (100, 0, frozenset())
    assert [pod.id for pod, _ in snapshot.candidates] == [A, B]


def test_the_sequence_counts_requests_and_each_has_random_bits_of_its_own() -> None:
    harness = Harness()
    for _ in range(3):
        harness.view.release(harness.place(harness.request()).charge)
    assert [info.sequence for info, _ in harness.policy.seen] == [0, 1, 2]
    assert len({info.entropy for info, _ in harness.policy.seen}) == 3


def test_another_attempt_has_the_tried_pods_and_the_same_sequence() -> None:
    harness = Harness()
    made = harness.request(PROMPT)
    harness.place(made)
    made.tried |= {A}
    assert harness.place(made).pod.id == B
    first, second = (info for info, _ in harness.policy.seen)
    assert (second.tried, second.sequence, second.id) == (frozenset({A}), first.sequence, first.id)
    assert second.entropy != first.entropy
    assert second.prefix_hits == {A: UNITS}


def test_a_rejection_changes_nothing() -> None:
    harness = Harness()
    made = harness.request()
    harness.place(made)
    made.tried = frozenset({A, B})
    before = made.placement
    assert before is not None
    assert harness.dispatch.place(made, harness.pool) == Rejection("no_untried_pod")
    assert made.placement is before
    assert [harness.view.status(each).load.inflight for each in (A, B)] == [1, 0]


def test_the_body_names_the_session_where_no_header_does() -> None:
    harness = Harness()
    harness.place(harness.request())
    assert harness.policy.seen[0][0].session_key == "from-the-body"


def test_a_placed_prompt_is_indexed_and_sent_to_the_other_replicas() -> None:
    harness = Harness()
    harness.place(harness.request(PROMPT))
    ((pod, blocks),) = harness.placed
    assert (pod, len(blocks)) == (A, BLOCKS_PER_SIZE + 4)
    harness.place(harness.request(PROMPT))
    assert harness.policy.seen[1][0].prefix_hits == {A: UNITS}
    metrics = harness.metrics.pool("main")
    assert (metrics.prefix_queries_tokens, metrics.prefix_hits_tokens) == (2 * TOKENS, TOKENS)


def test_a_request_without_a_prompt_changes_no_index() -> None:
    harness = Harness()
    harness.place(harness.request())
    assert (harness.placed, harness.prefix.blocks) == ([], 0)


def test_a_pool_without_room_or_without_pods_raises() -> None:
    harness = Harness()
    for _ in range(2):
        harness.place(harness.request())
        tried = harness.request()
        tried.tried = frozenset({A})
        harness.place(tried)
    with pytest.raises(PoolSaturated):
        harness.place(harness.request())
    for pod in (A, B):
        harness.view.block(pod, "probe")
    with pytest.raises(NoRoutablePod):
        harness.place(harness.request())


def test_a_request_of_a_saturated_pool_has_its_priority() -> None:
    harness = Harness()
    harness.view.set_pods("main", [Pod(A, A, max_inflight=1)])
    harness.place(harness.request())
    made = harness.request(x_turnout_priority="9")
    with pytest.raises(PoolSaturated):
        harness.place(made)
    assert made.routed.info is not None and made.routed.info.priority == 9


@pytest.mark.parametrize("value", ["", "x", "1.0", "9" * 5000])
def test_a_priority_that_is_not_a_number_is_refused(value: str) -> None:
    with pytest.raises(BadRequest, match="x-turnout-priority"):
        Harness().place(Harness().request(x_turnout_priority=value))


def test_a_refused_policy_is_answered_with_those_allowed() -> None:
    with pytest.raises(PolicyNotAllowed, match="allowed: p2c, random"):
        Harness(allowed_policies=["p2c", "random"]).place(Harness().request(x_turnout_policy="round_robin"))
    with pytest.raises(PolicyNotAllowed, match="allowed: none"):
        Harness().place(Harness().request(x_turnout_policy="round_robin"))


def test_an_allowed_policy_decides() -> None:
    harness = Harness(allowed_policies=["round_robin"])
    made = harness.request(x_turnout_policy="round_robin")
    assert (harness.place(made).policy, harness.policy.seen) == ("round_robin", [])


class Answers(Watched):
    """Returns a fixed answer."""

    name = "answers"

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no_answer"),
        (Decision(PodId("10.9.9.9:1"), "answers"), "not_in_snapshot"),
        (Decision(B, "answers"), "tried"),
        (Decision(["unhashable"], "answers"), "raised"),  # type: ignore[arg-type]
        (Rejection("no word for a metric"), "no_answer"),
    ],
    ids=str,
)
def test_an_unsound_answer_is_counted_and_the_safe_policy_decides(answer: object, reason: str) -> None:
    harness = Harness(policy=Answers(answer))
    made = harness.request()
    made.tried = frozenset({B})
    placed = harness.place(made)
    assert (placed.pod.id, placed.policy) == (A, "least_load")
    assert harness.metrics.policy_failures == {("main", "answers", reason): 1}


def test_a_decision_with_a_wrong_name_is_shown_with_the_policys_own() -> None:
    harness = Harness(policy=Answers(Decision(A, "x\r\nx-injected: 1")))
    made = harness.request()
    assert harness.place(made).policy == "answers"


def test_a_policy_that_was_taken_out_does_not_decide_for_a_request_that_names_it() -> None:
    harness = Harness(allowed_policies=["*"])
    chosen = harness.dispatch._by_name["round_robin"]
    for _ in range(5):
        harness.guard.struck(chosen, "main", Failure("raised", "raised"))
    made = harness.request(x_turnout_policy="round_robin")
    assert harness.place(made).policy == "least_load"


def test_some_of_the_requests_are_kept_as_samples() -> None:
    samples = Samples()
    harness = Harness(samples=samples)
    for at in range(3):
        made = harness.request()
        made.arrived = 1000.0 + at * 0.06
        harness.view.release(harness.place(made).charge)
    assert [example.request.sequence for example in samples.recent()] == [0, 2]
    assert [len(example.snapshot.candidates) for example in samples.recent()] == [2, 2]


def test_where_models_have_different_pods_each_gets_its_own_and_is_counted_by_itself() -> None:
    harness = Harness()
    harness.view.set_models(A, frozenset({"m", "n"}))
    harness.view.set_models(B, frozenset({"m"}))
    for _ in range(2):
        for model, pods in (("m", [A, B]), ("n", [A])):
            harness.view.release(harness.place(harness.request(model=model)).charge)
            assert [pod.id for pod, _ in harness.policy.seen[-1][1].candidates] == pods
    assert [info.sequence for info, _ in harness.policy.seen] == [0, 0, 1, 1]


def test_counts_of_models_are_bounded_though_clients_invent_names() -> None:
    harness = Harness()
    harness.view.set_models(A, frozenset({"m"}))
    harness.view.set_models(B, None)
    for number in range(MAX_COUNTED + 3):
        harness.view.release(harness.place(harness.request(model=f"x{number}")).charge)
    harness.view.release(harness.place(harness.request(model="x0")).charge)
    assert harness.policy.seen[-1][0].sequence == 0, "it was counted before, and then forgotten"


def test_the_ranks_of_a_process_belong_together() -> None:
    harness = Harness()
    first, second = ranks_of(Pod(A, A), 2)
    harness.view.set_pods("main", [first, second, Pod(B, B)])
    assert harness.dispatch.together(second.id) == {first.id, second.id}
    assert harness.dispatch.together(B) == {B}
    assert harness.dispatch.together(PodId("gone")) == {"gone"}
