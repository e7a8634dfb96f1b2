"""A client connection: requests in order, keep-alive, 100-continue, backpressure and how it ends."""

from __future__ import annotations

import pytest

from router.dataplane.http.edge import LINGER_MOST_S, LINGER_S
from router.lifecycle import Phase
from router.settings import Limits, Timeouts
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, Client, event, get, ok, post
from tests.fakes.memory_gateway import Rig

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SMALL_BUFFER = Limits(write_buffer_bytes=1000)
NOT_HTTP = b"\x16\x03\x01\x02\x00\x01"


def test_a_request_may_come_in_any_pieces() -> None:
    with Rig() as rig:
        whole = post()
        client = rig.client().sends(*[whole[at : at + 1] for at in range(len(whole))])
        assert rig.asked().request.body == CHAT
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_connection_serves_one_request_after_the_other() -> None:
    with Rig() as rig:
        client = rig.client()
        for body in (b"1", b"2", b"3"):
            client.sends(post())
            rig.asked().sends(ok(body))
        assert [answer.body for answer in client.answers()] == [b"1", b"2", b"3"]
        assert client.fate == ""


def test_pipelined_requests_are_answered_in_order() -> None:
    with Rig() as rig:
        client = rig.client().sends(post() + get("/livez") + post())
        first = rig.asked()
        assert sum(len(end.requests) for end in rig.net.made) == 1, "one at a time"
        first.sends(ok(b"first"))
        rig.asked().sends(ok(b"third"))
        assert [answer.body for answer in client.answers()] == [b"first", b'{"status":"alive"}', b"third"]


def test_thousands_of_pipelined_requests_in_one_read_are_all_answered() -> None:
    with Rig() as rig:
        client = rig.client()
        rig.wire.turns = 3000
        client.sends(get("/livez") * 3000)
        assert client.raw.count(b"HTTP/1.1 200 OK\r\n") == 3000


def test_only_one_pipelined_request_is_read_ahead() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(), post())
        assert not client.transport.is_reading()
        client.sends(post())
        assert len(rig.clients[0].transport._inbox) == 1
        for body in (b"1", b"2", b"3"):
            rig.asked().sends(ok(body))
        assert [answer.body for answer in client.answers()] == [b"1", b"2", b"3"]
        assert client.transport.is_reading()


def test_a_pipelined_request_behind_one_that_closes_is_not_served() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(CHAT, "connection: close") + post())
        rig.asked().sends(ok())
        assert client.answer().headers["connection"] == "close"
        assert client.fate == "closed"
        assert rig.nobody_asked()


def test_bytes_that_are_no_request_are_refused_after_the_answers_before_them() -> None:
    with Rig() as rig:
        client = rig.client().sends(post() + NOT_HTTP)
        rig.asked().sends(ok(b"fine"))
        first, second = client.answers()
        assert (first.status, first.body, second.status) == (200, b"fine", 400)
        assert second.headers["connection"] == "close"
        assert client.fate == "closed"


def test_a_refused_client_has_time_to_read_the_answer() -> None:
    with Rig() as rig:
        client = rig.client().sends(NOT_HTTP)
        assert client.transport.eof
        rig.passes(LINGER_S - 0.5)
        assert not client.transport.is_closing()
        client.sends(b"leftovers are read and dropped")
        rig.passes(LINGER_S - 0.5)
        assert not client.transport.is_closing()
        rig.passes(1.0)
        assert client.transport.is_closing()


def test_a_refused_client_that_sends_for_ever_is_closed() -> None:
    with Rig() as rig:
        client = rig.client().sends(NOT_HTTP)
        passed = 0
        while not client.transport.is_closing():
            client.sends(b"more")
            rig.passes(1.0)
            passed += 1
        assert LINGER_MOST_S <= passed <= LINGER_MOST_S + 1


@pytest.mark.parametrize("write_s", [0.0, 60.0])
@pytest.mark.parametrize("last", [NOT_HTTP, get("/v1/models", "connection: close") + b"POST /"])
def test_a_client_that_sends_on_has_its_time_to_take_the_last_answer_and_no_more(last: bytes, write_s: float) -> None:
    with Rig(limits=Limits(write_buffer_bytes=100), timeouts=Timeouts(client_write_s=write_s)) as rig:
        client = rig.client()
        client.stops_reading()
        client.sends(last, b"leftovers")
        rig.passes(LINGER_S + 1.0)
        assert client.transport.ending == "", "it has `client_write_s`"
        client.reads_on()
        rig.passes(LINGER_S - 0.5)
        assert not client.transport.is_closing()
        rig.passes(1.0)
        assert client.transport.is_closing()
        assert client.answers("GET")[0].complete


