"""The scores of each scorer: 0 to 1 for any load, and its formula by example. `locality` is in `test_locality.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers import rendezvous
from schedulers.profile import SCORERS
from schedulers.protocols import Scorer
from schedulers.scorers.inflight_tokens import FewTokens
from schedulers.scorers.kv_usage import FreeKv
from schedulers.scorers.latency import PeakEwma
from schedulers.scorers.lora import AdapterInUse
from schedulers.scorers.outlook import EarlyStart
from schedulers.scorers.prefix import PrefixShare
from schedulers.scorers.queue import ShortQueue
from schedulers.scorers.session import SessionPlace
from schedulers.types import Adapters, Candidate, LoadSnapshot, PodId, PodLoad, RequestInfo
from schedulers.weighing import Weighed
from tests.fakes.each_case import each_case
from tests.fakes.scheduler_inputs import cases, ids_of, pod_ids, request_of, snapshot_of, unhurried

COUNTS = st.integers(0, 2**40)
SECONDS = st.floats(0.0, 1e7)
NAMES = st.frozensets(st.sampled_from(["m", "sql", "chat"]))


@st.composite
def any_load(draw: st.DrawFn) -> PodLoad:
    """Any load that the contracts of its fields allow."""
    inflight = draw(COUNTS)
    return PodLoad(
        queued=draw(COUNTS),
        kv_usage=draw(st.floats(0.0, 1.0)),
        inflight=inflight,
        inflight_tokens=draw(COUNTS),
        ttft_ewma_s=draw(st.sampled_from([0.0, 1e-6, 0.25, 3600.0])),
        prefilling=draw(st.integers(1, max(1, inflight))),
        prefill_work=draw(COUNTS),
        head_since=draw(SECONDS),
        pace_s=draw(st.floats(1e-9, 10.0)),
        adapters=draw(st.builds(Adapters, NAMES, NAMES, st.integers(0, 4))),
    )


@st.composite
def oddities(draw: st.DrawFn) -> tuple[RequestInfo, LoadSnapshot]:
    """A request of the usual kind and a snapshot of any loads, labels and home."""
    request, snapshot = draw(cases())
    labels = st.dictionaries(st.sampled_from(["zone", "cluster"]), st.sampled_from("ab"))
    candidates = tuple(Candidate(pod._replace(labels=draw(labels)), draw(any_load())) for pod, _ in snapshot.candidates)
    odd = LoadSnapshot.of(candidates, taken_at=draw(SECONDS), home=draw(labels))
    return request._replace(arrived_at=draw(SECONDS)), odd


def scores(scorer: Scorer, snapshot: LoadSnapshot, request: RequestInfo | None = None) -> Sequence[float]:
    found = scorer.score(request or request_of(), snapshot)
    if isinstance(found, Mapping):
        assert found.keys() <= set(range(len(snapshot.candidates)))
    weighed = Weighed(len(snapshot.candidates))
    weighed.add(1.0, found)
    return weighed.all()


EVERY: dict[str, Scorer] = {name: kind() for name, kind in SCORERS.items()}


@unhurried
@given(case=oddities())
def test_every_candidate_has_a_score_from_0_to_1(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    for name, scorer in EVERY.items():
        found = scores(scorer, snapshot, request)
        assert len(found) == len(snapshot.candidates), name
        assert all(0.0 <= score <= 1.0 for score in found), name


@unhurried
@given(case=oddities(), data=st.data())
def test_the_order_of_the_candidates_changes_no_score(
    case: tuple[RequestInfo, LoadSnapshot], data: st.DataObject
) -> None:
    request, snapshot = case
    order = data.draw(st.permutations(range(len(snapshot.candidates))))
    for name, scorer in EVERY.items():
        there, here = scores(scorer, snapshot.only(order), request), scores(scorer, snapshot, request)
        assert there == pytest.approx([here[at] for at in order]), name


@each_case("scorer", EVERY.values(), ids=EVERY)
def test_its_name_is_its_key_in_the_table(scorer: Scorer) -> None:
    assert SCORERS[scorer.name] is type(scorer)


def test_queue_goes_from_the_longest_to_the_shortest() -> None:
    loads = [PodLoad(queued=4), PodLoad(queued=2), PodLoad(), PodLoad(queued=1)]
    assert scores(ShortQueue(), snapshot_of(loads)) == [0.0, 0.5, 1.0, 0.75]


def test_queue_counts_what_was_dispatched_since_the_engines_report() -> None:
    loads = [PodLoad(queued=1, prefilling=4), PodLoad(queued=4), PodLoad(queued=2, prefilling=1)]
    assert scores(ShortQueue(), snapshot_of(loads)) == [0.0, 0.0, 1.0]


def test_equal_queues_all_score_best() -> None:
    assert ShortQueue().score(request_of(), snapshot_of([PodLoad(queued=7)] * 3)) == 1.0


def test_kv_usage_is_the_free_fraction() -> None:
    assert scores(FreeKv(), snapshot_of([PodLoad(kv_usage=0.25), PodLoad(kv_usage=1.0)])) == [0.75, 0.0]


def test_inflight_tokens_halve_at_half_tokens() -> None:
    loads = [PodLoad(), PodLoad(inflight_tokens=936, inflight=1), PodLoad(inflight_tokens=3000)]
    assert scores(FewTokens(1000), snapshot_of(loads)) == [1.0, 0.5, 0.25]


def test_prefix_is_the_fraction_of_the_prompt_that_is_held() -> None:
    hits = {pod_ids(3)[0]: 5, pod_ids(3)[2]: 11, PodId("gone:1"): 4}
    request = request_of(prompt_tokens=640, prefix_hits=hits)
    assert scores(PrefixShare(), snapshot_of([PodLoad()] * 3), request) == [0.5, 0.0, 1.0]
    assert PrefixShare().score(request_of(), snapshot_of([PodLoad()] * 3)) == 0.0


@unhurried
@given(case=cases())
def test_prefix_gives_the_same_scores_for_few_holders_as_for_many(case: tuple[RequestInfo, LoadSnapshot]) -> None:
    request, snapshot = case
    few = dict(list(request.prefix_hits.items())[: len(snapshot.candidates) // 4])
    request = request._replace(prefix_hits=few)
    there = snapshot._replace(positions=snapshot.position_of())
    assert scores(PrefixShare(), there, request) == scores(PrefixShare(), there._replace(positions=None), request)


def test_latency_is_the_least_cost_divided_by_the_pods_own() -> None:
    loads = [PodLoad(ttft_ewma_s=0.2), PodLoad(ttft_ewma_s=0.2, inflight=3), PodLoad(ttft_ewma_s=0.4)]
    assert scores(PeakEwma(), snapshot_of(loads)) == [1.0, 0.25, 0.5]


def test_a_pod_without_answers_counts_as_the_mean_of_the_others() -> None:
    loads = [PodLoad(ttft_ewma_s=0.25), PodLoad(ttft_ewma_s=0.75), PodLoad(), PodLoad(inflight=1)]
    assert scores(PeakEwma(), snapshot_of(loads)) == pytest.approx([1.0, 1 / 3, 0.5, 0.25])
    assert scores(PeakEwma(), snapshot_of([PodLoad(), PodLoad(inflight=1)])) == [1.0, 0.5]


def test_outlook_halves_at_half_s_and_falls_again_where_a_first_token_is_overdue() -> None:
    def load(work: int, since: float) -> PodLoad:
        return PodLoad(inflight=2, prefilling=2, prefill_work=work, head_since=since, pace_s=0.001, step_s=0.148)

    late = snapshot_of([load(1000, 9.5), load(1000, 2.0), PodLoad(step_s=0.0)])._replace(taken_at=9.0)
    lull = 0.296
    overdue = 0.5 * (10.0 - 3.0 - lull)
    expected = [1 / (1 + 0.5 + lull), 1 / (1 + overdue), 1.0]
    request = request_of()._replace(arrived_at=10.0)
    assert scores(EarlyStart(1.0), late, request) == pytest.approx(expected)


def test_session_halves_with_each_rank_in_the_sessions_order() -> None:
    snapshot = snapshot_of([PodLoad()] * 12)
    order = list(rendezvous.descending(rendezvous.ranking("s", snapshot)))
    found = scores(SessionPlace(), snapshot, request_of(session_key="s"))
    assert [found[at] for at in order] == [0.5**place for place in range(8)] + [0.0] * 4
    assert SessionPlace().score(request_of(), snapshot) == 0.0


def test_a_session_goes_to_the_same_second_pod_when_its_first_is_left_out() -> None:
    snapshot = snapshot_of([PodLoad()] * 12)
    request = request_of(session_key="s")
    before = scores(SessionPlace(), snapshot, request)
    left = snapshot.without(frozenset({ids_of(snapshot)[before.index(1.0)]}))
    assert left is not None
    after = scores(SessionPlace(), left, request)
    assert ids_of(left)[after.index(1.0)] == ids_of(snapshot)[before.index(0.5)]


def test_lora_prefers_active_then_room_then_waiting() -> None:
    def holding(active: str, waiting: str = "", limit: int = 2) -> PodLoad:
        return PodLoad(adapters=Adapters(frozenset(active), frozenset(waiting), limit))

    loads = [holding("am"), holding("a"), holding("ab", "m"), holding("ab"), holding("a", "b"), PodLoad()]
    assert scores(AdapterInUse(), snapshot_of(loads)) == [1.0, 0.8, 0.6, 0.0, 0.0, 0.0]
