"""The picker's gRPC port: Envoy's ExternalProcessor and the health checks of gRPC. A thin shell around `ExtProcStream`:
reads messages, writes replies in their order, knows no field of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import grpc
import grpc.aio

from router.address import ListenAddress
from router.epp.call import PickerCall, PickerParts
from router.epp.ext_proc_pb2 import HealthCheckRequest, HealthCheckResponse, ProcessingRequest, ProcessingResponse
from router.epp.messages import subset_of
from router.epp.stream import ExtProcStream
from router.epp.wires import Picked
from router.lifecycle import Lifecycle
from router.settings import Settings
from statesync.tasks import spawn

EXT_PROC: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
SERVING, NOT_SERVING = 1, 2

_READINESS: Final = frozenset(("", "readiness", EXT_PROC))
_LIVENESS: Final = "liveness"


class _Replies:
    """Writes the replies of one stream, in their order. Those of a message that was just read are written by who reads;
    those that come later have a task."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._waiting: deque[ProcessingResponse] = deque()
        self.reading = False
        """Whether a message is being taken: its replies are written after it."""
        self._task: asyncio.Task[None] | None = None

    def add(self, reply: ProcessingResponse) -> None:
        """Write a reply after those before it."""
        self._waiting.append(reply)
        if not self.reading and (self._task is None or self._task.done()):
            self._task = spawn(self._write(), "picker-replies")

    async def flush(self) -> None:
        """Write what waits."""
        if self._task is not None and not self._task.done():
            await self._task
        await self._write()

    async def _write(self) -> None:
        while self._waiting:
            await self._context.write(self._waiting.popleft())

    def drop(self) -> None:
        """The stream is over: no one reads what waits."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()


class PickerServer:
    """The gRPC server: what a replica opens in place of its inference port."""

    def __init__(
        self, parts: PickerParts, settings: Settings, lifecycle: Lifecycle, streams: dict[int, Picked]
    ) -> None:
        """`streams` gets every open stream, by its number, for `PodWires`."""
        self._parts = parts
        self._settings = settings
        self._lifecycle = lifecycle
        self._streams = streams
        self._numbers = count(1)
        self._server: Any = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, listen: ListenAddress) -> int:
        """Listen; returns the port. Raises OSError when it is in use."""
        # A large body comes in one message where Envoy buffers it; its limit is that of the gateway.
        limits = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=limits)
        process = grpc.stream_stream_rpc_method_handler(
            self._process, ProcessingRequest.FromString, ProcessingResponse.SerializeToString
        )
        check = grpc.unary_unary_rpc_method_handler(
            self._check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(EXT_PROC, {"Process": process}),
                grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),
            )
        )
        port = self._bind(str(listen))
        await self._server.start()
        return port

    def _bind(self, address: str) -> int:
        tls = self._settings.tls
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                clients = Path(tls.client_ca_file).read_bytes() if tls.client_ca_file else None
                pair = (Path(tls.key_file).read_bytes(), Path(tls.cert_file).read_bytes())
                credentials = grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:  # gRPC says no more than that it failed
            raise OSError(0, f"cannot listen on {address}: {error}") from None
        return int(port)

    def stop_accepting(self) -> None:
        """Take no new streams; Envoy is informed. Those that are open go on."""
        if self._server is not None and self._stopping is None:
            self._stopping = spawn(self._server.stop(self._settings.drain.timeout_s), "picker-stop")

    async def stop(self) -> None:
        """End every stream."""
        if self._stopping is not None:
            self._stopping.cancel()
        if self._server is not None:
            await self._server.stop(None)

    async def _check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        if request.service == _LIVENESS:
            return HealthCheckResponse(status=SERVING)
        if request.service not in _READINESS:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return HealthCheckResponse(status=SERVING if self._lifecycle.ready else NOT_SERVING)

    async def _process(self, _: object, context: Any) -> None:
        number, replies = next(self._numbers), _Replies(context)
        peer = peer_address(context.peer()) if self._settings.logging.access else ""
        stream = ExtProcStream(number, self._begin, replies.add, peer)
        self._streams[number] = stream.picked
        clean = False
        try:
            while (message := await context.read()) is not grpc.aio.EOF:
                if message.observability_mode:
                    return  # Envoy would not wait for a pick
                replies.reading = True
                stream.receive(message)
                replies.reading = False
                await replies.flush()
            await replies.flush()
            clean = True
        finally:
            replies.drop()
            del self._streams[number]
            stream.close(clean=clean)

    def _begin(self, message: ProcessingRequest) -> PickerCall:
        return PickerCall(self._parts, subset_of(message))


def peer_address(peer: str) -> str:
    """The address in what gRPC calls a peer, such as `ipv4:10.0.0.1:4711`; empty where it has none."""
    family, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""
