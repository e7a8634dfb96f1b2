"""How a canary's requests are drawn."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from router.trials.shadow import Shadow
from router.trials.trial import Trial
from schedulers.entropy import mix
from schedulers.types import Decision, RequestInfo
from statesync.store.protocol import PolicyRecord
from tests.fakes.chance import five_deviations
from tests.fakes.trial_inputs import SNAPSHOT, A, B, Fixed, TrialRequest, record, request
from tests.fakes.virtual_time import Clock, Later


def drawn(trial: Trial, requests: Iterable[RequestInfo]) -> list[bool]:
    """Which of them the candidate decides."""
    return [trial.candidate(TrialRequest(), each) is not None for each in requests]


def trial(generation: int = 3, percent: float = 20.0) -> Trial:
    return Trial("main", record(generation, percent), Fixed(), Fixed(name="new"), None)


SESSIONS = [request(f"session {at}") for at in range(4000)]
STRAYS = [request(entropy=mix(at, 99)) for at in range(4000)]


@pytest.mark.parametrize("percent", [1.0, 20.0, 50.0])
@pytest.mark.parametrize("requests", [SESSIONS, STRAYS], ids=["sessions", "strays"])
def test_the_share_is_the_configured_one(percent: float, requests: list[RequestInfo]) -> None:
    taken = sum(drawn(trial(percent=percent), requests))
    assert abs(taken - 4000 * percent / 100) < five_deviations(4000, percent / 100)


def test_all_replicas_draw_alike_and_another_canary_draws_differently() -> None:
    assert drawn(trial(), SESSIONS) == drawn(trial(), SESSIONS)
    both = sum(one and other for one, other in zip(drawn(trial(3), SESSIONS), drawn(trial(4), SESSIONS), strict=True))
    assert abs(both - 4000 * 0.04) < five_deviations(4000, 0.04)


def test_a_whole_share_takes_every_request() -> None:
    assert all(drawn(trial(percent=100.0), SESSIONS[:200] + STRAYS[:200]))


def test_a_larger_share_of_the_same_candidate_contains_the_smaller_one() -> None:
    """Case J 56: no session is thrown back, whatever the record's generation."""
    shares = []
    for at, percent in enumerate((5.0, 10.0, 25.0, 50.0)):
        of = record(3 + at, percent)
        assert of.canary is not None
        same = of._replace(canary=of.canary._replace(began=3))
        ramped = Trial("main", same, Fixed(), Fixed(name="new"), None)
        shares.append({each.session_key for each in SESSIONS if drawn(ramped, [each])[0]})
    assert shares[0] < shares[1] < shares[2] < shares[3]
    assert shares[0] == {each.session_key for each in SESSIONS if drawn(trial(3, 5.0), [each])[0]}


def test_a_switchback_gives_every_request_of_a_span_to_one_policy_and_counts_what_comes_after_its_beginning() -> None:
    """Case J 58."""
    of = record(3, 50.0)
    assert of.canary is not None
    clocks = (lambda: 1000.0, lambda: 5000.0)
    turns = of._replace(canary=of.canary._replace(switchback_s=20.0))
    one, other = (Trial("main", turns, Fixed(), Fixed(name="new"), None, None, clocks) for _ in range(2))
    spans = []
    for span in range(400):
        requests = [request(f"s{at}", arrived_at=1000.0 + 20.0 * span + at) for at in range(20)]
        found = drawn(one, requests)
        assert found == drawn(other, requests) and len({*found}) == 1
        spans.append(found[0])
    assert abs(sum(spans) - 200) < five_deviations(400, 0.5)
    assert one.canary is not None and one.baseline is not None
    assert (one.canary.placed, one.baseline.placed) == (15 * sum(spans), 15 * (400 - sum(spans)))


def test_the_same_stage_goes_on_with_its_arms_under_a_new_record() -> None:
    """Case J 56."""
    first = trial()
    drawn(first, SESSIONS[:100])
    new = Fixed(name="new")
    second = Trial("main", record(4, 20.0), Fixed(), new, None, first.arms)
    drawn(second, SESSIONS[:100])
    assert second.arms is not None and second.arms == first.arms
    assert second.arms.canary.scheduler is new
    assert second.arms.canary.placed + second.arms.baseline.placed == 200


def test_an_arm_counts_by_pod_and_which_was_fuller() -> None:
    one = trial(percent=100.0)
    for pod in (A, A, B):
        asked = TrialRequest()
        one.candidate(asked, request("s"))
        one.decided(asked, request("s"), SNAPSHOT, Decision(pod, "x"), 1e-6)
    assert one.canary is not None
    figures = one.canary.figures(0.0)
    assert figures.pods == {A: 2, B: 1}
    assert sum(figures.fuller_by.values()) == 2


def test_a_request_without_a_session_keeps_the_random_bits_of_its_policy() -> None:
    ours = [each for each, is_ours in zip(STRAYS, drawn(trial(percent=10.0), STRAYS), strict=True) if is_ours]
    throws = [mix(each.entropy) >> 63 for each in ours]
    assert abs(sum(throws) - len(throws) / 2) < five_deviations(len(throws), 0.5)


def test_a_retry_stays_on_its_arm_and_is_counted_once() -> None:
    one, asked = trial(percent=100.0), TrialRequest()
    for _ in range(3):
        assert one.candidate(asked, request("s")) is not None
    assert one.canary is not None and one.canary.placed == 1


def test_a_shadow_gets_only_decisions_of_the_pools_own_policy() -> None:
    later = Later()
    shadow = Shadow("main", Fixed(), later, Clock())
    one = Trial("main", record(percent=50.0), Fixed(), Fixed(name="new"), shadow)
    own = 0
    for each in SESSIONS[:100]:
        asked = TrialRequest()
        own += one.candidate(asked, each) is None
        one.decided(asked, each, SNAPSHOT, Decision(A, "x"), 1e-6)
        later.run()
    assert shadow.figures().sampled == own


def test_between_two_samples_no_request_is_kept() -> None:
    later = Later()
    shadow = Shadow("main", Fixed(), later, Clock(), per_s=10.0)
    one = Trial("main", PolicyRecord("old", {}, 3), Fixed(), None, shadow)
    for _ in range(10):
        for _ in range(100):
            one.decided(TrialRequest(), request(), SNAPSHOT, Decision(A, "x"), 1e-6)
        later.run()
    assert shadow.figures().sampled == 10
