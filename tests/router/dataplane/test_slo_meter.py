"""Answers against promised times, through the gateway's stages."""

from __future__ import annotations

import gc

import pytest

from router.dataplane.slo_meter import SloMeter, events_in
from router.settings import Pool, PoolSlo
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, event, ok
from tests.fakes.memory_gateway import Rig, one_pool

SLO = PoolSlo(ttft_s=2.0, tpot_s=0.1)
TOKENS = 11


def long(word: bytes) -> bytes:
    """A prompt that takes a pod two seconds to read."""
    return b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (word * 30_000)


def rig_of(slo: PoolSlo = SLO, policy: str = "round_robin") -> Rig:
    return Rig(one_pool(policy, slo=slo))


def results(rig: Rig) -> dict[str, int]:
    return {result: count for (_, result), count in rig.gateway.deps.metrics.slo_requests.items()}


def stream(rig: Rig, first_s: float, each_s: float, *headers: str, usage: int = 0) -> None:
    """One answer of 11 tokens; `usage` says that they are this many."""
    client = rig.asks(CHAT, *headers)
    pod = rig.asked()
    rig.wire.clock.now += first_s
    pod.sends(SSE_HEAD + event("role"))
    for _ in range(TOKENS - 1):
        rig.wire.clock.now += each_s
        pod.sends(event("token"))
    counts = f'"usage":{{"prompt_tokens":9,"completion_tokens":{usage}}}'
    last = event(f'{{"id":"chatcmpl-0","choices":[],{counts}}}') if usage else event("token")
    pod.sends(last + event("[DONE]") + LAST_CHUNK)
    assert client.answer().complete


@pytest.mark.parametrize(
    ("first_s", "each_s", "result"),
    [(1.9, 0.09, "kept"), (2.1, 0.01, "late"), (0.5, 0.12, "slow"), (2.1, 0.5, "late")],
)
def test_a_stream_is_kept_late_or_slow(first_s: float, each_s: float, result: str) -> None:
    with rig_of() as rig:
        stream(rig, first_s, each_s)
        assert results(rig) == {result: 1}
        rig.assert_clean()


def test_the_tokens_of_the_usage_count_where_it_is_there() -> None:
    with rig_of() as rig:
        stream(rig, 0.5, 0.15, usage=21)  # two tokens an event
        assert results(rig) == {"kept": 1}


def test_a_requests_own_times_stand_in_for_its_pools() -> None:
    with rig_of() as rig:
        stream(rig, 1.0, 0.01, "x-turnout-slo-ttft-ms: 500")
        stream(rig, 1.0, 0.15, "x-turnout-slo-tpot-ms: 200")
        assert results(rig) == {"late": 1, "kept": 1}


def test_what_measured_an_answer_goes_with_it() -> None:
    """Its relay points back to the exchange: a cycle would be left to the garbage collector."""
    with rig_of() as rig:
        before = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            stream(rig, 0.5, 0.01)
            assert not [each for each in gc.get_objects() if type(each) is SloMeter]
        finally:
            if before:
                gc.enable()


def test_requests_without_a_promise_are_not_counted() -> None:
    with rig_of(PoolSlo()) as rig:
        stream(rig, 9.0, 1.0)
        assert results(rig) == {}
    with rig_of() as rig:
        stream(rig, 9.0, 1.0, "x-turnout-slo-ttft-ms: 0", "x-turnout-slo-tpot-ms: 0")
        assert results(rig) == {}


@pytest.mark.parametrize(("took_s", "result"), [(2.9, "kept"), (3.1, "late")])
def test_a_whole_answer_has_the_time_of_both_together(took_s: float, result: str) -> None:
    with rig_of() as rig:
        rig.asks()
        rig.wire.clock.now += took_s
        rig.asked().sends(ok(b'{"text":"%s","usage":{"prompt_tokens":5,"completion_tokens":11}}' % (b"word " * 11)))
        assert results(rig) == {result: 1}


def test_a_whole_answer_says_nothing_of_one_time_alone() -> None:
    with rig_of(PoolSlo(ttft_s=2.0)) as rig:
        rig.asks()
        rig.asked().sends(ok())
        assert results(rig) == {}


