"""What one client may send, and how long it may take: 400, 408, 413, 431 and the end of the connection."""

from __future__ import annotations

import json

import pytest

from router.settings import Limits, Timeouts
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, Client, get, ok, post
from tests.fakes.memory_gateway import Rig

SMALL = Limits(max_header_bytes=2000, max_body_bytes=1000)
BIG = b'{"model":"m","pad":"%b"}' % (b"x" * 1000)


def refused(client: Client, status: int, code: str) -> None:
    """The client got the error in OpenAI's shape, and its connection was closed."""
    answer = client.answers()[-1]
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
    assert answer.headers["connection"] == "close"
    assert client.fate == "closed"


@each_case(
    "lines",
    [
        ["content-length: 3", "content-length: 3"],
        ["content-length: 3", "content-length: 4"],
        ["content-length: 3, 3"],
        ["content-length: -1"],
        ["content-length: +3"],
        ["content-length: 1e1"],
        ["content-length: 3", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked", "content-length: 3"],
        ["transfer-encoding: gzip, chunked"],
        ["transfer-encoding: identity"],
        ["transfer-encoding: chunked, identity"],
        ["transfer-encoding: chunked", "transfer-encoding: chunked"],
        ["transfer-encoding: xchunked"],
        ["transfer-encoding : chunked"],
    ],
    ids=" + ".join,
)
def test_a_body_whose_length_is_in_doubt_is_refused(lines: list[str]) -> None:
    with Rig() as rig:
        client = rig.client().sends(post(b"abc", *lines, length=False))
        refused(client, 400, "bad_framing")
        assert rig.net.made == []


@each_case(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nna me: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"NOSUCHMETHOD / HTTP/1.1\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_are_refused(junk: bytes) -> None:
    with Rig() as rig:
        client = rig.client().sends(junk)
        refused(client, 400, "bad_framing")


def test_malformed_chunks_are_refused() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(b"zz\r\n", "transfer-encoding: chunked", length=False))
        refused(client, 400, "bad_framing")


def test_a_body_announced_as_too_large_is_refused_before_it_comes() -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.client().sends(post(b"", "expect: 100-continue", "content-length: 1001", length=False))
        refused(client, 413, "body_too_large")


def test_a_body_as_large_as_it_may_be_is_served() -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.asks(b'{"model":"m","pad":"%b"}' % (b"x" * 978))
        assert len(rig.asked().request.body) == 1000
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_chunked_body_that_grows_too_large_is_refused() -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.client().sends(post(b"", "transfer-encoding: chunked", length=False))
        for _ in range(3):
            client.sends(b"190\r\n" + b"x" * 400 + b"\r\n")
        refused(client, 413, "body_too_large")


def test_too_many_headers_are_refused() -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.client().sends(get("/livez", *[f"x-{n}: {'v' * 50}" for n in range(60)]))
        refused(client, 431, "headers_too_large")


@pytest.mark.parametrize("begin", [b"GET /livez HTTP/1.1\r\nx-long: ", b"GET /", b"GET /livez HTTP/1.1\r\n"])
def test_a_head_that_never_ends_is_refused(begin: bytes) -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.client().sends(begin)
        for _ in range(30):
            if client.fate:
                break
            client.sends(b"a" * 200)
        refused(client, 431, "headers_too_large")


def test_trailers_that_never_end_are_refused() -> None:
    with Rig(limits=SMALL) as rig:
        client = rig.client().sends(post(b"1\r\na\r\n0\r\nx-long: ", "transfer-encoding: chunked", length=False))
        for _ in range(30):
            if client.fate:
                break
            client.sends(b"a" * 1000)
        refused(client, 400, "bad_framing")


def test_another_version_of_http_is_refused() -> None:
    """Case D 20."""
    with Rig() as rig:
        refused(rig.client().sends(b"GET / HTTP/9.9\r\n\r\n"), 505, "http_version_not_supported")


def test_a_large_body_before_the_next_head_is_not_taken_for_headers() -> None:
    with Rig(limits=Limits(max_header_bytes=2000)) as rig:
        second = post(b'{"model":"m","pad":"%b"}' % (b"x" * 5000), "x-second: 1")
        client = rig.client().sends(post() + second[:30], second[30:] + post(CHAT, "x-third: 1")[:40])
        client.sends(post(CHAT, "x-third: 1")[40:])
        for body in (b"1", b"2", b"3"):
            rig.asked().sends(ok(body))
        assert [answer.body for answer in client.answers()] == [b"1", b"2", b"3"]


def test_headers_that_come_too_slowly_are_refused() -> None:
    with Rig(timeouts=Timeouts(client_header_s=10)) as rig:
        client = rig.client().sends(b"POST /v1/chat")
        for _ in range(9):
            rig.passes(1)
            client.sends(b"x")
        assert client.fate == ""
        rig.passes(1.1)
        refused(client, 408, "request_timeout")


def test_the_headers_of_the_next_request_have_their_own_time() -> None:
    with Rig(timeouts=Timeouts(client_header_s=10)) as rig:
        client = rig.client().sends(post() + b"POST /v1")
        rig.passes(30)
        rig.asked().sends(ok())
        rig.passes(9)
        assert client.fate == ""
        rig.passes(2)
        assert client.answers()[0].status == 200
        refused(client, 408, "request_timeout")


def test_a_connection_that_never_sends_a_byte_is_closed_without_an_answer() -> None:
    with Rig(timeouts=Timeouts(client_header_s=10)) as rig:
        client = rig.client()
        rig.passes(10.1)
        assert (client.raw, client.fate) == (b"", "closed")


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    with Rig(timeouts=Timeouts(client_body_s=20)) as rig:
        client = rig.client().sends(post()[:-20])
        rig.passes(19)
        client.sends(b"x")
        rig.passes(2)
        refused(client, 408, "request_timeout")
        assert rig.net.made == []


def test_a_large_body_has_a_second_more_for_every_16_kb() -> None:
    with Rig(timeouts=Timeouts(client_body_s=20)) as rig:
        body = b'{"model":"m","pad":"%b"}' % (b"x" * 400_000)
        client = rig.client().sends(post(b"", f"content-length: {len(body)}", length=False))
        for at in range(0, 400_000, 20_000):
            rig.passes(2)
            client.sends(body[at : at + 20_000])
        assert client.fate == ""
        client.sends(body[400_000:])
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_pipelined_body_has_its_own_time() -> None:
    with Rig(timeouts=Timeouts(client_body_s=20)) as rig:
        client = rig.client().sends(post() + post()[:-10])
        rig.passes(60)
        rig.asked().sends(ok())
        rig.passes(19)
        assert client.fate == ""
        rig.passes(2)
        refused(client, 408, "request_timeout")


def test_limits_of_zero_seconds_are_off() -> None:
    off = Timeouts(client_header_s=0, client_body_s=0, client_keepalive_s=0, first_byte_s=0, idle_s=0)
    with Rig(timeouts=off) as rig:
        client = rig.client()
        for piece in (post()[:5], post()[5:-5], post()[-5:]):
            rig.passes(1e6)
            client.sends(piece)
        pod = rig.asked()
        rig.passes(1e6)
        pod.sends(ok()[:-1])
        rig.passes(1e6)
        pod.sends(ok()[-1:])
        rig.passes(1e6)
        assert client.answer().status == 200
        assert client.fate == ""
