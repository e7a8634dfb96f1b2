"""Connections without sockets, so that what is counted is the gateway and nothing else.

The gateway reaches its pods through the loop it runs on: `MemoryLoop` opens a `Wire` where a socket would be. Who
plays the far ends is `script.py`'s business. Nothing here checks or buffers: it would be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast


class Wire(asyncio.Transport):
    """One connection, seen from the gateway as its transport and from the far end through `deliver` and `sent`."""

    def __init__(self, protocol: asyncio.BaseProtocol, asked: list[Wire]) -> None:
        super().__init__()
        self._protocol = protocol
        self._asked = asked
        self._closed = False
        self.sent: list[bytes] = []
        """What the gateway wrote; the far end clears it."""
        protocol.connection_made(self)

    def deliver(self, data: bytes) -> None:
        """Bytes from the far end."""
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = cast(memoryview, protocol.get_buffer(len(data)))
            buffer[: len(data)] = data
            protocol.buffer_updated(len(data))
        else:
            cast(asyncio.Protocol, protocol).data_received(data)

    def hang_up(self) -> None:
        """The far end closes."""
        self._closed = True
        self._protocol.connection_lost(None)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """The gateway sends."""
        self.sent.append(cast(bytes, data))
        self._asked.append(self)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """The gateway sends parts, as a real transport does: none is copied."""
        self.sent.extend(cast(Iterable[bytes], list_of_data))
        self._asked.append(self)

    def is_closing(self) -> bool:
        """Whether the gateway closed it."""
        return self._closed

    def close(self) -> None:
        """The gateway closes it."""
        if not self._closed:
            self.hang_up()

    def abort(self) -> None:
        """The gateway closes it."""
        self.close()

    def is_reading(self) -> bool:
        """Always: no client is slow here."""
        return True

    def pause_reading(self) -> None:
        """Nothing to do: the far end sends one piece at a time."""

    def resume_reading(self) -> None:
        """Nothing to do."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing to do: what is written is taken at once."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


class MemoryLoop(asyncio.SelectorEventLoop):
    """A loop whose outgoing connections are wires."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Wire] = []
        """Wires to pods that were written to; the pods' side clears it."""

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_: object
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connects at once, to any address."""
        protocol = protocol_factory()
        return Wire(protocol, self.asked), protocol
