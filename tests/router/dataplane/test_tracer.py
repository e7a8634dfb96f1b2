"""What pods get of a client's trace, which requests are recorded, and what is collected of them."""

from __future__ import annotations

import json
import logging

import pytest

from router.dataplane.tracer import Tracer
from router.settings import Logging, Pool
from router.telemetry.request_trace import AttemptTrace, RequestOutcome, RequestTrace
from router.telemetry.trace_context import TraceParent, parse
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, PodEnd, event, ok
from tests.fakes.memory_gateway import Rig, one_pool

TRACE, SPAN = 0xAF7651916CD43DD8448EB211C80319C0, 0xB7AD6B7169203331
GIVEN = f"traceparent: 00-{TRACE:032x}-{SPAN:016x}-"
STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
USAGE = (
    '{"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}'
)


def sent(pod: PodEnd) -> TraceParent:
    """The trace that the pod got, which must be one well-formed header."""
    head = bytes(pod.transport.sent).split(b"POST ")[-1].partition(b"\r\n\r\n")[0]
    assert head.lower().count(b"\r\ntraceparent:") == 1
    parent = parse(pod.request.headers["traceparent"].encode())
    assert parent is not None
    return parent


def also_sent(pod: PodEnd, name: str = "tracestate") -> str | None:
    return pod.request.headers.get(name)


def only(rig: Rig) -> tuple[RequestTrace, RequestOutcome]:
    (traced,) = rig.traced
    return traced


def shown(attempts: list[AttemptTrace]) -> list[tuple[int, str]]:
    return [(attempt.status, attempt.error) for attempt in attempts]


def test_the_pod_continues_a_sampled_trace_under_its_attempt() -> None:
    with Rig(sample_ratio=0.0) as rig:
        client = rig.asks(CHAT, f"{GIVEN}01", "tracestate: v=1", "baggage: user=a")
        pod = rig.asked()
        assert also_sent(pod) == "v=1"
        assert also_sent(pod, "baggage") == "user=a"
        got = sent(pod)
        pod.sends(ok())
        assert client.answer().status == 200
        trace, outcome = only(rig)
        assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE, SPAN, b"v=1")
        assert got == (TRACE, trace.attempts[0].span_id, 1)
        assert len({trace.span_id, SPAN, got.span_id}) == 3
        assert (outcome.status, outcome.pool, outcome.model) == (200, "main", "m")


def test_a_long_state_is_passed_on_and_not_kept() -> None:
    with Rig(sample_ratio=1.0) as rig:
        state = "v=" + "1" * 600
        client = rig.asks(CHAT, f"{GIVEN}01", f"tracestate: {state}")
        pod = rig.asked()
        assert also_sent(pod) == state
        pod.sends(ok())
        assert client.answer().status == 200
        assert only(rig)[0].state == b""


def test_a_defect_in_what_is_collected_keeps_no_request_from_its_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(tail: bytes) -> None:
        raise ValueError(tail)

    monkeypatch.setattr("router.dataplane.tracer.cache_use", fails)
    with Rig(sample_ratio=1.0, expect_errors=True) as rig:
        client = rig.asks(CHAT)
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert rig.traced == []
    assert [record.message for record in caplog.records if record.exc_info] == ["the trace of a request was lost"]


def test_a_trace_that_is_not_sampled_passes_through_as_it_came() -> None:
    with Rig(sample_ratio=1.0) as rig:
        rig.asks(CHAT, f"{GIVEN}00", "tracestate: v=1")
        pod = rig.asked()
        assert sent(pod) == (TRACE, SPAN, 0)
        assert also_sent(pod) == "v=1"
        pod.sends(ok())
        assert rig.traced == []


@each_case("given", ["", "traceparent: nonsense", f"traceparent: 00-{0:032x}-{SPAN:016x}-01"])
@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_without_a_readable_header_a_new_trace_begins_and_the_ratio_decides(given: str, ratio: float) -> None:
    with Rig(sample_ratio=ratio) as rig:
        rig.asks(CHAT, *([given, "tracestate: v=1"] if given else []))
        pod = rig.asked()
        got = sent(pod)
        assert got.trace_id not in (0, TRACE)
        assert got.flags == ratio
        assert also_sent(pod) is None
        pod.sends(ok())
        assert len(rig.traced) == ratio
        if rig.traced:
            assert only(rig)[0].parent_id == 0


def test_two_headers_are_malformed() -> None:
    with Rig(sample_ratio=1.0) as rig:
        rig.asks(CHAT, f"{GIVEN}01", f"{GIVEN}01")
        pod = rig.asked()
        assert sent(pod).trace_id != TRACE
        pod.sends(ok())


def test_where_nothing_is_traced_the_header_passes_through() -> None:
    with Rig() as rig:
        rig.asks(CHAT, f"{GIVEN}01", "tracestate: v=1")
        pod = rig.asked()
        assert (sent(pod), also_sent(pod)) == ((TRACE, SPAN, 1), "v=1")
        pod.sends(ok())


