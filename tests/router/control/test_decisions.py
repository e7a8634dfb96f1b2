"""Why a request went to its pod."""

from __future__ import annotations

from router.control.decisions import CANDIDATES, SPEND_S, explain
from router.plugins.examples import Example
from router.plugins.samples import Sample
from schedulers.registry import create
from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo

PODS = [PodId(f"10.0.0.{number}:80") for number in range(8)]
REQUEST = RequestInfo("r-1", "m", 640, 16, 10.0, 7, 0, session_key="secret session", prefix_hits={PODS[5]: 8})


def snapshot() -> LoadSnapshot:
    loads = [PodLoad(inflight=at, inflight_tokens=100 * at, kv_usage=at / 10) for at in range(len(PODS))]
    pairs = zip(PODS, loads, strict=True)
    return LoadSnapshot.of([Candidate(Pod(pod, str(pod)), load) for pod, load in pairs], taken_at=10.0)


class Steps:
    """A clock that goes on by a step with each look."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def sample(policy: str) -> Sample:
    answer = create(policy).pick(REQUEST, snapshot())
    return Sample(3, 10.0, Example(REQUEST, snapshot()), answer)


def shown(policy: str, step: float = 0.0) -> list[dict[str, object]]:
    found = explain(sample(policy), create(policy), Steps(step))["candidates"]
    assert isinstance(found, list)
    return found


def test_the_pod_that_was_taken_comes_first_and_then_those_that_would_have_been_without_it() -> None:
    assert [each["pod"] for each in shown("least_load")] == PODS[:CANDIDATES]


def test_each_candidate_has_its_cost_and_what_the_policy_saw_of_it() -> None:
    first, second = shown("prefix_aware")[:2]
    assert (first["pod"], first["reason"], first["cached_tokens"]) == (PODS[5], "soonest_by_prefix", 512)
    assert (first["inflight"], first["kv_usage"]) == (5, 0.5)
    assert isinstance(first["score"], float)
    assert isinstance(second["score"], float)
    assert first["score"] < second["score"]


def test_no_session_and_no_prompt_is_shown() -> None:
    assert "secret" not in str(explain(sample("least_load"), create("least_load"), Steps(0.0)))


def test_a_slow_policy_is_not_asked_for_ever() -> None:
    assert len(shown("least_load", step=SPEND_S)) < CANDIDATES


def test_of_a_policy_that_is_gone_or_raises_only_the_pod_is_known() -> None:
    class Broken:
        name = "broken"

        def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
            raise RuntimeError

    for scheduler in (None, Broken()):
        candidates = explain(sample("least_load"), scheduler, Steps(0.0))["candidates"]
        assert isinstance(candidates, list)
        assert len(candidates) == 1


def test_a_rejection_has_its_reason_and_a_score_that_is_no_number_is_left_out() -> None:
    rejected = Sample(1, 10.0, Example(REQUEST, snapshot()), Rejection("saturated"))
    found = explain(rejected, None, Steps(0.0))
    assert (found["rejected"], found["policy"], found["candidates"]) == ("saturated", "", [])
    odd = Sample(1, 10.0, Example(REQUEST, snapshot()), Decision(PODS[0], "p", float("nan")))
    assert "'score': None" in str(explain(odd, None, Steps(0.0))["candidates"])
