"""A TCP proxy that delays the server's bytes, like a Redis that is far away or overloaded, that parts the two sides, or
that refuses connections.

Bytes keep their order and none is lost; an end is passed on in kind, half-closed or reset. While the sides are parted,
neither gets a byte or an end of the other, as behind a cut cable; afterwards each gets all of it. It runs on an event
loop in its own thread, and stops at once whatever its peers do.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from loadtests.sim.ports import HOST

END_S = 10.0


class SlowLink:
    """Listens on `port`, forwards to `target`; `delay_s` may be changed at any time."""

    def __init__(self, target: int, host: str = HOST, port: int = 0) -> None:
        """`host` and `port` are its own; the target is always on 127.0.0.1."""
        self.delay_s = 0.0
        self.replaced: dict[bytes, bytes] = {}
        """What it replaces in the server's bytes, such as an address by that of a proxy."""
        self.host, self.port = host, port
        self.parted = False
        self.held = 0
        """Number of pieces that were delayed."""
        self.open: set[_Side] = set()
        """Both sides of each connection."""
        self._target = target
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server
        self._over: asyncio.Event
        self._whole: asyncio.Event
        """Set unless the sides are parted."""
        self._lost: list[_Side] = []
        """Sides whose other side was lost while they were parted."""
        self._joining: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="slow-link", daemon=True)

    async def _serve(self) -> None:
        self._loop, self._over, self._whole = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._whole.set()
        await self._listen()
        self._listening.set()
        await self._over.wait()
        self._server.close()
        self._reset_all()
        await asyncio.sleep(0)  # until the protocols are notified

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Side(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def start(self) -> None:
        """Start the thread; returns when the proxy listens."""
        self._thread.start()
        assert self._listening.wait(END_S), "the proxy does not listen"

    def stop(self) -> None:
        """Stop accepting connections and reset the open ones."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(END_S)
        assert not self._thread.is_alive(), "the proxy does not end"

    def part(self) -> None:
        """Pass nothing on in either direction until `heal`."""
        self._loop.call_soon_threadsafe(self._set_parted, True)

    def heal(self) -> None:
        """Pass on what was held since `part`."""
        self._loop.call_soon_threadsafe(self._set_parted, False)

    def reset_all(self) -> None:
        """Reset every connection on both sides; new ones are accepted."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def refuse(self) -> None:
        """Close the port and reset every connection. `accept` needs a port that is claimed (`ports.py`)."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result(END_S)

    def accept(self) -> None:
        """Listen again on the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(END_S)

    async def _refuse(self) -> None:
        self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for side in tuple(self.open):
            side.reset()

    def _set_parted(self, parted: bool) -> None:
        self.parted = parted
        if parted:
            self._whole.clear()
            return
        self._whole.set()
        lost, self._lost = self._lost, []
        for side in lost:
            side.reset()
        for side in tuple(self.open):
            side.go_on()

    def side_lost(self, side: _Side) -> None:
        """One side of a connection was lost: reset the other one, `side`, as soon as it can know of it."""
        if self.parted:
            self._lost.append(side)
        else:
            side.reset()

    def join(self, near: _Side) -> None:
        """Connect a client to the server."""
        if not self._server.is_serving():  # it was accepted as the port was closed
            near.reset()
            return
        joining = self._loop.create_task(self._connect(near))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)

    async def _connect(self, near: _Side) -> None:
        await self._whole.wait()
        try:
            await self._loop.create_connection(lambda: near.other, HOST, self._target)
        except OSError:
            near.reset()


class _Side(asyncio.Protocol):
    """The client's side, whose bytes are passed on at once, or the server's (`far`), whose bytes are delayed."""

    def __init__(self, link: SlowLink, near: _Side | None = None) -> None:
        self.transport: asyncio.Transport
        self._link = link
        self._far = near is not None
        self.other: _Side = near or _Side(link, self)
        self._coming: deque[tuple[float, bytes | None]] = deque()
        """Pieces from the other side and when they are due; None: its end."""
        self._connected = self._said_all = self._all_sent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connected = True
        self._link.open.add(self)
        if not self._far:
            self._link.join(self)
        elif self.other.transport.is_closing():
            self.reset()
        self.go_on()

    def reset(self) -> None:
        """Reset this side's connection."""
        if not self.transport.is_closing():
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        for old, new in self._link.replaced.items() if self._far else ():
            data = data.replace(old, new)
        self._pass_on(data)

    def eof_received(self) -> bool:
        self._said_all = True
        self._pass_on(None)
        self._close_if_over()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.open.discard(self)
        if self.other._connected and not (self._said_all and self._all_sent):
            self._link.side_lost(self.other)

    def _pass_on(self, data: bytes | None) -> None:
        delay_s = self._link.delay_s if self._far else 0.0
        self._link.held += delay_s > 0
        loop, coming = asyncio.get_running_loop(), self.other._coming
        # Later bytes must not overtake when the delay is lowered.
        due = max(loop.time() + delay_s, coming[-1][0] if coming else 0.0)
        coming.append((due, data))
        if delay_s:
            loop.call_at(due, self.other.go_on)
        else:
            self.other.go_on()

    def go_on(self) -> None:
        """Send the pieces that are due, unless the sides are parted."""
        now = asyncio.get_running_loop().time()
        while self._connected and not self._link.parted and self._coming and self._coming[0][0] <= now:
            _, data = self._coming.popleft()
            if self.transport.is_closing():
                continue
            if data is not None:
                self.transport.write(data)
            else:
                self._end_all()

    def _end_all(self) -> None:
        self._all_sent = True
        with suppress(OSError):  # this side was reset in the meantime
            self.transport.write_eof()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._said_all and self._all_sent:
            self.transport.close()


@contextmanager
def slow_link(target: int) -> Iterator[SlowLink]:
    """A proxy to the port `target` for the block."""
    link = SlowLink(target)
    link.start()
    try:
        yield link
    finally:
        link.stop()
