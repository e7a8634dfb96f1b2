"""A network and a clock that a test controls, in front of a real redis-server.

The code under test runs whole: its connections are made by the event loop, and this loop's connections are queues
whose bytes arrive late, are held by a cut, or are lost by a reset. The server executes real commands and scripts, over
a socket for each connection, at the moment their bytes arrive. Nothing waits in real time: where the loop would sleep,
the clock jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from statesync.store.redis.commands import pack
from statesync.store.redis.scripts import RESTORE_POLICY

HOP_S = 0.001
"""Seconds that bytes travel one way on an undisturbed path."""

TICK_S = 1e-7
"""Seconds between two arrivals on a connection: timers of the same moment have no order."""

_PING, _PONG = pack("PING"), b"+PONG\r\n"
_MORE = object()
_RESTORE = ([RESTORE_POLICY.sha.encode()], [RESTORE_POLICY.source])


class JumpingSelector(selectors.SelectSelector):
    """Waits for no file: the clock jumps instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing would ever happen again"
        self.now += max(0.0, timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; its unix sockets lead through a `SimulatedPath`, named by the socket's path."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        self.paths: dict[str, SimulatedPath] = {}
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], path: str, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        protocol = protocol_factory()
        transport = await self.paths[path].connect(protocol)
        return transport, protocol


class ServerEnd:
    """The server's side of all connections: executes what arrives and returns what the server answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.up = True
        self.links: set[SimulatedTransport] = set()
        self.restores = 0
        """Times that a replica's records were put back."""

    def connect(self) -> socket.socket:
        """A real connection."""
        made = socket.create_connection(("127.0.0.1", self._port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def execute(self, link: SimulatedTransport, data: bytes) -> None:
        """Execute commands; the answers, and what they publish, start on their way back."""
        parser = hiredis.Reader(notEnoughData=_MORE)
        parser.feed(data)
        count, publishes, restores = 0, False, False
        while (command := parser.gets()) is not _MORE:
            count += 1
            publishes = publishes or command[0] in (b"EVALSHA", b"EVAL", b"PUBLISH")
            restores = restores or command[1:2] in _RESTORE
        answers = _answers(link.server, data, count)
        self.restores += restores and answers.endswith(b":1\r\n")
        link.back(answers)
        for other in [each for each in self.links if publishes and each is not link and each.subscribed]:
            other.back(_answers(other.server, b"", 0))
        link.subscribed = link.subscribed or data.find(b"SUBSCRIBE") >= 0

    def go_down(self) -> None:
        """Reset every connection and refuse new ones."""
        self.up = False
        for link in tuple(self.links):
            link.reset()


def _answers(server: socket.socket, data: bytes, count: int) -> bytes:
    """Everything the server sends up to the last answer; a PING behind the commands marks the end."""
    server.sendall(data + _PING)
    parser = hiredis.Reader(notEnoughData=_MORE, replyError=Exception)
    taken, answers = b"", 0
    while answers <= count:
        piece = server.recv(1 << 16)
        assert piece, "the server closed a connection"
        taken += piece
        parser.feed(piece)
        while (reply := parser.gets()) is not _MORE:
            if type(reply) is not hiredis.PushNotification or reply[0] == b"subscribe":
                answers += 1
    assert taken.endswith(_PONG)
    return taken[: -len(_PONG)]


class SimulatedPath:
    """The way between one replica and the server."""

    def __init__(self, loop: SimulatedLoop, end: ServerEnd) -> None:
        self._loop = loop
        self.end = end
        self.delay_s = HOP_S
        self.cut = False
        """Bytes wait where they are, and no end notices."""
        self._waiting: deque[Callable[[], None]] = deque()
        self.healed = asyncio.Event()
        self.healed.set()

    async def connect(self, protocol: asyncio.Protocol) -> SimulatedTransport:
        """A connection; waits while the path is cut. Raises ConnectionRefusedError while the server is down."""
        await asyncio.sleep(self.delay_s)
        await self.healed.wait()
        if not self.end.up:
            raise ConnectionRefusedError(111, "refused")
        transport = SimulatedTransport(self._loop, self, protocol)
        protocol.connection_made(transport)
        return transport

    def part(self) -> None:
        """Cut it."""
        self.cut = True
        self.healed.clear()

    def heal(self) -> None:
        """Mend it: what waited arrives now, in order."""
        self.cut = False
        self.healed.set()
        while self._waiting and not self.cut:
            self._waiting.popleft()()

    def carry(self, due: float, arrive: Callable[[], None]) -> None:
        """Call `arrive` at `due`, or after the path is mended."""
        self._loop.call_at(due, self._arrived, arrive)

    def _arrived(self, arrive: Callable[[], None]) -> None:
        if self.cut:
            self._waiting.append(arrive)
        else:
            arrive()


class SimulatedTransport(asyncio.Transport):
    """A connection: two queues, and a real socket to the server behind them."""

    def __init__(self, loop: SimulatedLoop, path: SimulatedPath, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop, self._path, self._protocol = loop, path, protocol
        self.server = path.end.connect()
        self.subscribed = False
        self._there = self._here = 0.0
        """When the last bytes are due on either side: later ones do not overtake them."""
        self._over = False
        path.end.links.add(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._there = max(self._there + TICK_S, self._loop.time() + self._path.delay_s)
        self._path.carry(self._there, lambda: self._arrive(bytes(data)))

    def _arrive(self, data: bytes) -> None:
        if not self._over:
            self._path.end.execute(self, data)

    def back(self, data: bytes) -> None:
        """Send bytes of the server to the client."""
        if data:
            self._here = max(self._here + TICK_S, self._loop.time() + self._path.delay_s)
            self._path.carry(self._here, lambda: self._receive(data))

    def _receive(self, data: bytes) -> None:
        if not self._over:
            self._protocol.data_received(data)

    def reset(self) -> None:
        """The server ends it."""
        self._end(ConnectionResetError(104, "reset"))

    def abort(self) -> None:
        """The client ends it."""
        self._end(None)

    close = abort

    def _end(self, error: Exception | None) -> None:
        if not self._over:
            self._over = True
            self._path.end.links.discard(self)
            self.server.close()
            self._loop.call_soon(self._protocol.connection_lost, error)

    def is_closing(self) -> bool:
        return self._over

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def simulated_loop() -> asyncio.AbstractEventLoop:
    """For asyncio.Runner."""
    return SimulatedLoop()


def running() -> SimulatedLoop:
    """The loop that runs."""
    return cast(SimulatedLoop, asyncio.get_running_loop())