def test_what_a_client_sent_after_its_last_request_is_not_held() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(CHAT, "connection: close") + post(bytes(100_000))[:-1])
        rig.asked().sends(ok())
        assert not client.transport.is_closing()
        assert rig.listener.budget.used == 0


def test_the_last_answer_of_a_client_that_still_sends_is_not_reset() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(b"{}", "connection: close") + b"POST /v1/chat/completions HTTP/1.1\r\n")
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert client.transport.eof
        assert not client.transport.is_closing()
        client.sends(b"host: a\r\n\r\n")
        assert rig.nobody_asked()
        rig.passes(LINGER_S + 0.5)
        assert client.transport.is_closing()


def test_100_continue_is_sent_before_the_body() -> None:
    with Rig() as rig:
        head = post(b"", "expect: 100-continue", f"content-length: {len(CHAT)}", length=False)
        client = rig.client().sends(head)
        assert client.raw == CONTINUE
        client.sends(CHAT)
        rig.asked().sends(ok())
        assert client.raw.startswith(CONTINUE + b"HTTP/1.1 200 OK\r\n")
        assert client.answer().status == 200


def test_100_continue_waits_for_the_answer_before_it() -> None:
    with Rig() as rig:
        head = post(b"", "expect: 100-continue", f"content-length: {len(CHAT)}", length=False)
        client = rig.client().sends(post() + head)
        assert client.raw == b""
        rig.asked().sends(ok(b"first"))
        assert client.raw.endswith(b"first" + CONTINUE)
        client.sends(CHAT)
        rig.asked().sends(ok(b"second"))
        assert [answer.body for answer in client.answers()] == [b"first", b"second"]


def test_100_continue_is_not_sent_when_the_body_has_come_already() -> None:
    with Rig() as rig:
        head = post(b"", "expect: 100-continue", f"content-length: {len(CHAT)}", length=False)
        client = rig.client().sends(post() + head, CHAT)
        rig.asked().sends(ok(b"first"))
        rig.asked().sends(ok(b"second"))
        assert CONTINUE not in client.raw


def test_a_chunked_upload_reaches_the_pod_with_its_length() -> None:
    with Rig() as rig:
        body = b"5;ext=1\r\n" + CHAT[:5] + b"\r\n%x\r\n" % len(CHAT[5:]) + CHAT[5:] + b"\r\n0\r\n\r\n"
        rig.client().sends(post(b"", "transfer-encoding: chunked", length=False) + body)
        request = rig.asked().request
        assert request.body == CHAT
        assert request.headers["content-length"] == str(len(CHAT))
        assert "transfer-encoding" not in request.headers
        rig.asked().sends(ok())


def test_the_trailers_of_an_upload_are_not_taken_for_headers() -> None:
    with Rig() as rig:
        body = b"%x\r\n" % len(CHAT) + CHAT + b"\r\n0\r\nx-checksum: 1\r\n\r\n"
        rig.client().sends(post(b"", "transfer-encoding: chunked", length=False) + body)
        assert "x-checksum" not in rig.asked().request.headers
        rig.asked().sends(ok())


@pytest.mark.parametrize("name", ["x-turnout-pool", "authorization", "Content-Length", "host", "x-turnout-any"])
def test_an_upload_with_a_trailer_that_would_change_it_is_refused(name: str) -> None:
    """Case E 23."""
    with Rig() as rig:
        body = b"%x\r\n" % len(CHAT) + CHAT + b"\r\n0\r\n%b: 5\r\n\r\n" % name.encode()
        client = rig.client().sends(post(b"", "transfer-encoding: chunked", length=False) + body)
        assert (client.answer().status, client.fate) == (400, "closed")
        assert rig.net.made == []


def test_a_thousand_pipelined_offers_to_upgrade_are_answered_in_a_loop() -> None:
    """Case E 24."""
    with Rig() as rig:
        rig.wire.turns = 1200
        offer = get("/livez", "upgrade: h2c", "connection: Upgrade, HTTP2-Settings", "http2-settings: AAMAAABkAAQ")
        client = rig.client().sends(offer * 1000)
        assert client.raw.count(b"HTTP/1.1 200 OK\r\n") == 1000


