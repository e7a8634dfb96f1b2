"""WebSockets: a request that becomes a tunnel. The handshake passes the stages as any request does; when the pod
accepts it, bytes are relayed both ways until one side closes. Knows asyncio's protocols, nothing of policies.

A connection's protocol is exchanged for one of this file when the handshake comes, so ordinary requests pay nothing for
it. Neither side is read faster than the other takes: a full write buffer pauses reading from its opposite.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

from router.dataplane.exchange import Exchange
from router.dataplane.http import websocket
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.edge import Edge
from router.dataplane.http.request_parser import IDLE
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.dataplane.relay import Relay
from router.errors import BadAnswer, BadFraming, DrainTimeout, PodFailure, Shed

MAX_EARLY_BYTES: Final = 65536
"""Bytes that are kept for a client which sends before its offer is accepted; then it is read no further. Also the
longest head of an answer to an offer."""

LINGER_S: Final = 5.0
"""Seconds that a pod has to take what was sent to it before the client left."""

_log = logging.getLogger("turnout.upgrade")


def begin(exchange: Exchange) -> None:
    """Take the client's connection over for a WebSocket: its bytes are no requests from here on. Raises BadFraming when
    it has sent more than the offer: a pod would read a body as a request of its own."""
    exchange.keep_alive = False  # whatever the answer is, no request follows on this connection
    edge = exchange.edge
    if edge.waiting or edge.stage != IDLE or edge.transport is None:
        raise BadFraming("A client that asks for a WebSocket sends nothing more before the answer.")
    if exchange.body:
        raise BadFraming("A request for a WebSocket has no body; name the model in its query.")
    exchange.upgrade = True
    exchange.kept = [*exchange.kept, websocket.OFFER]
    edge.transport.set_protocol(ClientSide(edge, edge.transport))
    if not edge.transport.is_reading():
        edge.transport.resume_reading()  # it was read ahead of its turn; a client that leaves is seen only by reading


class ClientSide(asyncio.Protocol):
    """The protocol of a client's connection from the offer on. What it is not concerned with is left to the edge."""

    def __init__(self, edge: Edge[Exchange], transport: asyncio.Transport) -> None:
        self._edge = edge
        self.transport = transport
        self.early = b""
        """What came before the pod accepted."""
        self.tunnel: Tunnel | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self.tunnel is not None:
            self.tunnel.from_client(data)
        else:
            self.early += data
            self.hold(len(self.early))
            if len(self.early) > MAX_EARLY_BYTES:
                self.transport.pause_reading()

    def hold(self, size: int) -> None:
        """Count the client's bytes that wait for the pod. The connection ends when there is no room for them."""
        try:
            self._edge.held.reading(size)
        except Shed:
            self._edge.abort()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._edge.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._edge.resume_writing()

    def eof_received(self) -> bool:
        """The client is gone."""
        return self._edge.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._edge.connection_lost(exc)


class UpgradeReceiver:
    """The `Receiver` of an offer's answer: one that is not 101 goes to the relay, as any answer."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connected(self, connection: UpstreamConnection, /) -> None:
        """The offer is sent over this connection."""
        relay = self._relay
        relay.connected(connection)
        if relay.connection is not None and connection.transport is not None:
            connection.transport.set_protocol(PodSide(relay, connection, connection.transport))

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """See `Receiver`."""
        return self._relay.head(head, framing, length)

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """See `Receiver`."""
        self._relay.data(piece, safe, now)

    def end(self) -> None:
        """See `Receiver`."""
        self._relay.end()

    def failed(self, failure: PodFailure, /) -> None:
        """See `Receiver`."""
        self._relay.failed(failure)


class PodSide(asyncio.Protocol):
    """The protocol of a pod's connection from the offer on, until its answer turns out to be another than 101."""

    def __init__(self, relay: Relay, connection: UpstreamConnection, transport: asyncio.Transport) -> None:
        self._relay = relay
        self._connection = connection
        self._transport = transport
        self._begun = b""
        self._tunnel: Tunnel | None = None

    def data_received(self, data: bytes) -> None:
        """Bytes from the pod."""
        if self._tunnel is not None:
            self._tunnel.from_pod(data)
            return
        self._begun += data
        begun = self._begun
        if not begun.startswith(websocket.SWITCHING[: len(begun)]) or self._connection.receiver is None:
            self._transport.set_protocol(cast(asyncio.Protocol, self._connection))
            self._connection.data_received(begun)
            return
        end = begun.find(b"\r\n\r\n") + 4
        if end >= 4:
            self._accept(begun[:end], begun[end:])
        elif len(begun) > MAX_EARLY_BYTES:
            self._refuse("its head does not end")

    def _accept(self, head: bytes, rest: bytes) -> None:
        try:
            lines = websocket.accepted(head)
        except ValueError as error:
            self._refuse(str(error))
            return
        connection = self._connection
        connection.receiver = None
        connection.expires_at = NEVER  # a WebSocket may be silent for as long as it likes
        self._tunnel = Tunnel(self._relay, connection, self._transport)
        self._tunnel.open(lines, rest)

    def _refuse(self, why: str) -> None:
        connection, receiver = self._connection, self._connection.receiver
        connection.abort()
        if receiver is not None:
            receiver.failed(BadAnswer(f"Pod {connection.address} sent an answer that is not HTTP/1.1: {why}."))

    def pause_writing(self) -> None:
        """The pod does not read."""
        if self._tunnel is not None:
            self._tunnel.pause_client()

    def resume_writing(self) -> None:
        """The pod reads again."""
        if self._tunnel is not None:
            self._tunnel.resume_client()

    def eof_received(self) -> bool:
        """The pod closed its side: the connection is over."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The pod's connection is closed."""
        self._connection.connection_lost(exc)
        if self._tunnel is not None:
            self._tunnel.pod_closed(exc)


