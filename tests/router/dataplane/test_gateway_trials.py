"""What the arms of a canary count of real exchanges, and that no trial changes the answer of a request."""

from __future__ import annotations

import asyncio

from router.settings import Pool
from router.trials.figures import ArmFigures
from statesync.store.policy_record import Canary, PolicyChoice
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, event, ok
from tests.fakes.memory_gateway import Rig, one_pool

STREAM = b'{"model":"m","stream":true,"messages":[]}'


def tried(percent: float, pool: Pool | None = None, pods: int = 2, policy: str = "p2c") -> Rig:
    """A gateway with a canary."""
    rig = Rig(pool, pods=pods)
    asyncio.run(rig.policies.set_canary("main", Canary(PolicyChoice(policy), percent)))
    return rig


def arm(rig: Rig, name: str = "canary") -> ArmFigures:
    """The figures of one arm."""
    found: ArmFigures = getattr(rig.trials.running["main"].figures(rig.wire.clock()), name)
    return found


def test_a_request_of_the_canary_is_decided_by_the_candidate_and_its_answer_says_so() -> None:
    with tried(100) as rig:
        client = rig.asks()
        rig.asked().sends(ok(b"{}", "x-turnout-arm: forged"))
        headers = client.answer().headers
        assert (headers["x-turnout-policy"], headers["x-turnout-arm"]) == ("p2c", "canary")
        assert (arm(rig).placed, arm(rig).ended, arm(rig).failures) == (1, 1, 0)
        assert arm(rig, "baseline") == ArmFigures()


def test_sessions_are_split_and_stay_on_their_arm() -> None:
    with tried(50) as rig:
        arms: dict[int, set[str]] = {}
        for session in [*range(40)] * 2:
            client = rig.asks(CHAT, f"x-session-id: s{session}")
            rig.asked().sends(ok())
            arms.setdefault(session, set()).add(client.answer().headers["x-turnout-arm"])
        assert all(len(each) == 1 for each in arms.values())
        drawn = sum(each == {"canary"} for each in arms.values())
        assert 10 < drawn < 30
        assert (arm(rig).placed, arm(rig, "baseline").placed) == (2 * drawn, 80 - 2 * drawn)


def test_a_streams_time_to_first_token_is_counted_for_its_arm() -> None:
    with tried(100) as rig:
        rig.asks(STREAM)
        rig.passes(2.0)
        assert sum(arm(rig).waiting.values()) == 1
        rig.asked().sends(SSE_HEAD, event("one"))
        rig.asked_before().sends(event("two") + LAST_CHUNK)
        figures = arm(rig)
        assert figures.ttft_sum_s == 2.0
        assert (sum(figures.ttft.values()), figures.waiting, figures.unserved, figures.ended) == (1, {}, {}, 1)


def test_later_tokens_are_counted_by_usage_or_by_events_and_by_no_plain_request() -> None:
    """Case J 59."""
    for usage, tokens in ((b"", 9), (b'{"usage":{"completion_tokens":17}}', 17)):
        with tried(100) as rig:
            rig.asks(STREAM)
            rig.asked().sends(SSE_HEAD, event("role"), event("one"))
            rig.passes(1.0)
            last = event(usage.decode()) if usage else b""
            rig.asked_before().sends(event("more") * 8 + last + event("[DONE]") + LAST_CHUNK)
            assert arm(rig).tpot_sum_s == 1.0 / (tokens - 1)
            assert sum(arm(rig).tpot.values()) == 1


def test_a_whole_answer_has_no_time_to_first_token() -> None:
    with tried(100) as rig:
        rig.asks()
        rig.asked().sends(ok())
        assert (arm(rig).ttft, arm(rig).waiting, arm(rig).unserved) == ({}, {}, {})


def test_a_client_that_leaves_is_no_failure_and_its_wait_is_counted() -> None:
    with tried(100) as rig:
        client = rig.asks(STREAM)
        rig.passes(9.0)
        client.leaves()
        figures = arm(rig)
        assert (figures.ended, figures.left, figures.failures) == (1, 1, 0)
        assert sum(figures.unserved.values()) == 1


def test_a_successful_retry_is_no_failure_and_counts_as_one_placement() -> None:
    with tried(100) as rig:
        client = rig.asks()
        rig.asked().dies()
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert (arm(rig).placed, arm(rig).ended, arm(rig).failures) == (1, 1, 0)


def test_a_cut_stream_and_a_pods_error_are_failures() -> None:
    with tried(100) as rig:
        rig.asks(STREAM)
        rig.asked().sends(SSE_HEAD, event("one")).dies()
        rig.asks()
        rig.asked().sends(ok(status="500 Internal Server Error"))
        rig.asks()
        rig.asked().sends(ok(status="400 Bad Request"))
        assert (arm(rig).ended, arm(rig).failures) == (3, 2)


def test_a_request_that_names_its_policy_belongs_to_no_arm() -> None:
    with tried(100, one_pool(allowed_policies=["random"])) as rig:
        client = rig.asks(CHAT, "x-turnout-policy: random")
        rig.asked().sends(ok())
        assert "x-turnout-arm" not in client.answer().headers
        assert arm(rig) == ArmFigures()


def test_a_request_of_a_canary_that_is_over_is_still_counted() -> None:
    with tried(100) as rig:
        client = rig.asks()
        canary = rig.trials.running["main"].canary
        assert canary is not None
        asyncio.run(rig.policies.set_canary("main", None))
        assert not rig.trials.running
        rig.asked().dies()
        rig.asked().sends(ok())
        headers = client.answer().headers
        assert (headers["x-turnout-policy"], headers["x-turnout-attempts"]) == ("round_robin", "2")
        assert (canary.placed, canary.ended) == (1, 1)


def test_a_halted_canary_gets_no_further_request() -> None:
    with tried(100) as rig:
        rig.trials.running["main"].halted = True
        client = rig.asks()
        rig.asked().sends(ok())
        headers = client.answer().headers
        assert (headers["x-turnout-policy"], headers["x-turnout-arm"]) == ("round_robin", "baseline")


def test_predicted_prefix_hits_count_for_the_hit_rate() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 8192)
    with tried(100, pods=1) as rig:
        for _ in range(2):
            rig.asks(body)
            rig.asked().sends(ok())
        assert 0.4 < arm(rig).hits / arm(rig).queries <= 0.5


def test_without_a_trial_an_answer_names_no_arm() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(ok())
        assert "x-turnout-arm" not in client.answer().headers


def test_a_shadow_sees_requests_and_decides_none() -> None:
    with Rig() as rig:
        asyncio.run(rig.policies.set_shadow("main", PolicyChoice("least_load")))
        shadow = rig.trials.running["main"].shadow
        assert shadow is not None
        client = rig.asks()
        rig.asked().sends(ok())
        rig.passes(1.0)
        assert client.answer().headers["x-turnout-policy"] == "round_robin"
        assert (shadow.figures().sampled, shadow.figures().compared) == (1, 1)


def test_a_request_that_another_pool_takes_is_waited_for_on_no_arm() -> None:
    """It would count as one that hangs, for as long as the canary runs."""
    with Rig(pools=[Pool(name="main", fallback=["b"]), Pool(name="b")], pods=1) as rig:
        asyncio.run(rig.policies.set_canary("main", Canary(PolicyChoice("p2c"), 100)))
        client = rig.asks(STREAM)
        rig.asked().dies()
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "b"
        rig.passes(60.0)
        figures = arm(rig)
        assert (figures.placed, figures.ended, figures.left, figures.failures) == (1, 1, 1, 0)
        assert not figures.waiting
