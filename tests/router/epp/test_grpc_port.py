"""gRPC over HTTP/2: gRPC's own client against the server's side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from hpack import Encoder

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import goaway, header_frames
from router.dataplane.grpc.http2 import PREFACE
from router.epp.grpc_port import MAX_MESSAGE, CallHandler, GrpcConnection, ServerCall
from tests.fakes.memory_transport import Transport, Wire
from tests.fakes.waiting import DEADLINE_S, until

LARGE = b"x" * 1_000_000
"""More than a client of gRPC lets in before it acknowledges."""


class Echo:
    """Sends each message back, and says what happened."""

    def __init__(self, call: ServerCall, seen: list[str]) -> None:
        self.call = call
        self.seen = seen

    def message(self, data: bytes, /) -> None:
        self.call.send(data)

    def end(self) -> None:
        self.seen.append("end")
        self.call.finish()

    def lost(self) -> None:
        self.seen.append("lost")


Talk = Callable[[grpc.aio.Channel, list[str], set[GrpcConnection]], Awaitable[None]]


def serve(talk: Talk) -> None:
    """A server of `/echo` for the talk."""

    async def run() -> None:
        seen: list[str] = []
        connections: set[GrpcConnection] = set()

        def begin(path: str, call: ServerCall, peer: str) -> CallHandler | None:
            assert peer == "127.0.0.1"
            return Echo(call, seen) if path == "/echo" else None

        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: cast(asyncio.Protocol, GrpcConnection(begin, connections)), "127.0.0.1", 0
        )
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(server.close)
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            channel = await closing.enter_async_context(grpc.aio.insecure_channel(address))
            await talk(channel, seen, connections)
        for connection in list(connections):
            connection.close()

    asyncio.run(run())


def echo(channel: grpc.aio.Channel, path: str = "/echo") -> Any:
    return channel.stream_stream(path, None, None)


def test_messages_of_any_size_pass_both_ways() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        async def sent() -> AsyncIterator[bytes]:
            for message in (b"", b"small", LARGE):
                yield message

        assert [message async for message in echo(channel)(sent())] == [b"", b"small", LARGE]
        assert seen == ["end"]

    serve(talk)


def test_a_method_that_is_not_there_is_unimplemented() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = echo(channel, "/other")()
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await call.details() == "no method /other"

    serve(talk)


def test_a_call_that_is_cancelled_is_lost() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = echo(channel)()
        await call.write(b"a")
        assert await call.read() == b"a"
        call.cancel()
        again = echo(channel)()  # on the same connection, though gRPC may send this first
        await again.write(b"b")
        assert await again.read() == b"b"
        await until(lambda: seen)
        assert seen == ["lost"]
        await again.done_writing()
        assert await again.read() is grpc.aio.EOF

    serve(talk)


def test_calls_go_on_after_the_client_was_sent_away() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        before = echo(channel)()
        await before.write(b"a")
        assert await before.read() == b"a"
        (first,) = connections
        first.go_away()
        await before.write(b"b")
        assert await before.read() == b"b"
        after = echo(channel)()
        await after.write(b"c")
        assert await after.read() == b"c"
        assert len(connections) == 2, "the second call has a connection of its own"
        for call in (before, after):
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    serve(talk)


def test_compressed_messages_are_refused() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = channel.stream_stream("/echo", None, None)(compression=grpc.Compression.Gzip)
        await call.write(b"a" * 10_000)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED

    serve(talk)


@pytest.mark.parametrize("size", [0, 1, 5, 7])
def test_a_message_may_come_in_pieces(size: int) -> None:
    call = ServerCall(None, 1)  # type: ignore[arg-type]
    whole = b"\0\0\0\0\3abc\0\0\0\0\0"
    pieces = [whole[:size], whole[size:]]
    assert [message for piece in pieces for message in call.take(piece)] == [b"abc", b""]
    assert not call.received


def test_bytes_that_are_no_http2_end_the_connection() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = echo(channel)()
        await call.write(b"a")
        assert await call.read() == b"a"
        (first,) = connections
        assert first.transport is not None
        host, port = first.transport.get_extra_info("sockname")
        for junk in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, PREFACE + b"\xff" * 200):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(junk)
            async with asyncio.timeout(DEADLINE_S):
                await reader.read()
            writer.close()
        await call.write(b"b")
        assert await call.read() == b"b", "the others go on"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    serve(talk)


def test_a_message_that_is_too_long_is_refused_before_it_comes() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = echo(channel)()
        await call.write(b"x" * (MAX_MESSAGE + 1))
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert seen == ["lost"]

    serve(talk)


def test_a_call_that_is_open_at_the_end_of_the_server_ends_in_good_order() -> None:
    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        call = echo(channel)()
        await call.write(b"a")
        assert await call.read() == b"a"
        (first,) = connections
        first.end()
        assert await call.read() is grpc.aio.EOF
        assert (await call.code(), seen) == (grpc.StatusCode.OK, ["end"])

    serve(talk)


def test_what_was_sent_last_arrives_though_the_server_has_not_read_all_of_the_client() -> None:
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/echo"), (b":authority", b"x")]
    begins = header_frames(1, Encoder().encode(head, huffman=False), frames.LONGEST, end=False)

    async def talk(channel: grpc.aio.Channel, seen: list[str], connections: set[GrpcConnection]) -> None:
        await channel.channel_ready()
        (first,) = connections
        assert first.transport is not None
        reader, writer = await asyncio.open_connection(*first.transport.get_extra_info("sockname"))
        writer.write(PREFACE + frames.settings({}) + begins + frames.frame(frames.DATA, 0, 1, b"\0\0\0\0\1a"))
        received = b""
        async with asyncio.timeout(DEADLINE_S):
            while b"\0\0\0\0\1a" not in received:
                received += await reader.read(1 << 16)
            writer.write(frames.frame(frames.PING, 0, 0, b"8 bytes."))  # is in the socket, and not read
            (connections - {first}).pop().end()
            while goaway(1) not in received:
                piece = await reader.read(1 << 16)
                assert piece, "it is not closed before all has come"
                received += piece
        assert b"\x01\x05\0\0\0\1" in received, "headers that end the stream"
        writer.close()
        await writer.wait_closed()

    serve(talk)


def test_a_call_that_begins_after_the_end_is_refused() -> None:
    wire, seen, connections = Wire(), list[str](), set[GrpcConnection]()
    connection = GrpcConnection(lambda path, call, peer: Echo(call, seen), connections)
    transport = Transport(wire.loop, cast(asyncio.Protocol, connection))
    wire.do(lambda: connection.connection_made(transport))
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/echo"), (b":authority", b"x")]
    begins = header_frames(1, Encoder().encode(head), frames.LONGEST, end=False)
    wire.do(lambda: transport.deliver(PREFACE + frames.settings({})))
    wire.do(connection.end)
    message = frames.frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\1a")
    wire.do(lambda: transport.deliver(begins + message))
    assert bytes(transport.sent).endswith(frames.rst_stream(1, frames.ErrorCode.REFUSED_STREAM))
    assert (seen, transport.ending) == ([], "")
    wire.close()
    assert wire.crashes == []