class Tunnel:
    """An accepted WebSocket: the `AnswerRelay` of its exchange from then on."""

    def __init__(self, relay: Relay, connection: UpstreamConnection, pod: asyncio.Transport) -> None:
        self.status = 101
        self.begun = True
        self.sse = False
        self.first_at = 0.0
        self.tail = b""
        self._relay = relay
        self._exchange = relay.exchange
        self._edge = relay.exchange.edge
        self._metrics = relay.exchange.routed.metrics
        self._connection = connection
        self._pod = pod
        self._to_client = websocket.FrameScanner()
        self._client_closed = False
        self._side: ClientSide | None = None

    def open(self, lines: list[bytes], rest: bytes) -> None:
        """Pass the pod's 101 on and whatever either side has sent already."""
        relay, client, edge = self._relay, self._edge.transport, self._edge
        if client is None or self._exchange.done or self._exchange.relay is not relay:
            self.cancel()
            return
        self._pod.set_write_buffer_limits(high=edge.listener.limits.write_buffer_bytes)
        relay.status = 101
        relay.begun = True
        relay.connection = None
        self._exchange.relay = self
        relay.listener.first_byte(relay, edge.clock())
        head = [websocket.HEAD, *lines, *relay.listener.headers(relay, _ACCEPTED), b"\r\n"]
        edge.flush()
        client.write(b"".join(head))
        side = client.get_protocol()
        assert isinstance(side, ClientSide)
        side.tunnel = self
        self._side = side
        early, side.early = side.early, b""
        if not edge.writable:
            self.pause()
        if rest:
            self.from_pod(rest)
        if early:
            self.from_client(early)
        self.resume_client()

    def from_pod(self, data: bytes) -> None:
        """Bytes for the client."""
        self._to_client.feed(data)
        self._metrics.bytes_out += len(data)
        self._edge.write_now(data)

    def from_client(self, data: bytes) -> None:
        """Bytes for the pod."""
        self._client_closed = websocket.is_close(data)
        self._metrics.bytes_in += len(data)
        if not self._pod.is_closing():
            self._pod.write(data)

    def pause_client(self) -> None:
        """The pod does not read: read no more from the client."""
        client = self._edge.transport
        if client is not None and not client.is_closing():
            client.pause_reading()
            if self._side is not None:
                self._side.hold(self._pod.get_write_buffer_size())

    def resume_client(self) -> None:
        """The pod takes bytes again."""
        client = self._edge.transport
        full = self._pod.get_write_buffer_size() > self._edge.listener.limits.write_buffer_bytes
        if client is not None and not client.is_closing() and not full:
            self._edge.held.reading(0)
            client.resume_reading()

    def pod_closed(self, exc: Exception | None) -> None:
        """The pod closed the connection: the client's is closed after what was sent."""
        if self._exchange.done:
            return
        if exc is not None:
            address = self._connection.address
            _log.warning("pod %s broke off a WebSocket: %s", address, exc)
            self._say_goodbye(websocket.INTERNAL_ERROR, "The pod closed the connection.")
        self._relay.listener.finished(self._relay)

    def _say_goodbye(self, code: int, reason: str) -> None:
        if self._to_client.between:
            self._edge.write_now(websocket.close_frame(code, reason))

    # As the exchange's relay

    def pause(self) -> None:
        """The client does not read: read no more from the pod."""
        if not self._pod.is_closing():
            self._pod.pause_reading()

    def resume(self) -> None:
        """The client takes bytes again."""
        if not self._pod.is_closing():
            self._pod.resume_reading()

    def cancel(self) -> None:
        """The client is gone or the exchange is over: the pod gets what the client has sent, then the end."""
        if not self._pod.is_closing():
            self._connection.expires_at = self._edge.clock() + LINGER_S
            self._pod.resume_reading()  # a paused transport would not see the pod's end
            self._pod.close()

    def conclude(self) -> bool:
        """The client left: whether one of the two had said goodbye, so that the WebSocket ended in good order."""
        if not self._client_closed and not self._to_client.closed:
            return False
        self.cancel()
        self._relay.listener.finished(self._relay)
        return True

    def break_off(self, failure: PodFailure, /) -> None:
        """End the WebSocket with a close frame where the client is between two frames, and close the connection."""
        code = websocket.GOING_AWAY if isinstance(failure, DrainTimeout) else websocket.INTERNAL_ERROR
        self._say_goodbye(code, failure.message)
        self._edge.close()


_ACCEPTED: Final = ResponseHead(200, 0, keep=False, sse=False, kept=[])
"""Stands for the pod's head where the gateway's own headers are asked for: its lines were passed on already."""
