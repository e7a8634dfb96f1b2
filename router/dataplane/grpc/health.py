"""The probe of a gRPC pod: `grpc.health.v1.Health/Check` over a connection of its own. Its answers are two bytes of
protobuf, so no generated code is needed.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from router.dataplane.grpc.pods import PodConnection
from router.dataplane.grpc.status import Headers, code_in
from statesync.engines.access import PoolAccess

METHOD: Final = b"/grpc.health.v1.Health/Check"
SERVING: Final = b"\x08\x01"
"""The answer's message: field 1, `status`, is 1."""

NAMES: Final = {b"": "UNKNOWN", b"\x08\x02": "NOT_SERVING", b"\x08\x03": "SERVICE_UNKNOWN"}


class HealthCheck:
    """One check, and the `StreamEvents` of its stream."""

    def __init__(self) -> None:
        self.result: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """As the status of an HTTP probe, and why there is none."""
        self._message = b""

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        """The head of the answer, or its trailers."""
        if ended:
            self._judge(code_in(headers))

    def data(self, piece: bytes, counted: int, /) -> None:
        """The answer's message, behind five bytes of its frame."""
        self._message += piece

    def ended(self) -> None:
        """No trailers."""
        self._judge(None)

    def reset(self, code: int, /) -> None:
        """The connection is gone."""
        self._settle(0, "the connection was closed before the answer")

    def _judge(self, code: int | None) -> None:
        if code == 0 and self._message[5:] == SERVING:
            self._settle(200, "")
        elif code == 0:
            self._settle(0, f"{METHOD.decode()} says {NAMES.get(self._message[5:], 'something else')}")
        else:
            self._settle(0, f"{METHOD.decode()} ended with gRPC status {code}")

    def _settle(self, status: int, problem: str) -> None:
        if not self.result.done():
            self.result.set_result((status, problem))


async def check(access: PoolAccess, address: str, path: str) -> tuple[int, str]:
    """Ask the pod at this address; `path` is `/` and the name of the service to ask about, which may be empty. Raises
    OSError and ValueError."""
    where, target = access.page(address, path)
    service = target.rpartition("/")[2].encode()
    message = b"\x0a%c%b" % (len(service), service) if service else b""
    connection, checking = PodConnection(lambda _: None), HealthCheck()
    try:
        await access.connect(lambda: cast(asyncio.Protocol, connection), where)
        own = [line.partition(": ") for line in access.own().split("\r\n") if line]
        head = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", METHOD),
            (b":authority", access.host_of(where).encode("latin-1")),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *((name.encode("latin-1"), value.encode("latin-1")) for name, _, value in own),
        ]
        stream = connection.open(checking, head, lambda _: None)
        connection.send(stream, b"\x00" + len(message).to_bytes(4) + message, 0)
        connection.finish(stream, [])
        connection.flush()
        return await checking.result
    finally:
        if connection.transport is not None:
            connection.transport.abort()
