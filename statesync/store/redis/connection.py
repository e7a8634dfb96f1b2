"""One connection to a Redis server: bytes out, replies and pushes in. It speaks RESP3 (server >= 6.0, Valkey).

It is an `asyncio.Protocol` with hiredis as the parser, because the state is sent hundreds of times a second: a call
makes only a future, one timer watches all expected replies, and there is no pool, no stream and no lock. A connection
is used until it is lost; its owner opens another one, and knows the keys, scripts and messages. No text made here
contains a password.
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

OnReply: TypeAlias = Callable[[Any], None]
"""Called with a reply."""

Push: TypeAlias = list[object]
"""A push of the server: `[b"message", channel, data]`."""

UNSENT_BYTES: Final = 16 << 20
"""Bytes waiting for the socket above which the next command declares the connection lost."""

_MORE: Final = object()
"""The parser's result when it needs more bytes. Its default, False, is also a reply."""

_CONFIRMATIONS: Final = frozenset({b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe"})
"""Pushes that are replies to commands."""

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in {
        "TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3,
    }.items() if hasattr(socket, name)),
)  # fmt: skip
"""Socket options: a subscriber expects no reply, so only the kernel's probes notice that the server's machine is
gone."""

_ROLES: Final = {b"master": "master", b"replica": "replica", b"slave": "replica"}

_REFUSALS: Final = {
    "WRONGPASS": "it refuses the user name or password",
    "NOAUTH": "it needs a password",
    "NOPROTO": "it does not speak RESP3 (Redis 6.0 or newer does)",
}
"""Meanings of the error codes of a handshake; others are quoted."""


class ReplyError(StateError):
    """An error reply: raised by `call`, a value among a pipeline's replies."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code} {message}".rstrip())
        self.code = code
        """The first word: NOSCRIPT, MOVED, READONLY, LOADING, NOAUTH, ..."""
        self.message = message
        """The rest."""

    @classmethod
    def parsed(cls, text: str) -> ReplyError:
        """From the server's line."""
        code, _, message = text.partition(" ")
        return cls(code, message)


class ServerAddress(NamedTuple):
    """A server's address and credentials. Its text shows no password."""

    host: str
    port: int = 6379
    username: str = ""
    """Empty: the user `default`."""
    password: str = ""
    """Empty: no AUTH is sent."""
    db: int = 0
    tls: ssl.SSLContext | None = None
    path: str = ""
    """A unix socket; host and port are then unused."""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def __repr__(self) -> str:
        return f"<ServerAddress {self}/{self.db}{' TLS' if self.tls else ''}>"


class RespConnection(asyncio.Protocol):
    """A connection that is open until it is lost; made by `open`."""

    def __init__(self, address: ServerAddress, timeout_s: float, on_push: Callable[[Push], None] | None = None) -> None:
        self.address = address
        self.round_trips = 0
        """Counter: writes; commands sent together are one."""
        self.bytes_sent = 0
        self.bytes_received = 0
        self.role = ""
        """The server's role in the handshake: `master`, `replica`, or empty (Sentinel)."""
        self._timeout_s = timeout_s
        self._on_push = on_push
        self._on_lost: Callable[[StoreUnavailable], None] | None = None
        """Set after the handshake, removed when it is called and by `close`."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        """None before it is connected and after it is lost."""
        self._lost = ""
        """Why it cannot be used any more; empty while it can."""
        self._full = False
        self._reader = hiredis.Reader(replyError=ReplyError.parsed, notEnoughData=_MORE)
        self._owed: deque[tuple[OnReply, int, float]] = deque()
        """Oldest first: the callback, the number of replies, the time of sending (the loop's)."""
        self._partial: list[object] = []
        """Replies so far for the oldest entry, if it expects several."""
        self._received_at = 0.0
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
        """Connect, authenticate, select the database: all within `timeout_s`. Raises StoreUnavailable.

        `on_push` is called with the server's pushes while the socket is read: it must not block, and if it raises, the
        connection is lost. `on_lost` is called once, later on the loop, and never after `close`.
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

        A reply that exceeds the time limit costs the connection: a later reply would be taken for that of the next
        command.
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
        """Write packed commands. The future gives the reply, or a list if there are several, error replies as values.

        It fails with StoreUnavailable only, and need not be awaited. Cancelling it does not affect other replies.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.write(packed, partial(_settle, future), replies):
            _settle(future, StoreUnavailable(self._lost))
        return future

    def write(self, packed: bytes, on_reply: OnReply, replies: int = 1) -> bool:
        """`send` without a future: `on_reply` is called with its result, or with StoreUnavailable if the connection is
        lost; it must not block. False: the connection is lost already, there will be no call.
        """
        if self._full:
            self._lose(f"{self.address} takes no more: {UNSENT_BYTES >> 20} MiB are unsent")
        if self._transport is None:
            return False
        now = self._loop.time()
        self._owed.append((on_reply, replies, now))
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._timeout_s, self._check)
        self.round_trips += 1
        self.bytes_sent += len(packed)
        self._transport.write(packed)
        return True

    def close(self) -> None:
        """Close: expected replies fail with StoreUnavailable, and no other callback is called any more. Idempotent."""
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
                with contextlib.suppress(OSError):  # The server may be gone already: `connection_lost` follows.
                    sock.setsockopt(level, option, value)

    async def _greet(self, name: str) -> None:
        address = self.address
        login = ("AUTH", address.username or "default", address.password) if address.password else ()
        hello = ("HELLO", 3, *login, "SETNAME", "".join(c if "!" <= c <= "~" else "-" for c in name) or "turnout")
        with contextlib.suppress(StoreUnavailable):  # `_lost` says the same.
            replies = await self.pipeline([hello, ("SELECT", address.db)] if address.db else [hello])
            self.role = _ROLES.get(replies[0].get(b"role", b""), "") if isinstance(replies[0], dict) else ""
            for refused in (reply for reply in replies if isinstance(reply, ReplyError)):
                self._lose(f"{address} refuses the login: {_refusal(refused, address)}")

    def _check(self) -> None:
        """Called by the timer: lose the connection if the oldest reply is overdue. Any received byte counts as life."""
        self._timer = None
        if self._owed:
            due = max(self._owed[0][2], self._received_at) + self._timeout_s
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
        for on_reply, _, _ in owed:
            on_reply(StoreUnavailable(why))
        self._loop.call_soon(self._call_on_lost)

    def _call_on_lost(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(StoreUnavailable(self._lost))

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
        """Pass each reply to the oldest callback, each push to `on_push`."""
        self._received_at = self._loop.time()
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
            text = _refusal(reply, self.address) if isinstance(reply, ReplyError) else "something unexpected"
            self._lose(f"{self.address} said {text}")  # Such as that it has too many clients.
            return
        on_reply, count, _ = self._owed[0]
        if count > 1:
            self._partial.append(reply)
            if len(self._partial) < count:
                return
            reply, self._partial = self._partial, []
        self._owed.popleft()
        on_reply(reply)

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
        future.exception()  # Marks it as retrieved: the future need not be awaited.
    else:
        future.set_result(reply)


def _refusal(reply: ReplyError, address: ServerAddress) -> str:
    """Why a handshake failed. The error about an unknown command quotes its arguments, including the password."""
    text = str(reply).partition("with args")[0].rstrip(" ,")
    if address.password:
        text = text.replace(address.password, "***")
    return _REFUSALS.get(reply.code, text)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