def test_a_compressed_stream_says_nothing() -> None:
    with rig_of() as rig:
        rig.asks()
        head = SSE_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        rig.asked().sends(head + b"3\r\n\x1f\x8b\x08\r\n" + LAST_CHUNK)
        assert results(rig) == {}


def test_a_request_that_no_pod_answers_is_unserved_and_a_bad_one_is_not_counted() -> None:
    with rig_of() as rig:
        for _ in range(3):
            rig.asks()
            rig.asked().sends(ok(status="400 Bad Request"))
        assert results(rig) == {}
        client = rig.asks()
        for _ in range(3):
            rig.asked().sends(ok(status="500 Internal Server Error"))
            if client.raw:
                break
        assert results(rig) == {"unserved": 1}


def test_malformed_times_are_refused() -> None:
    with Rig() as rig:
        answer = rig.asks(CHAT, "x-turnout-slo-ttft-ms: soon").answer()
        assert answer.status == 400
        assert b"x-turnout-slo-ttft-ms" in answer.body


def test_the_headers_do_not_reach_the_pod() -> None:
    with Rig() as rig:
        rig.asks(CHAT, "x-turnout-slo-ttft-ms: 500", "x-turnout-slo-tpot-ms: 50")
        assert not [name for name in rig.asked().request.headers if "slo" in name]


def test_policies_see_what_a_request_and_those_on_a_pod_were_promised() -> None:
    with rig_of() as rig:
        rig.asks()
        (_, load) = rig.gateway.deps.view.snapshot("main").candidates[0]
        assert len(load.promised) == 1
        rig.asked().sends(ok())
        assert rig.gateway.deps.view.snapshot("main").candidates[0].load.promised == ()


def test_a_low_priority_is_refused_where_its_times_are_out_of_reach() -> None:
    with rig_of(policy="slo_goodput") as rig:
        for word in (b"word ", b"more "):  # no pod holds any of the other's
            rig.asks(long(word))
        answer = rig.asks(CHAT, "x-turnout-priority: -1", "x-turnout-slo-ttft-ms: 100").answer()
        assert answer.status == 503
        assert b"slo_out_of_reach" in answer.body
        assert int(answer.headers["retry-after"]) >= 1
        assert results(rig) == {"unserved": 1}
        for _ in range(2):
            rig.asked().sends(ok())
        rig.asks(CHAT, "x-turnout-priority: -1", "x-turnout-slo-ttft-ms: 100")
        rig.asked().sends(ok())
        assert results(rig) == {"unserved": 1, "kept": 3}


def test_a_fall_back_takes_what_its_own_pool_refuses_and_promises_what_it_promises() -> None:
    own = one_pool("slo_goodput", slo=PoolSlo(ttft_s=0.1), fallback=["other"])
    other = Pool(name="other", models=["m"], slo=PoolSlo(ttft_s=9.0, tpot_s=9.0))
    with Rig(pools=[own, other], pods={"main": 1, "other": 1}) as rig:
        rig.asks(long(b"word "))
        held = rig.asked()
        client = rig.asks(CHAT, "x-turnout-priority: -1")
        next(pod for pod in rig.net.made if pod is not held).sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "other"
        assert dict(rig.gateway.deps.metrics.slo_requests) == {("other", "kept"): 1}
        held.sends(ok())


@each_case(
    ("piece", "events"),
    [
        (b"data: one\n\n", 1),
        (b"b\r\ndata: one\n\n\r\n", 1),
        (b"1ffff\r\ndata: one\n\n\r\n", 1),
        (b"data: [DONE]\n\n\r\n0\r\n\r\n", 1),
        (b"data: one\r\n\r\n", 1),
        (b"event: ping\ndata: {}\n\n", 1),
        (b"data: one\n\ndata: two\n\n", 2),
        (b"b\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n", 2),
        (b"data: the beginning of", 1),
        (b"\n\ndata: two\n\n", 1),
        (b"\r\nb\r\ndata: two\n\n\r\n", 1),
        (b" the rest of it\n\n", 0),
        (b"data: it says data: and more\n\n", 1),
        (b": a comment\n\n", 0),
        (b"0\r\n\r\n", 0),
        (b"", 0),
    ],
)
def test_events_are_counted_by_their_data(piece: bytes, events: int) -> None:
    assert events_in(piece) == events
