"""One HTTP/2 connection: what waits for a window, and what its far end reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from hpack import Encoder

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import ErrorCode, frame, header_frames, rst_stream, window_update
from router.dataplane.grpc.http2 import PREFACE, Http2Connection
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
        super().connection_made(transport)

    def began(self, stream: int, headers: Headers, *, ended: bool) -> None:
        self.streams[stream] = self.takers[stream] = Taker()


Connected = tuple[Wire, Server, Transport, H2Connection]


@pytest.fixture
def connected() -> Iterator[Connected]:
    wire, server = Wire(), Server()
    transport = Transport(wire.loop, cast(asyncio.Protocol, server))
    wire.do(lambda: server.connection_made(transport))
    far = H2Connection(H2Configuration(client_side=True, header_encoding=False))
    far.initiate_connection()
    far.data_to_send(len(PREFACE))
    yield wire, server, transport, far
    wire.close()
    assert wire.crashes == []


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
    assert server.takers[1].seen == [(b"one", 3), "ended"]
    wire.do(lambda: transport.hang_up(ConnectionResetError()))
    assert server.takers[3].seen[-1][0] == "reset"
    server.acknowledge(1, 3)
    server.flush()
    server.close()


def test_a_frame_that_is_too_long_is_refused_before_it_has_come(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01x"))
    assert (transport.ending, server.streams) == ("closed", {})


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


def begins(stream: int, headers: Headers = HEAD, *, end: bool = False) -> bytes:
    """A request, which leaves no trace in the compression."""
    return header_frames(stream, Encoder().encode([(*each, True) for each in headers]), 16384, end=end)


def promises(stream: int, length: int, *, end: bool = False) -> bytes:
    """A request that says how long its body is."""
    return begins(stream, [*HEAD, (b"content-length", b"%d" % length)], end=end)


def settings(name: int, value: int) -> bytes:
    return frame(frames.SETTINGS, 0, 0, name.to_bytes(2) + value.to_bytes(4))


BREAKS = {
    "data of no stream": (frame(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data of stream 0": (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "an even stream": (begins(2), ErrorCode.PROTOCOL_ERROR),
    "headers of stream 0": (begins(0), ErrorCode.PROTOCOL_ERROR),
    "a reset of no stream": (rst_stream(7, 0), ErrorCode.PROTOCOL_ERROR),
    "a window of no stream": (window_update(7, 1), ErrorCode.PROTOCOL_ERROR),
    "a push": (frame(frames.PUSH_PROMISE, 4, 1, b"abcd"), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(frames.CONTINUATION, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "a frame between headers": (frame(frames.HEADERS, 0, 3, b"") + window_update(0, 1), ErrorCode.PROTOCOL_ERROR),
    "endless headers": (
        frame(frames.HEADERS, 0, 3, b"") + frame(frames.CONTINUATION, 0, 3, b"x" * 16384) * 5,
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "settings on a stream": (frame(frames.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "short settings": (frame(frames.SETTINGS, 0, 0, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "a frame size too small": (settings(frames.MAX_FRAME_SIZE, 100), ErrorCode.PROTOCOL_ERROR),
    "a first window too large": (settings(frames.INITIAL_WINDOW_SIZE, 1 << 31), ErrorCode.FLOW_CONTROL_ERROR),
    "a window too large": (window_update(0, frames.LAST_ID), ErrorCode.FLOW_CONTROL_ERROR),
    "no more window": (window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a short window": (frame(frames.WINDOW_UPDATE, 0, 0, b"a"), ErrorCode.FRAME_SIZE_ERROR),
    "a short reset": (frame(frames.RST_STREAM, 0, 1, b"a"), ErrorCode.FRAME_SIZE_ERROR),
    "a short ping": (frame(frames.PING, 0, 0, b"a"), ErrorCode.FRAME_SIZE_ERROR),
    "a short goodbye": (frame(frames.GOAWAY, 0, 0, b"a"), ErrorCode.FRAME_SIZE_ERROR),
    "more than the connection's window": (
        begins(3) + frame(frames.DATA, 0, 1, b"x" * 16384) * 80,
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "more than one push": (settings(frames.ENABLE_PUSH, 2), ErrorCode.PROTOCOL_ERROR),
    "bad compression": (frame(frames.HEADERS, 4, 3, b"\x80"), ErrorCode.COMPRESSION_ERROR),
}


def test_a_first_window_too_large_is_refused_before_there_are_streams(connected: Connected) -> None:
    wire, _, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + settings(frames.INITIAL_WINDOW_SIZE, 1 << 31)))
    assert bytes(transport.sent).endswith(frames.goaway(0, ErrorCode.FLOW_CONTROL_ERROR))


def test_streams_of_a_broken_connection_end_though_its_far_end_does_not_read(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1)))
    transport.stall()
    wire.do(lambda: transport.deliver(rst_stream(7, 0)))
    assert (server.takers[1].seen, server.streams) == ([("reset", ErrorCode.CONNECT_ERROR)], {})


def test_a_client_that_does_not_read_is_not_read(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(server.pause_writing)
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1)))
    assert not server.takers
    wire.do(server.resume_writing)
    assert list(server.takers) == [1]


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_the_protocol_ends_the_connection_and_says_why(connected: Connected, name: str) -> None:
    wire, server, transport, far = connected
    sent, code = BREAKS[name]
    server._window = 1 << 30  # nothing is given back
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1)))
    del transport.sent[:]
    wire.do(lambda: transport.deliver(sent + begins(9)))
    assert transport.ending == "closed"
    assert bytes(transport.sent).endswith(frames.goaway(server.highest_stream, code))
    assert 9 not in server.takers, "nothing is read after it"


ENDS = {
    "more than its window": (frame(frames.DATA, 0, 1, b"x" * 16384) * 5, ErrorCode.FLOW_CONTROL_ERROR),
    "data after its end": (
        frame(frames.DATA, frames.END_STREAM, 1, b"") + frame(frames.DATA, 0, 1, b"x"),
        ErrorCode.STREAM_CLOSED,
    ),
    "headers that are not its last": (begins(1, [(b"a", b"b")]), ErrorCode.PROTOCOL_ERROR),
    "a window too large": (window_update(1, frames.LAST_ID), ErrorCode.FLOW_CONTROL_ERROR),
    "no more window": (window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_breaks_a_stream_ends_it_alone(connected: Connected, name: str) -> None:
    wire, server, transport, far = connected
    sent, code = ENDS[name]
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1) + begins(3)))
    del transport.sent[:]
    wire.do(lambda: transport.deliver(sent + frame(frames.DATA, 0, 3, b"on")))
    assert rst_stream(1, code) in bytes(transport.sent)
    assert server.takers[1].seen[-1] == ("reset", code)
    assert (server.takers[3].seen, transport.ending) == ([(b"on", 2)], "")


SHORT = {
    "no body": promises(1, 1, end=True),
    "a body that is too short": promises(1, 3) + frame(frames.DATA, frames.END_STREAM, 1, b"ab"),
    "a body that is too long": promises(1, 3) + frame(frames.DATA, 0, 1, b"abcd"),
    "trailers before its end": promises(1, 3) + frame(frames.DATA, 0, 1, b"ab") + begins(1, [(b"a", b"b")], end=True),
    "no length": begins(1, [*HEAD, (b"content-length", b"3,3")]),
    "a length that no body has": begins(1, [*HEAD, (b"content-length", b"9" * 5000)]),
    "two lengths": begins(1, [*HEAD, (b"content-length", b"3"), (b"content-length", b"5")]),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_body_that_has_not_the_length_that_it_says_ends_its_stream_alone(connected: Connected, name: str) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + SHORT[name] + promises(3, 2)))
    assert rst_stream(1, ErrorCode.PROTOCOL_ERROR) in bytes(transport.sent)
    padded = frame(frames.DATA, frames.PADDED, 3, b"\1on\0") + frame(frames.DATA, frames.END_STREAM, 3, b"")
    wire.do(lambda: transport.deliver(padded))
    assert (server.takers[3].seen, transport.ending) == ([(b"on", 4), "ended"], "")


@pytest.mark.parametrize("first", [begins(1), frame(frames.SETTINGS, frames.ACK, 0, b""), frame(99, 0, 0, b"")])
def test_a_connection_that_does_not_begin_with_settings_ends(connected: Connected, first: bytes) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(first + far.data_to_send()))
    assert (server.takers, transport.ending) == ({}, "closed")
    assert bytes(transport.sent).endswith(frames.goaway(0, ErrorCode.PROTOCOL_ERROR))


@pytest.mark.parametrize(("value", "ending"), [(0, ""), (1, "closed")])
def test_a_server_that_wants_pushes_is_left(value: int, ending: str) -> None:
    wire, client = Wire(), Http2Connection(client=True)
    transport = Transport(wire.loop, cast(asyncio.Protocol, client))
    wire.do(lambda: client.connection_made(transport))
    wire.do(lambda: transport.deliver(settings(frames.ENABLE_PUSH, value)))
    assert transport.ending == ending
    wire.close()


def test_a_request_that_is_none_is_refused_alone_and_so_is_one_too_many(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1, HEAD[1:])))
    assert rst_stream(1, ErrorCode.PROTOCOL_ERROR) in bytes(transport.sent)
    wire.do(lambda: transport.deliver(b"".join(begins(3 + 2 * number) for number in range(101))))
    assert (len(server.takers), transport.ending) == (100, "")
    assert bytes(transport.sent).endswith(rst_stream(203, ErrorCode.REFUSED_STREAM))


def test_frames_of_streams_that_are_over_change_nothing(connected: Connected) -> None:
    wire, server, transport, far = connected
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1) + rst_stream(1, 8)))
    late = [frame(frames.DATA, 0, 1, b"x"), window_update(1, 5), rst_stream(1, 8), begins(1), frame(99, 0, 1, b"?")]
    wire.do(lambda: transport.deliver(b"".join([*late, begins(3)])))
    assert (server.takers[1].seen, sorted(server.takers), transport.ending) == ([("reset", 8)], [1, 3], "")


def test_a_ping_is_answered_and_headers_may_come_in_any_pieces(connected: Connected) -> None:
    wire, server, transport, far = connected
    head = begins(1)[9:]
    sent = far.data_to_send() + frame(frames.PING, 0, 0, b"12345678") + frame(frames.HEADERS, 1, 1, head[:5])
    sent += frame(frames.CONTINUATION, 0, 1, head[5:6]) + frame(frames.CONTINUATION, 4, 1, head[6:])
    for at in range(len(sent)):
        wire.do(lambda at=at: transport.deliver(sent[at : at + 1]))  # type: ignore[misc]
    assert frame(frames.PING, frames.ACK, 0, b"12345678") in bytes(transport.sent)
    assert list(server.takers) == [1]


def test_streams_that_come_with_the_answer_to_a_ping_are_begun_before_it_counts(connected: Connected) -> None:
    wire, server, transport, far = connected
    seen: list[int] = []
    server.pinged = lambda: seen.append(server.highest_stream)  # type: ignore[method-assign]
    answer = frame(frames.PING, frames.ACK, 0, b"12345678")
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1) + answer + begins(3)))
    assert seen == [3]


def test_frames_of_nothing_are_dropped_and_their_padding_is_given_back(connected: Connected) -> None:
    wire, server, transport, far = connected
    padded = frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"\0" * 255)
    wire.do(lambda: transport.deliver(far.data_to_send() + begins(1)))
    wire.do(lambda: transport.deliver(frame(frames.DATA, 0, 1, b"") * 100 + padded * 200))
    assert window_update(1, 128 * 256) in bytes(transport.sent)
    wire.do(lambda: transport.deliver(padded * 200 + frame(frames.DATA, frames.END_STREAM, 1, b"")))
    assert server.takers[1].seen == ["ended"]
