"""Connections without sockets: where the gateway would have a client or a pod, the picker has an ext_proc stream.

The gateway is the same as behind a socket: it reads a request as HTTP/1.1 and writes one to the pod that it chose. What
it writes is handed to a function here; knows no message of Envoy's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

MARK: Final = b"\r\nx-endpoint-picker-stream: "
"""Stands before the number of a request's stream among the headers that the gateway passes on. A client's own header of
this name is dropped before."""


class EndWire:
    """One end of a connection, as the gateway's transport by its methods; the other end is `take`."""

    def __init__(self, protocol: asyncio.Protocol, take: Callable[[bytes], None], peer: str = "") -> None:
        self.take = take
        self._protocol = protocol
        self._peer = peer
        self._reading = True
        self._closing = False
        protocol.connection_made(cast(asyncio.Transport, self))

    def deliver(self, data: bytes) -> None:
        """Bytes from the other end; dropped where the gateway has closed."""
        if not self._closing:
            self._protocol.data_received(data)

    def hang_up(self) -> None:
        """The other end closes."""
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """The gateway sends."""
        if not self._closing:
            self.take(cast(bytes, data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """The gateway sends a message in parts."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """No half of it can be closed."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peername` where the other end has one."""
        return (self._peer, 0) if name == "peername" and self._peer else default

    def is_closing(self) -> bool:
        """Whether one of the two ends has closed."""
        return self._closing

    def close(self) -> None:
        """The gateway closes; what it wrote is out already. It learns of it in another turn, as from a socket."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """The gateway closes."""
        self.close()

    def is_reading(self) -> bool:
        """Whether the gateway wants more."""
        return self._reading

    def pause_reading(self) -> None:
        """The gateway has a request to answer first; none follows on this connection."""
        self._reading = False

    def resume_reading(self) -> None:
        """The gateway reads on."""
        self._reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing to do: what is written is taken at once."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


Picked = Callable[[str, EndWire, bytes], None]
"""Takes the address of the pod that the gateway chose, the connection that waits for its answer, and the request as the
pod is to get it."""


class PodWires:
    """Connections to pods: a request that the gateway writes to one goes to the stream that it came from."""

    def __init__(self, streams: Mapping[int, Picked]) -> None:
        self._streams = streams

    async def dial(self, make: Callable[[], asyncio.Protocol], address: str, pool: str) -> object:
        """Connect to any address; see `Dial`."""
        wire = EndWire(make(), self._nowhere)
        wire.take = lambda request: self._written(address, wire, request)
        return wire

    def _written(self, address: str, wire: EndWire, request: bytes) -> None:
        # The last one: a client's own line of this name, in whatever case, comes before it.
        at = request.rfind(MARK, 0, request.find(b"\r\n\r\n")) + len(MARK)
        number = int(request[at : request.index(b"\r\n", at)])
        picked = self._streams.get(number)
        if picked is not None:  # else the stream has ended while a connection was made: the gateway gives the pod up
            picked(address, wire, request)

    def _nowhere(self, data: bytes) -> None:
        """Nothing is written before the connection is made."""