@each_case("kind", ["h2c", "websocket"])
@each_case("cut", [0, 40, -3])
def test_an_offer_to_upgrade_is_ignored(kind: str, cut: int) -> None:
    with Rig() as rig:
        offer = post(CHAT, f"upgrade: {kind}", "connection: Upgrade, HTTP2-Settings, X-Mine", "x-mine: 1", "x-a: 1")
        client = rig.client().sends(*([offer[:cut], offer[cut:]] if cut else [offer]))
        request = rig.asked().request
        assert request.body == CHAT
        assert {"upgrade", "connection", "x-mine"}.isdisjoint(request.headers)
        assert request.headers["x-a"] == "1"
        rig.asked().sends(ok())
        assert client.answer().status == 200
        client.sends(get("/livez", f"upgrade: {kind}", "connection: upgrade") + get("/livez"))
        assert [answer.status for answer in client.answers()] == [200, 200, 200]


def test_an_offer_to_upgrade_does_not_hide_that_the_client_will_close() -> None:
    with Rig() as rig:
        client = rig.client().sends(get("/livez", "upgrade: h2c", "connection: close, upgrade"))
        assert client.answer("GET").headers["connection"] == "close"
        assert client.fate == "closed"


def test_connect_is_refused() -> None:
    with Rig() as rig:
        client = rig.client().sends(b"CONNECT other:443 HTTP/1.1\r\nhost: other:443\r\n\r\n")
        assert (client.answer().status, client.fate) == (400, "closed")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nothing"])
def test_an_http_1_0_connection_is_kept_only_if_the_answer_says_so(path: str) -> None:
    """Case G 31: what `ab -k` waits for."""
    with Rig() as rig:
        client = rig.client()
        for count in (1, 2):
            client.sends(post(CHAT, "Connection: Keep-Alive", path=path, version="1.0"))
            if "chat" in path:
                rig.asked().sends(ok())
            assert len(client.answers()) == count
            assert client.answers()[-1].headers["connection"] == "keep-alive"
            assert client.fate == ""
        client.sends(post(CHAT, path=path, version="1.0"))
        if "chat" in path:
            rig.asked().sends(ok())
        assert client.answers()[-1].headers["connection"] == "close"
        assert client.fate == "closed"


@pytest.mark.parametrize("request_line", ["GET /livez HTTP/1.0", "GET /v1/models HTTP/1.0", "HEAD /readyz HTTP/1.0"])
def test_the_gateways_own_answers_keep_an_http_1_0_connection_too(request_line: str) -> None:
    """Case G 31."""
    with Rig() as rig:
        client = rig.client().sends(f"{request_line}\r\nconnection: keep-alive\r\n\r\n".encode())
        assert client.answer(request_line[:4].strip()).headers["connection"] == "keep-alive"
        assert client.fate == ""


def test_a_stream_to_an_http_1_0_client_ends_with_its_connection() -> None:
    """Case G 31."""
    with Rig() as rig:
        client = rig.client().sends(post(CHAT, "connection: keep-alive", version="1.0"))
        rig.asked().sends(SSE_HEAD + event("one") + LAST_CHUNK)
        assert client.answer().headers["connection"] == "close"
        assert (client.answer().body, client.fate) == (b"data: one\n\n", "closed")


def slow_client(rig: Rig) -> Client:
    client = rig.client()
    client.stops_reading()
    return client


def test_a_slow_client_makes_the_pod_wait() -> None:
    with Rig(limits=SMALL_BUFFER) as rig:
        client = slow_client(rig).sends(post())
        pod = rig.asked().sends(SSE_HEAD + event("x" * 2000))
        assert not pod.transport.is_reading()
        pod.sends(event("two"), LAST_CHUNK)
        assert client.transport.get_write_buffer_size() < 3000
        client.reads_on()
        assert client.answer().complete
        assert client.answer().body.endswith(b"data: two\n\n")
        assert pod.transport.is_reading()


