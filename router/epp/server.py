"""The picker's port: Envoy's ExternalProcessor and gRPC's health checks. Brings calls to `ExtProcStream`s; knows no
field of their messages.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from itertools import count
from typing import Final

from router.address import ListenAddress
from router.dataplane.grpc.status import Status
from router.epp.call import PickerCall, PickerParts
from router.epp.ext_proc_pb2 import HealthCheckRequest, HealthCheckResponse, ProcessingRequest, ProcessingResponse
from router.epp.grpc_port import CallHandler, GrpcConnection, ServerCall
from router.epp.messages import subset_of
from router.epp.stream import ExtProcStream
from router.epp.wires import Picked
from router.lifecycle import Lifecycle
from router.settings import Settings

EXT_PROC: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
SERVING, NOT_SERVING = 1, 2

_READINESS: Final = frozenset(("", "readiness", EXT_PROC))
_LIVENESS: Final = "liveness"
_PROCESS: Final = f"/{EXT_PROC}/Process"
_CHECK: Final = "/grpc.health.v1.Health/Check"

_log = logging.getLogger("turnout.epp")


class PickerServer:
    """What a replica opens in place of its inference port."""

    def __init__(
        self, parts: PickerParts, settings: Settings, lifecycle: Lifecycle, streams: dict[int, Picked]
    ) -> None:
        """`streams` gets every open stream, by its number, for `PodWires`."""
        self.parts = parts
        self.streams = streams
        self.numbers = count(1)
        self._settings = settings
        self._lifecycle = lifecycle
        self._server: asyncio.Server | None = None
        self._connections: set[GrpcConnection] = set()

    async def start(self, listen: ListenAddress) -> int:
        """Listen; returns the port. Raises OSError when it is in use."""
        loop = asyncio.get_running_loop()
        tls = _tls(self._settings)
        self._server = await loop.create_server(
            lambda: GrpcConnection(self._open, self._connections), listen.host or None, listen.port, ssl=tls
        )
        return int(self._server.sockets[0].getsockname()[1])

    def stop_accepting(self) -> None:
        """Take no new connections, and have Envoy open no more streams on the others. Streams that are open go on."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.go_away()

    async def stop(self) -> None:
        """End every stream."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.end()

    def _open(self, path: str, call: ServerCall, peer: str) -> CallHandler | None:
        if path == _PROCESS:
            return _Process(self, call, peer)
        return _Check(self._lifecycle, call) if path == _CHECK else None


class _Process:
    """One stream of Envoy's."""

    def __init__(self, server: PickerServer, call: ServerCall, peer: str) -> None:
        self._call = call
        self._parts = server.parts
        self._streams = server.streams
        self._number = next(server.numbers)
        self._stream = ExtProcStream(self._number, self._begin, self._reply, peer)
        self._streams[self._number] = self._stream.picked
        self._open = True

    def _begin(self, message: ProcessingRequest) -> PickerCall:
        return PickerCall(self._parts, subset_of(message))

    def _reply(self, reply: ProcessingResponse) -> None:
        self._call.send(reply.SerializeToString())

    def message(self, data: bytes, /) -> None:
        """See `CallHandler`."""
        if not self._open:
            return
        try:
            message = ProcessingRequest.FromString(data)
            if not message.observability_mode:
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
        service = HealthCheckRequest.FromString(data).service
        if service == _LIVENESS or service in _READINESS:
            serving = service == _LIVENESS or self._lifecycle.ready
            self._call.send(HealthCheckResponse(status=SERVING if serving else NOT_SERVING).SerializeToString())
            self._call.finish()
        else:
            self._call.finish(Status.NOT_FOUND, f"no service {service!r}")

    def end(self) -> None:
        """See `CallHandler`."""

    def lost(self) -> None:
        """See `CallHandler`."""


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=settings.tls.client_ca_file or None)
    context.load_cert_chain(settings.tls.cert_file, settings.tls.key_file or None)
    context.set_alpn_protocols(["h2"])
    if settings.tls.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
