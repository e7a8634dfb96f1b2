"""A real gRPC server of a small service, and clients of it. Messages are bytes, so that nothing is generated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from tests.fakes.waiting import DEADLINE_S

HOST: Final = "127.0.0.1"
ECHO: Final = "/test.Echo/"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A server with `/test.Echo/` and `grpc.health.v1`."""

    def __init__(self, name: str, host: str = HOST, port: int = 0, credentials: Any = None) -> None:
        self.name = name
        self.health = SERVING
        self.asked = b""
        """The last request for its health."""
        self.calls = 0
        self.cancelled = threading.Event()
        self.metadata: dict[str, str] = {}
        """Of the last call."""
        self.left_s: float | None = None
        """Seconds that the last call had."""
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self], options=[("grpc.so_reuseport", 0)])
        at = f"{host}:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(at)
        else:
            self.port = self._server.add_secure_port(at, credentials)
        self.address = f"{host}:{self.port}"
        self._server.start()
        self._methods: dict[str, Any] = {
            "/grpc.health.v1.Health/Check": grpc.unary_unary_rpc_method_handler(self._check),
            ECHO + "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            ECHO + "Slow": grpc.unary_unary_rpc_method_handler(self._slow),
            ECHO + "Fails": grpc.unary_unary_rpc_method_handler(self._fails),
            ECHO + "Down": grpc.unary_stream_rpc_method_handler(self._down),
            ECHO + "Endless": grpc.unary_stream_rpc_method_handler(self._endless),
            ECHO + "Up": grpc.stream_unary_rpc_method_handler(self._up),
            ECHO + "Both": grpc.stream_stream_rpc_method_handler(self._both),
        }

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method."""
        return self._methods.get(handler_call_details.method)

    def stop(self, grace_s: float | None = None) -> None:
        """End it: calls have `grace_s` to end."""
        self._server.stop(grace_s).wait(DEADLINE_S)

    def healthless(self) -> None:
        """Have no health service any more."""
        del self._methods["/grpc.health.v1.Health/Check"]

    def _check(self, request: bytes, context: Any) -> bytes:
        self.asked = request
        return self.health

    def _seen(self, context: Any) -> None:
        self.calls += 1
        self.metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        self.left_s = context.time_remaining()
        context.set_trailing_metadata((("x-trailer", "end"),))

    def _unary(self, request: bytes, context: Any) -> bytes:
        self._seen(context)
        return self.name.encode() + b":" + request

    def _note_end(self, context: Any) -> None:
        if not context.add_callback(self.cancelled.set):  # it has ended before this thread ran
            self.cancelled.set()

    def _slow(self, request: bytes, context: Any) -> bytes:
        self._seen(context)
        self._note_end(context)
        self.cancelled.wait(DEADLINE_S)
        return b""

    def _fails(self, request: bytes, context: Any) -> None:
        self._seen(context)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich: 100 %")

    def _down(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._seen(context)
        for number in range(int(request)):
            yield b"%d" % number

    def _endless(self, request: bytes, context: Any) -> Iterator[bytes]:
        self._seen(context)
        self._note_end(context)
        while not self.cancelled.is_set():
            yield b"x" * 1000

    def _up(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._seen(context)
        pieces = list(requests)
        return b"%d %d" % (len(pieces), sum(map(len, pieces)))

    def _both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._seen(context)
        for each in requests:
            yield self.name.encode() + b":" + each


class GrpcClient:
    """A client of the service, over one connection."""

    def __init__(self, address: str, credentials: Any = None, *, retries: bool = False) -> None:
        """`retries`: gRPC's transparent ones, which it has by default, of calls that no server has seen."""
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        options.append(("grpc.enable_retries", int(retries)))
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self.unary: Callable[..., Any] = self._channel.unary_unary(ECHO + "Unary")
        self.slow: Callable[..., Any] = self._channel.unary_unary(ECHO + "Slow")
        self.fails: Callable[..., Any] = self._channel.unary_unary(ECHO + "Fails")
        self.unknown: Callable[..., Any] = self._channel.unary_unary("/other.Service/Method")
        self.down: Callable[..., Any] = self._channel.unary_stream(ECHO + "Down")
        self.endless: Callable[..., Any] = self._channel.unary_stream(ECHO + "Endless")
        self.up: Callable[..., Any] = self._channel.stream_unary(ECHO + "Up")
        self.both: Callable[..., Any] = self._channel.stream_stream(ECHO + "Both")

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *given: object) -> None:
        self.close()
