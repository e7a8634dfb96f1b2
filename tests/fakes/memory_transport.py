"""Connections without sockets: a transport that behaves like asyncio's, with the test at the far end.

Bytes are delivered within the same `Wire.do`, and time advances only when the test advances it.
The rules are those of `asyncio.selector_events` and uvloop where the two agree. A mistake that they forgive (a write
after the end) is an error here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import h11

from tests.fakes.virtual_time import Clock, VirtualLoop


class Transport(asyncio.Transport):
    """A protocol's transport; the test controls the far end with `deliver`, `hang_up`, `stall` and `drain`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 50000)})
        self._loop = loop
        self._protocol = protocol
        self.sent = bytearray()
        """Bytes that the far end has received."""
        self.unsent = bytearray()
        """Bytes that the far end has not taken yet."""
        self.ending = ""
        """`closed` (all bytes were sent first) or `aborted` by the protocol, or `lost`."""
        self.eof = False
        self.lost = False
        """`connection_lost` was called."""
        self._stalled = False
        self._high, self._low = 65536, 16384
        self._writing_paused = False
        self._reading_paused = False
        self._inbox: deque[bytes | None] = deque()
        self._buried = False

    # The protocol's side

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.ending == "aborted":
            return
        if self.eof or self.ending:
            raise RuntimeError("written after the end")
        self.unsent += data
        self._flush()

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._loop.call_soon(self._read)

    def is_reading(self) -> bool:
        return not self._reading_paused and not self.ending

    def is_closing(self) -> bool:
        return bool(self.ending)

    def close(self) -> None:
        if not self.ending:
            self.ending = "closed"
            if not self.unsent:
                self._bury(None)

    def abort(self) -> None:
        self._end("aborted", None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol) or hasattr(protocol, "data_received")
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # The far end

    def deliver(self, data: bytes | None) -> None:
        """Bytes from the far end, or None for end of file."""
        self._inbox.append(data)
        self._read()

    def hang_up(self, error: Exception | None) -> None:
        """The connection breaks."""
        self._end("lost", error)

    def stall(self) -> None:
        """Stop taking bytes."""
        self._stalled = True

    def drain(self) -> None:
        """Take all pending bytes and those that follow."""
        self._stalled = False
        self._flush()

    # Delivery between the two sides

    def _read(self) -> None:
        while self._inbox and self.is_reading():
            data = self._inbox.popleft()
            try:
                if data is not None:
                    self._protocol.data_received(data)
                elif not self._protocol.eof_received():
                    self.close()
            except Exception as error:  # noqa: BLE001  as asyncio: reported to the loop, then the connection is broken
                self._loop.call_exception_handler({"message": "a protocol raised", "exception": error})
                self._end("lost", error)

    def _flush(self) -> None:
        if not self._stalled:
            self.sent += self.unsent
            self.unsent.clear()
        if len(self.unsent) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif self._writing_paused and len(self.unsent) <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self.ending == "closed" and not self.unsent:
            self._bury(None)

    def _end(self, how: str, error: Exception | None) -> None:
        if not self._buried:
            self.ending = how
            self.unsent.clear()
            self._bury(error)

    def _bury(self, error: Exception | None) -> None:
        if not self._buried:
            self._buried = True
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        self.lost = True
        self._protocol.connection_lost(error)


class Wire:
    """The event loop that runs the protocols."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = VirtualLoop(self.clock)
        self.crashes: list[str] = []
        """Exceptions raised by protocols and tasks."""
        self.turns = 16
        """Turns of the loop that `do` runs at most; a test that needs more sets it."""
        self.loop.set_exception_handler(lambda _, context: self.crashes.append(str(context)))

    def do(self, act: Callable[[], object] = lambda: None) -> None:
        """Run `act` and everything that follows from it, without advancing the time."""
        self.loop.call_soon(act)
        self.loop.run_until_complete(_until_idle(self.loop, self.turns))

    def close(self) -> None:
        """Close the loop and cancel what still runs on it."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.do()
        self.loop.close()


async def _until_idle(loop: VirtualLoop, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
        if loop.idle:
            return


class Answer(NamedTuple):
    """An HTTP answer as parsed by h11, independently of the gateway's parser."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    """Whether its framing ended it, or the connection's clean end where that is the framing."""


def read_answers(raw: bytes, *, ended: bool, method: str = "POST") -> list[Answer]:
    """The answers in the bytes a client received, without interim ones. `ended`: the connection was closed cleanly."""
    found: list[Answer] = []
    while raw:
        peer = h11.Connection(h11.CLIENT)
        peer.send(h11.Request(method=method, target="/", headers=[("host", "gateway")]))
        peer.send(h11.EndOfMessage())
        peer.receive_data(raw)
        if ended:
            peer.receive_data(b"")
        answer = _read_one(peer)
        if answer is None:
            break
        found.append(answer)
        raw = peer.trailing_data[0] if answer.complete else b""
    return found


def _read_one(peer: h11.Connection) -> Answer | None:
    head: h11.Response | None = None
    body = b""
    complete = False
    while True:
        try:
            event = peer.next_event()
        except h11.RemoteProtocolError:
            break
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            complete = True
            break
        elif not isinstance(event, h11.InformationalResponse):
            break
    if head is None:
        return None
    names = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    assert len(names) == len(list(head.headers)), f"a header occurs twice: {head.headers}"
    return Answer(head.status_code, names, body, complete)


class Asked(NamedTuple):
    """A request as parsed by h11 in a pod."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def read_requests(raw: bytes) -> list[Asked]:
    """The complete requests in the bytes a pod received."""
    found: list[Asked] = []
    while raw:
        peer = h11.Connection(h11.SERVER)
        peer.receive_data(raw)
        head, body = peer.next_event(), b""
        if not isinstance(head, h11.Request):
            break
        while isinstance(event := peer.next_event(), h11.Data):
            body += bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            break
        names = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        found.append(Asked(head.method.decode(), head.target.decode(), names, body))
        raw = peer.trailing_data[0]
    return found