def test_a_pod_connection_that_ended_its_answer_while_paused_is_read_again() -> None:
    with Rig(pods=1, limits=SMALL_BUFFER) as rig:
        client = slow_client(rig).sends(post())
        rig.asked().sends(ok(b"x" * 5000))
        other = rig.client().sends(post())
        assert len(rig.net.made) == 1, "the connection is used again"
        rig.asked().sends(ok(b"other"))
        assert other.answer().body == b"other"
        client.reads_on()
        assert client.answer().body == b"x" * 5000


def test_a_client_that_reads_nothing_is_given_no_second_answer() -> None:
    with Rig(limits=SMALL_BUFFER) as rig:
        client = slow_client(rig).sends(post() + post())
        rig.asked().sends(ok(b"x" * 5000))
        assert rig.nobody_asked()
        assert client.transport.get_write_buffer_size() < 6000
        client.reads_on()
        rig.asked().sends(ok(b"second"))
        assert [len(answer.body) for answer in client.answers()] == [5000, 6]


def test_a_client_that_sends_requests_and_never_reads_is_paused() -> None:
    with Rig(limits=SMALL_BUFFER) as rig:
        client = slow_client(rig).sends(*[get("/v1/models") * 50] * 50)
        assert client.transport.get_write_buffer_size() < 20_000
        rig.wire.turns = 3000
        client.reads_on()
        assert client.raw.count(b"HTTP/1.1 200 OK\r\n") == 2500


def test_a_client_that_takes_nothing_for_too_long_is_cut_off() -> None:
    with Rig(limits=SMALL_BUFFER, timeouts=Timeouts(client_write_s=5)) as rig:
        client = slow_client(rig).sends(post())
        pod = rig.asked().sends(SSE_HEAD + event("x" * 2000))
        rig.passes(5.1)
        assert (client.fate, pod.fate) == ("aborted", "aborted")
        rig.assert_clean()


def test_a_client_that_does_not_take_the_end_of_its_answer_is_cut_off() -> None:
    with Rig(limits=SMALL_BUFFER, timeouts=Timeouts(client_write_s=5)) as rig:
        client = slow_client(rig).sends(post())
        rig.asked().sends(ok(b"x" * 5000))
        rig.passes(5.1)
        assert client.fate == "aborted"


def test_a_closed_connection_whose_client_does_not_take_the_rest_is_cut_off() -> None:
    with Rig(timeouts=Timeouts(client_write_s=5)) as rig:
        client = slow_client(rig).sends(post(CHAT, "connection: close"))
        rig.asked().sends(ok())
        assert client.fate == "closed"
        rig.passes(5.1)
        assert client.transport.lost


def test_a_client_that_closes_its_side_is_treated_as_gone() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked()
        client.half_closes()
        assert (client.fate, pod.fate) == ("closed", "aborted")
        rig.assert_clean()


def test_an_idle_connection_is_closed_after_a_while() -> None:
    with Rig(timeouts=Timeouts(client_keepalive_s=75)) as rig:
        client = rig.asks()
        rig.asked().sends(ok())
        rig.passes(74)
        assert client.fate == ""
        rig.passes(2)
        assert client.fate == "closed"


def test_a_connection_over_the_limit_is_refused_with_a_reason() -> None:
    with Rig(limits=Limits(max_connections=1)) as rig:
        rig.client()
        second = rig.client()
        assert (second.answer().status, second.fate) == (503, "closed")
        assert second.answer().headers["retry-after"] == "1"
        rig.passes(LINGER_S + 0.1)
        assert second.transport.lost
        assert rig.clients[0].fate == ""


def test_answers_of_a_closing_replica_carry_connection_close() -> None:
    with Rig() as rig:
        client, waiting = rig.asks(), rig.asks()
        rig.asked().sends(SSE_HEAD + event("one"))
        rig.lifecycle.enter(Phase.SETTLING)
        late = rig.asks()
        for _ in range(2):
            rig.asked().sends(ok())
        assert "connection" not in client.answers()[0].headers, "its head was out before"
        for each in (waiting, late):
            assert each.answer().headers["connection"] == "close"
            assert each.fate == "closed"


def test_a_stopped_listener_closes_idle_connections_and_lets_busy_ones_end() -> None:
    with Rig() as rig:
        idle, busy = rig.client(), rig.asks()
        rig.wire.do(rig.listener.stop)
        assert (idle.fate, busy.fate) == ("closed", "")
        rig.asked().sends(ok())
        assert busy.answer().complete
        assert busy.fate == "closed"