def test_each_attempt_is_a_span_of_its_own() -> None:
    with Rig(one_pool(), pods=3, sample_ratio=1.0) as rig:
        client = rig.asks()
        first = rig.asked()
        first.sends(ok(b"{}", status="503 Busy"))
        second = rig.asked()
        second.dies()
        third = rig.asked()
        assert len({sent(pod) for pod in (first, second, third)}) == 3
        third.sends(ok())
        assert client.answer().status == 200
        trace, outcome = only(rig)
        assert shown(trace.attempts) == [(503, ""), (0, "reset"), (200, "")]
        assert [attempt.span_id for attempt in trace.attempts] == [sent(pod).span_id for pod in (first, second, third)]
        assert {sent(pod).trace_id for pod in (first, second, third)} == {trace.trace_id}
        assert outcome.error == ""


def test_traces_that_are_not_recorded_have_ids_of_their_own() -> None:
    with Rig(sample_ratio=0.0) as rig:
        tracer = Tracer(lambda *_: None, 0.0, rig.wire.clock, rig.wire.clock, lambda: 7, rig.view)
        found = [parse(tracer._unsampled().strip().removeprefix(b"traceparent: ")) for _ in range(1000)]
        assert len({parent.trace_id for parent in found if parent is not None}) == 1000


def test_an_unsampled_request_keeps_its_trace_over_its_attempts() -> None:
    with Rig(sample_ratio=0.0) as rig:
        rig.asks()
        first = rig.asked()
        first.sends(ok(b"{}", status="503 Busy"))
        second = rig.asked()
        assert sent(first) == sent(second)
        second.sends(ok())


def test_the_times_and_tokens_of_a_stream_are_collected() -> None:
    with Rig(one_pool("prefix_aware"), sample_ratio=1.0) as rig:
        rig.asks(STREAM)
        pod = rig.asked()
        rig.passes(1.0)
        pod.sends(SSE_HEAD, event("{}"))
        rig.passes(2.0)
        pod.sends(event(USAGE), event("[DONE]"), LAST_CHUNK)
        trace, outcome = only(rig)
        assert outcome.stream
        assert outcome.tokens == {"prompt_tokens": 9, "completion_tokens": 3, "cached_tokens": 4}
        assert outcome.first_at - outcome.arrived_at == pytest.approx(1.0)
        assert outcome.last_at - outcome.first_at == pytest.approx(2.0)
        (attempt,) = trace.attempts
        assert (attempt.policy, attempt.candidates, attempt.pod) == ("prefix_aware", 2, pod.address)
        assert attempt.expected_s > 0.0
        assert outcome.arrived_at <= attempt.decided_at <= attempt.started_at
        metrics = rig.metrics.pool("main")
        for histogram in (metrics.ttft, metrics.e2e):
            (mark,) = histogram.exemplars.values()
            assert (mark.trace_id, mark.at) == (trace.name, 1_700_000_000.0)


def test_a_request_that_is_refused_is_traced_without_an_attempt() -> None:
    with Rig(sample_ratio=1.0) as rig:
        client = rig.asks(b'{"model":"nope"}', f"{GIVEN}01")
        assert client.answer().status == 404
        trace, outcome = only(rig)
        assert (trace.trace_id, trace.attempts) == (TRACE, [])
        assert (outcome.status, outcome.error, outcome.pool) == (404, "model_not_found", "")


def test_a_client_that_leaves_ends_its_trace() -> None:
    with Rig(sample_ratio=1.0) as rig:
        client = rig.asks(STREAM)
        rig.asked().sends(SSE_HEAD, event("{}"))
        client.leaves()
        trace, outcome = only(rig)
        assert (outcome.status, outcome.error) == (499, "client_left")
        assert shown(trace.attempts) == [(200, "client_left")]


def test_the_wait_for_room_is_collected() -> None:
    with Rig(Pool("main", models=["m"], max_inflight_per_pod=1), pods=1, sample_ratio=1.0) as rig:
        rig.asks()
        before = rig.asked()
        rig.asks()
        before.sends(ok())
        rig.asked().sends(ok())
        assert [outcome.waited for _, outcome in rig.traced] == [False, True]


def test_a_long_name_is_cut() -> None:
    with Rig(sample_ratio=1.0) as rig:
        assert rig.asks(b'{"model":"%b"}' % (b"m" * 1000)).answer().status == 404
        assert only(rig)[1].model == "m" * 256


def test_probes_and_lists_are_not_traced() -> None:
    with Rig(sample_ratio=1.0) as rig:
        assert rig.client().sends(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n").answer("GET").status == 200
        assert rig.traced == []


def test_the_access_log_names_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "turnout.access")
    with Rig(sample_ratio=0.0, logging_section=Logging(access=True)) as rig:
        rig.asks(CHAT, f"{GIVEN}01")
        rig.asked().sends(ok())
    (record,) = [record for record in caplog.records if record.name == "turnout.access"]
    assert record.__dict__["trace_id"] == f"{TRACE:032x}"


def test_nothing_of_a_prompt_or_a_header_is_collected() -> None:
    secret = "fb1c-secret"
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": secret}], "user": secret}).encode()
    with Rig(sample_ratio=1.0) as rig:
        rig.asks(body, f"authorization: Bearer {secret}", f"x-session-id: {secret}")
        rig.asked().sends(ok(json.dumps({"text": secret}).encode()))
        trace, outcome = only(rig)
        collected = [
            outcome,
            *((each.pod, each.policy, each.pool, each.model, each.error) for each in trace.attempts),
            *trace.kept,
        ]
        assert secret not in repr(collected)
