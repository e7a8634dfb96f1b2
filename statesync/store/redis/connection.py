"""One connection to a Redis server: bytes out, replies and pushes in. It speaks RESP3 (server >= 6.0, Valkey).

Replies are parsed by hiredis, on an `asyncio.Protocol`, because the state is sent hundreds of
times a second: a future is all that a call makes, one timer watches all that are owed, and there is no pool, no
stream and no lock. A connection is used until it is lost, then thrown away; making it anew is its owner's business,
as is knowing keys, scripts and messages. No text made here holds a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, cast

import hiredis

from statesync.errors import StateError, StoreUnavailable
from statesync.store.redis.commands import Part, pack

Hearer: TypeAlias = Callable[[Any], None]
"""Of a reply."""

Push: TypeAlias = list[object]
"""What the server says unasked: `[b"message", channel, data]`."""

UNSENT_BYTES: Final = 16 << 20
"""While more than this waits for the socket, the next command declares the connection lost."""

_MORE: Final = object()
"""What the parser answers when it needs more bytes. Its own default, False, is also a reply."""

_CONFIRMATIONS: Final = frozenset({b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe"})
"""Pushes that answer a command: each takes the place of a reply."""

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in {
        "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3,
    }.items() if hasattr(socket, name)),
)  # fmt: skip
"""A subscriber owes no reply, so only the kernel's probes notice that its peer's machine is gone."""

_ROLES: Final = {b"master": "master", b"replica": "replica", b"slave": "replica"}

_REFUSALS: Final = {
    "WRONGPASS": "it refuses the user name or password",
    "NOAUTH": "it needs a password",
    "NOPROTO": "it does not speak RESP3 (Redis 6.0 or newer does)",
}
"""What the codes of a failed handshake mean; others are quoted."""


class ReplyError(StateError):
    """The server answered with an error: raised by `call`, a value in a pipeline's answers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}".rstrip())
        self.code = code
        """Its first word: NOSCRIPT, MOVED, READONLY, LOADING, NOAUTH, ..."""
        self.message = message
        """The rest."""

    @classmethod
    def parsed(cls, text: str) -> ReplyError:
        """From the server's line."""
        code, _, message = text.partition(" ")
        return cls(code, message)


class ServerAddress(NamedTuple):
    """Where a server is and how to enter. Its text shows no password."""

    host: str
    port: int = 6379
    username: str = ""
    """Empty: the user `default`."""
    password: str = ""
    """Empty: no AUTH is sent."""
    db: int = 0
    tls: ssl.SSLContext | None = None
    path: str = ""
    """A unix socket; then host and port mean nothing."""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def __repr__(self) -> str:
        return f"<Address {self}/{self.db}{' TLS' if self.tls else ''}>"


