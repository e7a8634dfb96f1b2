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
from tests.fakes.trial_inputs import SNAPSHOT, A, Fixed, TrialRequest, record, request
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
