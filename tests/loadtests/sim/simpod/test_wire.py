import asyncio
import socket

import pytest

from loadtests.sim.simpod.fleet import SimPod
from loadtests.sim.simpod.wire import http_date
from tests.fakes.waiting import until

STREAM = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":%d,"ignore_eos":true,"stream":true}'


def post(body: bytes, *headers: bytes) -> bytes:
    given = (b"content-type: application/json", b"content-length: %d" % len(body), *headers)
    head = b"".join(header + b"\r\n" for header in given)
    return b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (head, body)


async def exchange(sent: bytes, pod: SimPod) -> bytes:
    """Send bytes on a new connection and read until the pod closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    writer.write(sent)
    got = await reader.read()
    writer.close()
    return got


def run(sent: bytes, keepalive_s: float = 0.02) -> bytes:
    async def scenario() -> bytes:
        async with SimPod(speed=100, keepalive_s=keepalive_s) as pod:
            async with asyncio.timeout(60):
                return await exchange(sent, pod)

    return asyncio.run(scenario())


def test_an_idle_connection_is_closed_after_the_keepalive_time() -> None:
    got = run(b"GET /health HTTP/1.1\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert b"connection:" not in got


def test_a_client_may_request_a_close() -> None:
    got = run(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n", keepalive_s=3600)
    assert b"\r\nconnection: close\r\n" in got


@pytest.mark.parametrize("asks", [b"", b"connection: keep-alive\r\n"])
def test_an_http_1_0_connection_is_closed_after_its_answer(asks: bytes) -> None:
    """Case G 31."""
    got = run(b"GET /health HTTP/1.0\r\n" + asks + b"\r\n", keepalive_s=3600)
    assert b"\r\nconnection: close\r\n" in got


def test_an_http_1_0_client_gets_a_stream_without_chunks() -> None:
    """Case G 31."""
    got = run(post(STREAM % 3).replace(b"HTTP/1.1", b"HTTP/1.0"), keepalive_s=3600)
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {") and body.endswith(b"data: [DONE]\n\n")


def test_pipelined_requests_are_answered_in_order() -> None:
    got = run(post(STREAM % 5) + b"GET /version HTTP/1.1\r\n\r\n" + b"GET /nope HTTP/1.1\r\nconnection: close\r\n\r\n")
    marks = [got.index(mark) for mark in (b"[DONE]", b"0\r\n\r\nHTTP/1.1 200", b'{"version"', b"HTTP/1.1 404")]
    assert marks == sorted(marks)


def test_a_chunked_upload_is_read_and_a_waiting_client_gets_100_continue() -> None:
    body = STREAM % 1
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:10], body[10:])) + b"0\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n"
    head += b"transfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
    got = run(head + chunks)
    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"])
def test_bytes_that_are_not_http_are_a_400_and_end_the_connection(sent: bytes) -> None:
    got = run(sent, keepalive_s=3600)
    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in got


def test_a_client_that_does_not_read_makes_the_answer_wait_and_loses_nothing() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100_000) as pod:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", pod.port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
            writer.write(post(STREAM % 16000, b"connection: close"))
            await until(lambda: pod.engine.generation_tokens == 16000)
            assert pod.state()["open_requests"] == 1
            got = await reader.read()
            assert got.count(b"\n\n\r\n") == 16000 + 2
            assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            writer.close()

    asyncio.run(scenario())


def test_dates_are_in_http_format() -> None:
    assert http_date(0) == b"Thu, 01 Jan 1970 00:00:00 GMT"