class RespConnection(asyncio.Protocol):
    """A connection that is open until it is lost; made by `open`."""

    def __init__(self, address: ServerAddress, timeout_s: float, on_push: Callable[[Push], None] | None = None) -> None:
        self.address = address
        self.round_trips = 0
        """Counter: sends; what travels together is one."""
        self.bytes_sent = 0
        self.bytes_received = 0
        self.role = ""
        """What the server said it is when it let us in: `master`, `replica`, or nothing (Sentinel)."""
        self._timeout_s = timeout_s
        self._on_push = on_push
        self._on_lost: Callable[[StoreUnavailable], None] | None = None
        """Set when the handshake is over, taken away when it was told or by `close`."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        """None before it is connected and after it is lost."""
        self._lost = ""
        """Why it is of no more use."""
        self._full = False
        self._reader = hiredis.Reader(replyError=ReplyError.parsed, notEnoughData=_MORE)
        self._owed: deque[tuple[Hearer, int, float]] = deque()
        """Oldest first: whom to tell, after how many replies, when it was sent (the loop's time)."""
        self._partial: list[object] = []
        """Replies of the oldest so far, when it is owed several."""
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<RespConnection {self.address}: {self._lost or f'{len(self._owed)} owed'}>"

    @classmethod
    async def open(
        cls,
        address: ServerAddress,
        *,
        timeout_s: float,
        name: str,
        on_push: Callable[[Push], None] | None = None,
        on_lost: Callable[[StoreUnavailable], None] | None = None,
    ) -> RespConnection:
        """Connect, say who we are, select the database: all within `timeout_s`. Raises StoreUnavailable.

        `on_push` hears what the server says unasked, from within the reading of the socket: it must not block, and
        if it raises, the connection is lost. `on_lost` is called once, later on the loop, and never after `close`.
        """
        connection = cls(address, timeout_s, on_push)
        try:
            async with asyncio.timeout(timeout_s):
                await connection._connect()
                await connection._greet(name)
        except TimeoutError:
            connection._lose(f"{address} did not answer within {timeout_s:g} s")
        except (OSError, UnicodeError) as error:  # The latter for a host that cannot be a name.
            connection._lose(f"cannot connect to {address}: {_reason(error)}")
        except BaseException:
            connection.close()
            raise
        if connection._lost:
            raise StoreUnavailable(connection._lost)
        connection._on_lost = on_lost
        return connection

    @property
    def lost(self) -> str:
        """Why nothing can be sent any more; empty while it can."""
        return self._lost

    async def call(self, *command: Part) -> Any:
        """One command, one reply. Raises ReplyError, StoreUnavailable.

        A reply that does not come within the time limit costs the connection: the next could not be told from it.
        """
        reply = await self.send(pack(*command))
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[tuple[Part, ...]]) -> list[Any]:
        """Commands in one write; their replies in order, errors in place as ReplyError. Raises StoreUnavailable."""
        if not commands:
            return []
        packed = b"".join(pack(*command) for command in commands)
        replies = await self.send(packed, len(commands))
        return cast("list[Any]", replies) if len(commands) > 1 else [replies]

    def send(self, packed: bytes, replies: int = 1) -> asyncio.Future[Any]:
        """Write what `pack` made. The future holds the reply, or the list of `replies` > 1 of them, errors as values.

        It fails with StoreUnavailable only; nobody need look at it. Cancelling it leaves the others in order.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.write(packed, partial(_settle, future), replies):
            _settle(future, StoreUnavailable(self._lost))
        return future

    def write(self, packed: bytes, hearer: Hearer, replies: int = 1) -> bool:
        """`send` without a future: `hearer` is called with what it would hold, or with the StoreUnavailable it would
        raise, when that is read or the connection is lost: it must not block. False: it is lost, nobody will be called.
        """
        if self._full:
            self._lose(f"{self.address} takes no more: {UNSENT_BYTES >> 20} MiB are unsent")
        if self._transport is None:
            return False
        now = self._loop.time()
        self._owed.append((hearer, replies, now))
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout_s, self._check)
        self.round_trips += 1
        self.bytes_sent += len(packed)
        self._transport.write(packed)
        return True

    def close(self) -> None:
        """Break it off; who still waits gets StoreUnavailable, and nothing is pushed or told any more. Idempotent."""
        self._on_lost = self._on_push = None
        self._lose("the connection was closed")

    async def _connect(self) -> None:
        address, loop = self.address, self._loop
        if address.path:
            await loop.create_unix_connection(lambda: self, address.path)
            return
        await loop.create_connection(lambda: self, address.host, address.port, ssl=address.tls)
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            for level, option, value in _KEEPALIVE:
                with contextlib.suppress(OSError):  # The peer may be gone already, which is told elsewhere.
                    sock.setsockopt(level, option, value)

    async def _greet(self, name: str) -> None:
        address = self.address
        login = ("AUTH", address.username or "default", address.password) if address.password else ()
        hello = ("HELLO", 3, *login, "SETNAME", "".join(c if "!" <= c <= "~" else "-" for c in name) or "turnout")
        with contextlib.suppress(StoreUnavailable):  # `_lost` says the same.
            replies = await self.pipeline([hello, ("SELECT", address.db)] if address.db else [hello])
            self.role = _ROLES.get(replies[0].get(b"role", b""), "") if isinstance(replies[0], dict) else ""
            for refused in (reply for reply in replies if isinstance(reply, ReplyError)):
                self._lose(f"{address} lets nobody in: {_refusal(refused, address)}")

    def _check(self) -> None:
        """The timer: is the oldest reply overdue? Bytes that come prove the server alive and put it off."""
        self._timer = None
        if self._owed:
            due = max(self._owed[0][2], self._heard_at) + self._timeout_s
            if due <= self._loop.time():
                self._lose(f"{self.address} did not answer within {self._timeout_s:g} s")
            else:
                self._timer = self._loop.call_at(due, self._check)

    def _lose(self, why: str) -> None:
        if self._lost:
            return
        self._lost = why
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owed, self._owed = self._owed, deque()
        for hearer, _, _ in owed:
            hearer(StoreUnavailable(why))
        self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        told, self._on_lost = self._on_lost, None
        if told is not None:
            told(StoreUnavailable(self._lost))

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server accepted."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one, but no subclass.
        if self._lost:  # Given up while it was being connected.
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Tell each reply to the oldest who waits, each push to the hearer."""
        self._heard_at = self._loop.time()
        self.bytes_received += len(data)
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _MORE:
                if type(reply) is hiredis.PushNotification and reply[0] not in _CONFIRMATIONS:
                    if self._on_push is not None:
                        self._on_push(reply)
                else:
                    self._answer(reply)
        except hiredis.ProtocolError:
            self._lose(f"{self.address} does not speak the Redis protocol")

    def _answer(self, reply: object) -> None:
        if not self._owed:
            said = _refusal(reply, self.address) if isinstance(reply, ReplyError) else "what nobody asked for"
            self._lose(f"{self.address} said {said}")  # Such as that it has too many clients.
            return
        hearer, count, _ = self._owed[0]
        if count > 1:
            self._partial.append(reply)
            if len(self._partial) < count:
                return
            reply, self._partial = self._partial, []
        self._owed.popleft()
        hearer(reply)

    def pause_writing(self) -> None:
        """More than UNSENT_BYTES are unsent."""
        self._full = True

    def resume_writing(self) -> None:
        """The socket took some."""
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:
        """The server, the network or `_lose` ended it."""
        self._transport = None
        self._lose(f"lost {self.address}: {_reason(exc) if exc else 'it closed the connection'}")


def _settle(future: asyncio.Future[Any], reply: object) -> None:
    if future.done():
        return
    if isinstance(reply, StoreUnavailable):
        future.set_exception(reply)
        future.exception()  # Counts as looked at: a future nobody awaits is no mistake here.
    else:
        future.set_result(reply)


def _refusal(reply: ReplyError, address: ServerAddress) -> str:
    """Why a handshake failed. An error on an unknown command quotes its arguments, the password among them."""
    text = str(reply).partition("with args")[0].rstrip(" ,")
    if address.password:
        text = text.replace(address.password, "***")
    return _REFUSALS.get(reply.code, text)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
