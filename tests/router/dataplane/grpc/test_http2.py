"""One HTTP/2 connection: what waits for a window, and what its far end reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from hyperframe.frame import Frame, GoAwayFrame

from router.dataplane.grpc.client import PREFACE
from router.dataplane.grpc.http2 import Http2Connection, goaway
from router.dataplane.grpc.status import Headers
from tests.fakes.memory_transport import Transport, Wire

HEAD = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"x")]


class Taker:
    """Takes the events of a stream."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        self.seen.append(("headers", ended))

    def data(self, piece: bytes, counted: int, /) -> None:
        self.seen.append((piece, counted))

    def ended(self) -> None:
        self.seen.append("ended")

    def reset(self, code: int, /) -> None:
        self.seen.append(("reset", code))


class Server(Http2Connection):
    """Gives every stream to a taker."""

    def __init__(self) -> None:
        super().__init__(client=False)
        self.takers: dict[int, Taker] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.h2.receive_data(PREFACE)
        super().connection_made(transport)

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        self.streams[stream] = self.takers[stream] = Taker()


Connected = tuple[Wire, Server, Transport, H2Connection]


@pytest.fixture
def connected() -> Iterator[Connected]:
    wire, server = Wire(), Server()
    transport = Transport(wire.loop, server)
    wire.do(lambda: server.connection_made(transport))
    far = H2Connection(H2Configuration(client_side=True, header_encoding=False))
    far.initiate_connection()
    far.data_to_send(len(PREFACE))
    yield wire, server, transport, far
    wire.close()


def test_a_body_waits_for_the_window_and_its_end_for_the_body(connected: Connected) -> None:
    wire, server, transport, far = connected
    sent: list[int] = []
    far.send_headers(1, HEAD, end_stream=True)
    wire.do(lambda: transport.deliver(far.data_to_send()))

    def answer() -> None:
        server.send_headers(1, [(b":status", b"200")], end=False, on_sent=sent.append)
        for number in range(3):
            server.send(1, b"x" * 50_000, number)
        server.finish(1, [(b"grpc-status", b"0")])
        server.flush()

    wire.do(answer)
    read, body, trailers = 0, 0, False
    assert sent == [0], "the second piece waits in the middle"
    for _ in range(20):
        raw = bytes(transport.sent)
        for event in far.receive_data(raw[read:]) if raw[read:] else ():
            if isinstance(event, events.DataReceived):
                body += len(event.data)
                far.acknowledge_received_data(event.flow_controlled_length, 1)
            trailers = trailers or isinstance(event, events.TrailersReceived)
        read = len(raw)
        wire.do(lambda: transport.deliver(far.data_to_send()))
    assert (body, sent, trailers) == (150_000, [0, 1, 2], True)


def test_a_far_end_that_does_not_read_stops_the_queues(connected: Connected) -> None:
    wire, server, transport, far = connected
    sent: list[int] = []
    far.send_headers(1, HEAD, end_stream=True)
    wire.do(lambda: transport.deliver(far.data_to_send()))

    def answer() -> None:
        server.pause_writing()
        server.send_headers(1, [(b":status", b"200")], end=False, on_sent=sent.append)
        server.send(1, b"x", 1)
        server.finish(1, [])

    wire.do(answer)
    assert sent == []
    wire.do(server.resume_writing)
    assert sent == [1]


def test_a_stream_s_events_come_in_order_and_a_lost_connection_ends_it(connected: Connected) -> None:
    wire, server, transport, far = connected
    far.send_headers(1, HEAD)
    far.send_data(1, b"one")
    far.end_stream(1)
    far.send_headers(3, HEAD)
    wire.do(lambda: transport.deliver(far.data_to_send()))
    assert server.takers[1].seen == [(b"one", 3), (b"", 0), "ended"]
    wire.do(lambda: transport.hang_up(ConnectionResetError()))
    assert server.takers[3].seen[-1][0] == "reset"
    server.acknowledge(1, 3)
    server.flush()
    server.close()


def test_a_frame_that_is_too_long_is_refused_before_it_has_come(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01x"))
    assert (transport.ending, server.streams) == ("closed", {})


def test_the_goodbye_is_a_frame_that_others_read() -> None:
    frame, length = Frame.parse_frame_header(memoryview(goaway(7)[:9]))
    frame.parse_body(memoryview(goaway(7)[9:]))
    assert isinstance(frame, GoAwayFrame)
    assert (length, frame.last_stream_id, frame.error_code) == (8, 7, 0)


def test_a_stream_that_is_cancelled_by_the_bytes_that_let_it_go_on_ends_alone(connected: Connected) -> None:
    wire, server, transport, far = connected
    for stream in (1, 3):
        far.send_headers(stream, HEAD)
    wire.do(lambda: transport.deliver(far.data_to_send()))

    def answer() -> None:
        server.send_headers(1, [(b":status", b"200")], end=False, on_sent=lambda _: None)
        server.send(1, b"x" * 100_000, 0)
        server.flush()

    wire.do(answer)
    far.receive_data(bytes(transport.sent))
    far.acknowledge_received_data(65_535, 1)
    far.reset_stream(1)
    wire.do(lambda: transport.deliver(far.data_to_send()))
    assert (server.takers[1].seen[-1], transport.ending) == (("reset", 0), "")
    far.send_data(3, b"on", end_stream=True)
    wire.do(lambda: transport.deliver(far.data_to_send()))
    assert server.takers[3].seen == [(b"on", 2), "ended"]


def test_an_answer_to_a_stream_that_was_cancelled_meanwhile_is_dropped(connected: Connected) -> None:
    wire, server, transport, far = connected
    far.send_headers(1, HEAD)
    far.reset_stream(1)
    began = server.began

    def refuse(stream: int, headers: Headers, *, ended: bool) -> None:
        began(stream, headers, ended=ended)
        server.send_headers(stream, [(b":status", b"200")], end=True, on_sent=lambda _: None)

    server.began = refuse  # type: ignore[method-assign]
    wire.do(lambda: transport.deliver(far.data_to_send()))
    assert (server.takers[1].seen, transport.ending) == ([("reset", 0)], "")
