"""The picker's port: Envoy's ExternalProcessor and gRPC's health checks. Brings calls to `ExtProcStream`s; knows no
field of their messages.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import count
from typing import Final, cast

from router.address import ListenAddress, bind
from router.dataplane.grpc.http2 import LINGER_S
from router.dataplane.grpc.status import Status
from router.epp.call import PickerCall, PickerParts
from router.epp.grpc_port import CallHandler, GrpcConnection, ServerCall
from router.epp.messages import EnvoyMessage, subset_of
from router.epp.stream import ExtProcStream
from router.epp.wire_format import NotAMessage, part
from router.epp.wires import Picked
from router.lifecycle import Lifecycle
from router.ports.acceptor import Acceptor, PortOptions
from router.settings import Timeouts

EXT_PROC: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
"""Messages: field 1, `status`."""

HANDSHAKE_S: Final = 60.0
"""Seconds for a handshake where `timeouts.client_header_s` is off; to take the last bytes where `client_write_s` is."""

LOOK_S: Final = 0.01
"""Seconds between two looks whether the clients have closed."""

BACKLOG: Final = 1024
"""Connections that wait to be accepted."""

_READINESS: Final = frozenset((b"", b"readiness", EXT_PROC.encode()))
_LIVENESS: Final = b"liveness"
_PROCESS: Final = f"/{EXT_PROC}/Process"
_CHECK: Final = "/grpc.health.v1.Health/Check"

_log = logging.getLogger("turnout.epp")


class PickerServer:
    """What a replica opens in place of its inference port."""

    def __init__(
        self,
        parts: PickerParts,
        port: PortOptions,
        timeouts: Timeouts,
        lifecycle: Lifecycle,
        streams: dict[int, Picked],
    ) -> None:
        """`streams` gets every open stream, by its number, for `PodWires`."""
        self.parts = parts
        self.streams = streams
        self.numbers = count(1)
        self._lifecycle = lifecycle
        self._server: asyncio.Server | None = None
        self._connections: set[GrpcConnection] = set()
        before_s, after_s = timeouts.client_header_s or HANDSHAKE_S, timeouts.client_write_s or HANDSHAKE_S
        self._acceptor = None if port.plain else Acceptor(port, self, before_s, after_s)
        if port.tls is not None:
            port.tls.on_clients_changed = self._retire

    async def start(self, listen: ListenAddress) -> int:
        """Listen; returns the port. Raises OSError when it is in use."""
        bound = bind(listen._replace(host=listen.host or "0.0.0.0"))
        port = int(bound.getsockname()[1])
        if self._acceptor is not None:
            self._acceptor.start(bound, BACKLOG)
        else:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: self.protocol(""), sock=bound, backlog=BACKLOG)
        return port

    def stop_accepting(self) -> None:
        """Take no new connections, and have Envoy open no more streams on the others. Streams that are open go on."""
        if self._server is not None:
            self._server.close()
        if self._acceptor is not None:
            self._acceptor.close()
        self._retire()

    def _retire(self) -> None:
        for connection in self._connections:
            connection.go_away()

    async def stop(self) -> None:
        """End every stream, and return when the clients have closed, or have had the time to."""
        self.stop_accepting()
        if self._acceptor is not None:
            self._acceptor.abort()
        for connection in list(self._connections):
            connection.end()
        left = (LINGER_S + LOOK_S) / LOOK_S
        while self._connections and (left := left - 1) > 0:  # noqa: ASYNC110  a set has no event; this is the way out
            await asyncio.sleep(LOOK_S)

    # As an `Acceptance`. Its clients are proxies: there is no limit for them.

    def room(self) -> bool:
        """See `Acceptance`."""
        return True

    def counted_for(self, peer: str) -> str:
        """See `Acceptance`."""
        return peer

    def crowded(self, _client: str, _silent: int) -> bool:
        """See `Acceptance`."""
        return False

    def protocol(self, _peer: str) -> asyncio.BaseProtocol:
        """See `Acceptance`."""
        return cast(asyncio.BaseProtocol, GrpcConnection(self._open, self._connections))

    def given_up(self, protocol: asyncio.BaseProtocol) -> None:
        """See `Acceptance`."""

    def not_tls(self, _peer: str) -> bytes:
        """See `Acceptance`. In HTTP/2 there is nothing to say before its settings."""
        return b""

    def _open(self, path: str, call: ServerCall, peer: str) -> CallHandler | None:
        if path == _PROCESS:
            return _Process(self, call, peer)
        return _Check(self._lifecycle, call) if path == _CHECK else None


def _picker_call(parts: PickerParts, first: EnvoyMessage) -> PickerCall:
    return PickerCall(parts, subset_of(first))


class _Process:
    """One stream of Envoy's."""

    def __init__(self, server: PickerServer, call: ServerCall, peer: str) -> None:
        self._call = call
        self._streams = server.streams
        self._number = next(server.numbers)
        self._stream = ExtProcStream(self._number, partial(_picker_call, server.parts), call.send, peer)
        self._streams[self._number] = self._stream.picked
        self._open = True

    def message(self, data: bytes, /) -> None:
        """See `CallHandler`."""
        if not self._open:
            return
        try:
            message = EnvoyMessage(data)
            if not message.observed:
                self._stream.receive(message)
                return
            self._close(clean=False)  # Envoy would not wait for a pick
            self._call.finish()
        except Exception:  # noqa: BLE001  a defect ends one stream, not those beside it
            _log.exception("a message of Envoy's could not be handled")
            self._close(clean=False)
            self._call.finish(Status.INTERNAL, "the endpoint picker failed; its log says why")

    def end(self) -> None:
        """See `CallHandler`."""
        self._close(clean=True)
        self._call.finish()

    def lost(self) -> None:
        """See `CallHandler`."""
        self._close(clean=False)

    def _close(self, *, clean: bool) -> None:
        if self._open:
            self._open = False
            del self._streams[self._number]
            self._stream.close(clean=clean)


class _Check:
    """One health check."""

    def __init__(self, lifecycle: Lifecycle, call: ServerCall) -> None:
        self._lifecycle = lifecycle
        self._call = call

    def message(self, data: bytes, /) -> None:
        """See `CallHandler`."""
        try:
            service = part(data, 1)
        except NotAMessage:
            return self._call.finish(Status.INTERNAL, "this is no HealthCheckRequest")
        if service == _LIVENESS or service in _READINESS:
            serving = service == _LIVENESS or self._lifecycle.ready
            self._call.send(SERVING if serving else NOT_SERVING)
            self._call.finish()
        else:
            self._call.finish(Status.NOT_FOUND, f"no service {service.decode(errors='replace')!r}")

    def end(self) -> None:
        """See `CallHandler`."""

    def lost(self) -> None:
        """See `CallHandler`."""
