"""One request from client to pod and back, and what each side receives."""

from __future__ import annotations

import pytest

from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, chunk, event, ok, post
from tests.fakes.memory_gateway import Rig


def test_a_request_reaches_a_pod_and_its_answer_the_client() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked()
        assert (pod.request.method, pod.request.target, pod.request.body) == ("POST", "/v1/chat/completions", CHAT)
        assert rig.view.status(rig.view.statuses()[0].pod.id).load.inflight == 1
        pod.sends(ok(b'{"id":"x"}'))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b'{"id":"x"}')
        assert client.fate == ""
        rig.assert_clean()


def test_a_stream_is_passed_on_event_by_event() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD)
        assert client.raw == b"", "the head is held until there is a body byte"
        pod.sends(event("one"))
        assert client.raw.endswith(b"\r\n\r\n" + event("one"))
        pod.sends(event("two") + LAST_CHUNK)
        answer = client.answer()
        assert answer.complete
        assert answer.body == b"data: one\n\ndata: two\n\n"
        rig.assert_clean()


def test_the_query_and_the_clients_own_headers_reach_the_pod() -> None:
    with Rig() as rig:
        rig.client().sends(post(CHAT, "authorization: Bearer k", "x-mine: 1", path="/v1/completions?beta=true"))
        request = rig.asked().request
        assert request.target == "/v1/completions?beta=true"
        assert (request.headers["authorization"], request.headers["x-mine"]) == ("Bearer k", "1")
        rig.asked().sends(ok())


def test_the_host_header_is_the_pods_address() -> None:
    with Rig() as rig:
        rig.asks()
        assert rig.asked().request.headers["host"] == rig.asked().address
        rig.asked().sends(ok())


def test_hop_by_hop_headers_of_the_client_are_dropped() -> None:
    with Rig() as rig:
        rig.asks(CHAT, "keep-alive: timeout=5", "te: trailers", "proxy-connection: x", "connection: keep-alive, x-mine")
        assert {"keep-alive", "te", "proxy-connection", "connection"}.isdisjoint(rig.asked().request.headers)
        rig.asked().sends(ok())


def test_headers_named_by_the_clients_connection_header_are_dropped() -> None:
    with Rig() as rig:
        rig.asks(CHAT, "connection: keep-alive, X-Mine", "x-mine: secret", "x-other: 1")
        headers = rig.asked().request.headers
        assert "x-mine" not in headers
        assert headers["x-other"] == "1"
        rig.asked().sends(ok())


def test_headers_named_by_the_pods_connection_header_are_dropped() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(
            ok(b"{}", "connection: close, X-Internal", "x-internal: 1", "keep-alive: timeout=5", "x-a: 1")
        )
        headers = client.answer().headers
        assert {"connection", "x-internal", "keep-alive"}.isdisjoint(headers)
        assert headers["x-a"] == "1"


def test_a_valid_request_id_is_kept_and_sent_to_both_sides() -> None:
    with Rig() as rig:
        client = rig.asks(CHAT, "x-request-id: mine-1")
        assert rig.asked().request.headers["x-request-id"] == "mine-1"
        rig.asked().sends(ok(b"{}", "x-request-id: the-pods-own"))
        assert client.answer().headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["", "x-request-id: has space", f"x-request-id: {'a' * 129}"])
def test_a_request_without_a_valid_id_gets_one(given: str) -> None:
    with Rig() as rig:
        client = rig.asks(CHAT, *([given] if given else []))
        made = rig.asked().request.headers["x-request-id"]
        assert made.startswith("000000000abc")
        rig.asked().sends(ok())
        assert client.answer().headers["x-request-id"] == made


def test_the_answer_names_the_pod_that_gave_it() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked()
        pod.sends(ok(b"{}", "x-turnout-pod: nested", "x-turnout-attempts: 9"))
        headers = client.answer().headers
        assert headers["x-turnout-pod"] == pod.address
        assert headers["x-turnout-policy"] == "round_robin"
        assert headers["x-turnout-replica"] == "rig"
        assert headers["x-turnout-attempts"] == "1"


def test_the_gateways_own_request_headers_do_not_reach_the_pod() -> None:
    with Rig() as rig:
        rig.asks(
            CHAT, "x-turnout-pool: main", "x-turnout-priority: 3", "x-turnout-deadline-ms: 5000", "expect: nothing"
        )
        assert not [name for name in rig.asked().request.headers if name.startswith("x-turnout")]
        assert "expect" not in rig.asked().request.headers
        rig.asked().sends(ok())


