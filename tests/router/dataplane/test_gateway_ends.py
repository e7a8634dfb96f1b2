"""The ways a request ends early: the client leaves, the pod dies or is silent, time is up, the replica closes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from router.lifecycle import Phase
from router.settings import Limits, Pool, Timeouts
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, chunk, event, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

LONG = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"

STAGES: dict[str, Callable[[Rig], object]] = {
    "before a byte": lambda rig: rig.client(),
    "in its headers": lambda rig: rig.client().sends(post()[:30]),
    "in its body": lambda rig: rig.client().sends(post()[:-5]),
    "with another request read": lambda rig: rig.client().sends(post() + post()),
    "while the pod is connected": lambda rig: (hush(rig), rig.asks()),
    "while the pod thinks": lambda rig: rig.asks(),
    "in the pod's head": lambda rig: (rig.asks(), rig.asked().sends(LONG[:20])),
    "after the pod's head": lambda rig: (rig.asks(), rig.asked().sends(LONG)),
    "in an answer": lambda rig: (rig.asks(), rig.asked().sends(LONG + b"abc")),
    "in a stream": lambda rig: (rig.asks(), rig.asked().sends(SSE_HEAD + event("one"))),
    "in an event": lambda rig: (rig.asks(), rig.asked().sends(SSE_HEAD + event("one") + b"20\r\ndata:")),
    "in a second attempt": lambda rig: (rig.asks(), rig.asked().dies()),
    "after its answer": lambda rig: (rig.asks(), rig.asked().sends(ok())),
}


def hush(rig: Rig) -> Rig:
    """No pod accepts a connection."""
    rig.net.silent |= {status.pod.address for status in rig.view.statuses()}
    return rig


@each_case("stage", STAGES)
def test_a_client_that_leaves_leaves_no_charge_and_no_connection(stage: str) -> None:
    with Rig() as rig:
        STAGES[stage](rig)
        rig.clients[0].leaves()
        rig.assert_clean()
        assert rig.nobody_asked()


@each_case("stage", STAGES)
def test_a_pod_that_dies_leaves_no_charge_and_no_connection(stage: str) -> None:
    with Rig(pods=1) as rig:
        STAGES[stage](rig)
        while not rig.nobody_asked():
            rig.asked().dies()
        for end in rig.net.made:
            end.dies()
        rig.passes(3)
        assert not rig.admission.active
        rig.assert_clean()


@each_case("stage", STAGES)
def test_a_drain_that_runs_out_of_time_leaves_no_charge_and_no_connection(stage: str) -> None:
    with Rig() as rig:
        STAGES[stage](rig)
        rig.lifecycle.enter(Phase.DRAINING)
        rig.wire.do(rig.listener.stop)
        rig.wire.do(rig.gateway.cut_off)
        assert not rig.admission.active
        assert rig.inflight == 0


@pytest.mark.parametrize("begun", [b"", SSE_HEAD + event("one")])
def test_a_client_that_leaves_closes_the_pods_connection_at_once(begun: bytes) -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked()
        if begun:
            pod.sends(begun)
        client.leaves()
        assert pod.fate == "aborted"
        assert rig.load(pod).inflight == 0
        assert rig.metrics.client_disconnects == 1
        assert rig.metrics.requests == {("main", "round_robin", pod.address, 499): 1}


BIG = 'event: response.completed\ndata: {"type":"response.completed","text":"%s"}\n\n' % ("x" * 5000)


@each_case("version", ["1.1", "1.0"])
@each_case(
    ("path", "last"),
    [
        ("/v1/chat/completions", "data: [DONE]\n\n"),
        ("/v1/messages", 'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
        ("/v1/responses", 'event: response.completed\ndata: {"type":"response.completed"}\n\n'),
        ("/v1/responses", BIG),
    ],
)
def test_a_client_that_closes_at_the_terminal_event_has_its_whole_answer(path: str, last: str, version: str) -> None:
    """Case G 34."""
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(path=path, version=version))
        pod = rig.asked().sends(SSE_HEAD + event("one"), chunk(last.encode()))
        client.leaves()
        assert pod.fate == ""
        pod.sends(LAST_CHUNK)
        assert len(rig.upstream.idle[pod.address]) == 1, "the connection is kept"
        assert rig.metrics.requests == {("main", "round_robin", pod.address, 200): 1}
        assert rig.metrics.client_disconnects == 0
        assert rig.load(pod).inflight == 0


@pytest.mark.parametrize(
    "sent",
    [
        chunk(b"data: [DONE]"),
        chunk(b'data: {"text":"\\ndata: [DONE]"}\n\n'),
        chunk(b"event: message_stop\n\n")[:-3],
    ],
)
def test_a_client_that_closes_before_the_terminal_event_left(sent: bytes) -> None:
    """Case G 34."""
    with Rig(pods=1) as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"), sent[:5], sent[5:])
        client.leaves()
        assert pod.fate == "aborted"
        assert rig.metrics.client_disconnects == 1


def test_a_pod_that_does_not_end_after_the_terminal_event_loses_its_connection() -> None:
    """Case G 34."""
    with Rig(pods=1) as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"), event("[DONE]"))
        client.leaves()
        rig.passes(61)
        assert pod.fate == "aborted"


def test_the_cache_use_in_an_answer_whose_client_closed_early_is_learned() -> None:
    """Case G 34."""
    learned: list[bytes] = []
    with Rig(one_pool("prefix_aware"), pods=1) as rig:
        usage = '{"usage":{"prompt_tokens":90,"prompt_tokens_details":{"cached_tokens":64}}}'
        rig.gateway._attempts._learn = lambda call, placement, tail: learned.append(tail)
        client = rig.asks(json.dumps({"model": "m", "prompt": "long " * 200}).encode())
        rig.asked().sends(SSE_HEAD + event(usage), event("[DONE]"))
        client.leaves()
        assert [usage.encode() in tail for tail in learned] == [True]
        rig.asked_before().sends(LAST_CHUNK)


def test_a_request_whose_client_left_while_the_pod_was_connected_is_not_sent() -> None:
    with Rig(pods=1) as rig:
        rig.net.slow.add("10.0.0.1:8000")
        rig.asks().leaves()
        rig.wire.do(rig.net.accept)
        (end,) = rig.net.made
        assert end.requests == []
        assert end.fate == "aborted"
        rig.assert_clean()


def test_a_pod_that_dies_in_a_stream_leaves_whole_events_and_an_error() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD + event("one"), event("two")[:-4]).dies()
        answer = client.answer()
        assert not answer.complete
        one, error, rest = answer.body.split(b"\n\n")
        assert (one, rest) == (b"data: one", b"")
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "pod_closed_connection"
        assert client.fate == "closed"


def test_an_anthropic_stream_ends_with_its_own_kind_of_error() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(path="/v1/messages"))
        rig.asked().sends(SSE_HEAD + event("one")).dies()
        error = client.answer().body.split(b"\n\n")[1]
        name, data = error.split(b"\n")
        assert name == b"event: error"
        said = json.loads(data.removeprefix(b"data: "))
        assert (said["type"], said["error"]["type"]) == ("error", "api_error")


def test_a_stream_of_responses_ends_with_an_event_that_goes_on_with_its_numbers() -> None:
    """Case G 35."""
    with Rig() as rig:
        client = rig.client().sends(post(path="/v1/responses"))
        delta = json.dumps({"type": "response.output_text.delta", "sequence_number": 7, "delta": "a longer piece"})
        rig.asked().sends(SSE_HEAD + event(delta)).dies()
        name, data = client.answer().body.split(b"\n\n")[1].split(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: error"
        assert (said["type"], said["code"], said["sequence_number"]) == ("error", "pod_closed_connection", 8)


def test_a_body_that_is_too_large_has_anthropics_type_on_the_messages_path() -> None:
    """Case G 35."""
    with Rig(limits=Limits(max_body_bytes=10)) as rig:
        answer = rig.client().sends(post(path="/v1/messages?beta=true")).answer()
        assert (answer.status, json.loads(answer.body)["error"]["type"]) == (413, "request_too_large")


def test_a_refusal_on_the_messages_path_has_anthropics_type() -> None:
    """Case G 35."""
    with Rig() as rig:
        body = b'{"model":"none","messages":[]}'
        answer = rig.client().sends(post(body, path="/v1/messages")).answer()
        said = json.loads(answer.body)
        assert (answer.status, said["type"], said["error"]["type"]) == (404, "error", "not_found_error")


def test_an_http_1_0_stream_ends_with_an_error_event_too() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(version="1.0"))
        rig.asked().sends(SSE_HEAD + event("one")).dies()
        assert b'data: one\n\ndata: {"error":' in client.raw
        assert client.raw.endswith(b"\n\n")
        assert client.fate == "closed"


def test_a_stream_that_ends_with_its_connection_is_broken_off_when_that_is_reset() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: one\n\n")
        pod.dies()
        answer = client.answer()
        assert answer.body.startswith(b'data: one\n\ndata: {"error":')
        assert not answer.complete


@pytest.mark.parametrize("head", [LONG, SSE_HEAD.replace(b"text/event-stream", b"application/json")])
def test_an_answer_that_is_no_chunked_stream_is_cut_short(head: bytes) -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(head + event("one"))
        rig.asked_before().dies()
        assert client.fate == "aborted"
        assert not client.answer().complete


def test_a_pod_that_sends_no_first_byte_in_time_is_not_waited_for() -> None:
    with Rig(timeouts=Timeouts(first_byte_s=30)) as rig:
        client = rig.asks()
        pod = rig.asked()
        rig.passes(29)
        assert client.raw == b""
        rig.passes(2)
        assert (client.answer().status, pod.fate) == (504, "aborted")
        assert len(rig.net.made) == 1, "another pod would do the same work for the same wait"
        rig.assert_clean()


def test_a_head_without_a_body_counts_as_silence() -> None:
    with Rig(timeouts=Timeouts(first_byte_s=30, idle_s=5)) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD)
        rig.passes(29)
        assert client.raw == b""
        rig.passes(2)
        assert client.answer().status == 504


def test_a_pod_that_stops_sending_within_its_answer_is_not_waited_for() -> None:
    with Rig(timeouts=Timeouts(idle_s=5)) as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        for _ in range(5):
            rig.passes(4)
            pod.sends(event("more"))
        rig.passes(5.1)
        answer = client.answer()
        assert b'"pod_stalled"' in answer.body
        assert (answer.complete, pod.fate) == (False, "aborted")


def test_a_slow_client_does_not_run_into_the_pods_idle_timeout() -> None:
    with Rig(timeouts=Timeouts(idle_s=5, client_write_s=60)) as rig:
        client = rig.client()
        client.stops_reading()
        client.sends(post())
        pod = rig.asked().sends(SSE_HEAD + event("x" * 100_000))
        rig.passes(30)
        assert (client.fate, pod.fate) == ("", "")
        client.reads_on()
        pod.sends(LAST_CHUNK)
        assert client.answer().complete


@pytest.mark.parametrize("begun", [b"", SSE_HEAD + event("one")])
def test_an_answer_that_exceeds_the_total_timeout_is_ended(begun: bytes) -> None:
    with Rig(timeouts=Timeouts(total_s=10)) as rig:
        client = rig.asks()
        pod = rig.asked()
        rig.passes(9)
        if begun:
            pod.sends(begun)
        rig.passes(1.1)
        assert pod.fate == "aborted"
        assert b'"request_timed_out"' in client.raw
        assert client.answer().status == (200 if begun else 504)
        assert client.answer().complete == (not begun)
        rig.assert_clean()


def test_the_clients_deadline_shortens_the_total_timeout() -> None:
    with Rig(timeouts=Timeouts(total_s=10)) as rig:
        client = rig.asks(CHAT, "x-turnout-deadline-ms: 2000")
        rig.passes(2.1)
        assert client.answer().status == 504
        later = rig.asks(CHAT, "x-turnout-deadline-ms: 60000")
        rig.passes(10.1)
        assert later.answer().status == 504


@each_case("value", ["soon", "0", "-5", "1.5", "9" * 400, "\xff"])
def test_a_malformed_deadline_is_refused(value: str) -> None:
    with Rig() as rig:
        client = rig.asks(CHAT, f"x-turnout-deadline-ms: {value}")
        assert client.answer().status == 400
        assert client.fate == ""
        assert rig.net.made == []


def test_a_pool_has_its_own_timeouts() -> None:
    quick = Pool(name="quick", models=["q"], timeouts=Timeouts(first_byte_s=1))
    with Rig(pools=[quick, Pool(name="slow", models=["s"])]) as rig:
        first, second = rig.asks(b'{"model":"q"}'), rig.asks(b'{"model":"s"}')
        rig.passes(2)
        assert first.answer().status == 504
        assert second.raw == b""


def test_a_drain_out_of_time_ends_streams_with_an_error_and_waiting_requests_with_an_answer() -> None:
    with Rig() as rig:
        stream, waiting = rig.asks(), rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        rig.lifecycle.enter(Phase.DRAINING)
        rig.wire.do(rig.listener.stop)
        rig.wire.do(rig.gateway.cut_off)
        assert b'"gateway_draining"' in stream.answer().body
        assert not stream.answer().complete
        assert pod.fate == "aborted"
        assert waiting.answer().status == 503
        assert (stream.fate, waiting.fate) == ("closed", "closed")
        rig.assert_clean()


def test_an_event_too_large_to_hold_back_is_passed_on_in_pieces_and_cut_when_the_pod_dies() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + b"30000\r\n", *[b"x" * 50_000] * 3)
        assert client.answer().body.count(b"x") >= 100_000
        pod.dies()
        assert client.fate == "aborted"


def test_an_error_event_follows_a_pods_death_after_a_large_event_has_ended() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD + chunk(b"x" * 100_000 + b"\n\n")[:90_000])
        pod = rig.asked_before().sends(chunk(b"x" * 100_000 + b"\n\n")[90_000:], event("two"))
        pod.dies()
        assert client.fate == "closed"
        assert client.answer().body.split(b"\n\n")[2].startswith(b'data: {"error"')