def test_the_session_id_reaches_the_pod() -> None:
    with Rig() as rig:
        rig.asks(CHAT, "x-session-id: s1")
        assert rig.asked().request.headers["x-session-id"] == "s1"
        rig.asked().sends(ok())


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_ends_with_its_head(status: str) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(f"HTTP/1.1 {status}\r\nx-a: 1\r\n\r\n".encode())
        answer = client.answer()
        assert answer.complete
        assert (answer.status, answer.body) == (int(status[:3]), b"")
        assert client.sends(post()).fate == ""
        assert len(rig.net.made) == 1, "the connection was used again"
        rig.asked().sends(ok())


def test_an_answer_of_length_zero_is_passed_on() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(ok(b""))
        assert (client.answer().body, client.answer().complete) == (b"", True)


def test_interim_answers_of_the_pod_are_skipped() -> None:
    with Rig() as rig:
        client = rig.asks()
        early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        rig.asked().sends(b"HTTP/1.1 100 Continue\r\n\r\n" + early, early + ok(b"{}", "x-a: 1"))
        answer = client.answer()
        assert (answer.status, answer.body, "link" in answer.headers) == (200, b"{}", False)


def test_an_answer_that_ends_with_its_connection_is_sent_in_chunks() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nab", b"cd")
        pod.closes()
        answer = client.answer()
        assert (answer.body, answer.complete, answer.headers["transfer-encoding"]) == (b"abcd", True, "chunked")
        assert client.fate == ""
        rig.assert_clean()


def test_a_chunked_answer_that_is_no_stream_is_passed_on_as_it_comes() -> None:
    with Rig() as rig:
        client = rig.asks()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        pod = rig.asked().sends(head + b"5\r\nhel")
        assert client.raw.endswith(b"5\r\nhel")
        pod.sends(b"lo\r\n" + LAST_CHUNK)
        assert client.answer().body == b"hello"
        assert client.answer().complete


def test_an_http_1_0_client_gets_the_payload_without_chunks_and_the_connection_closes() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(version="1.0"))
        rig.asked().sends(SSE_HEAD + event("one")[:4], event("one")[4:] + chunk(b"data: two\n\n"), LAST_CHUNK)
        answer = client.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body == b"data: one\n\ndata: two\n\n"
        assert client.fate == "closed"


def test_an_http_1_0_client_gets_a_known_length_and_may_keep_the_connection() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(CHAT, "connection: keep-alive", version="1.0"))
        rig.asked().sends(ok(b"abc"))
        assert client.answer().headers["content-length"] == "3"
        assert client.fate == ""
        rig.client().sends(post(version="1.0"))
        rig.asked().sends(ok())
        assert rig.clients[1].fate == "closed"


def test_a_pod_connection_is_used_again_for_the_next_request() -> None:
    with Rig(pods=1) as rig:
        for _ in range(3):
            client = rig.asks()
            rig.asked().sends(ok())
            assert client.answer().status == 200
        assert len(rig.net.made) == 1


@pytest.mark.parametrize("answer", [ok(b"{}", "connection: close"), ok(b"{}") + b"too much", b"HTTP/1.0" + ok()[8:]])
def test_a_pod_connection_that_cannot_be_used_again_is_closed(answer: bytes) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        pod = rig.asked().sends(answer)
        assert client.answer().complete
        assert pod.fate == "aborted"
        assert not rig.upstream.idle


def test_a_streams_time_to_first_token_and_inter_token_latency_are_measured() -> None:
    with Rig() as rig:
        rig.asks()
        pod = rig.asked()
        rig.passes(0.25)
        pod.sends(SSE_HEAD + event("one"))
        rig.passes(0.05)
        pod.sends(event("two") + LAST_CHUNK)
        metrics = rig.metrics.pool("main")
        assert (metrics.ttft.count, metrics.ttft.sum) == (1, 0.25)
        assert metrics.itl.count == 1
        assert metrics.itl.sum == pytest.approx(0.05)
        assert metrics.e2e.sum == pytest.approx(0.3)
        status = rig.view.statuses()[0]
        assert status.load.ttft_ewma_s == pytest.approx(0.25)
        assert metrics.ttft_ratio.count == 1
        assert metrics.ttft_ratio.sum == pytest.approx(0.25 / status.expected_ttft_s)
        assert rig.metrics.requests == {("main", "round_robin", pod.address, 200): 1}


def test_the_first_token_releases_the_pending_prefill() -> None:
    with Rig(pods=1) as rig:
        rig.asks()
        assert rig.view.statuses()[0].load.pending_prefill_tokens > 0
        rig.asked().sends(SSE_HEAD + event("one"))
        load = rig.view.statuses()[0].load
        assert (load.inflight, load.pending_prefill_tokens) == (1, 0)
