"""Accepts the connections of a port that speaks TLS or the PROXY protocol, and hands each to its protocol once the
first byte of HTTP may come. Knows sockets and asyncio, nothing of HTTP. A port with neither never comes here: the
server of asyncio accepts for it.

A connection is looked at before it is read (MSG_PEEK): what follows a PROXY header belongs to TLS, and a client that
speaks no TLS gets an answer that it can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from router.ports.proxy_protocol import MAX_BYTES, BadProxyHeader, parse
from router.ports.tls import HandshakeFailed, PortTls
from statesync.tasks import spawn

_log = logging.getLogger("turnout.ports")

_ACCEPTS: Final = 2
"""Connections accepted in one turn of the event loop. Tokens wait for their handshakes, half a millisecond each."""

_HANDSHAKE: Final = 0x16
"""The first byte of TLS."""

_PAUSE_S: Final = 1.0
"""Seconds without accepting where no file descriptor is left."""

DESCRIPTORS: Final = 2
"""File descriptors of a connection during its handshake."""

STALL_S: Final = 0.25
"""Seconds by which a timer is late when the process stood still; and those that a connection has then, for what it sent
meanwhile to be read, or for a handshake."""

LINGER_S: Final = 1.0
"""Seconds for which a refused client's bytes are read and dropped, so that no reset overtakes the answer."""


class PortOptions(NamedTuple):
    """What a port speaks below HTTP."""

    tls: PortTls | None = None
    proxies: Callable[[str], bool] | None = None
    """Whether connections from this address begin with a header of the PROXY protocol; None: of none do."""

    @property
    def plain(self) -> bool:
        """Whether a connection's first byte is HTTP."""
        return self.tls is None and self.proxies is None


class Acceptance(Protocol):
    """What becomes of accepted connections."""

    def room(self) -> bool:
        """Whether another connection may be accepted; otherwise it is closed at once."""

    def counted_for(self, peer: str, /) -> str:
        """Who a connection from this address is counted for."""

    def crowded(self, client: str, silent: int, /) -> bool:
        """Whether a client has too many connections for another one, which is closed at once. `silent` of them have
        sent nothing: there is no protocol for those yet."""

    def protocol(self, peer: str, /) -> asyncio.BaseProtocol | None:
        """The protocol of a connection from this address, before its handshake; None refuses it."""

    def given_up(self, protocol: asyncio.BaseProtocol, /) -> None:
        """Its handshake is over: if `connection_made` was not called until now, it never will be."""

    def not_tls(self, peer: str, /) -> bytes:
        """The answer to a client that speaks no TLS where it must."""


class Acceptor:
    """A listening socket, and the connections that have not begun to speak HTTP."""

    def __init__(self, options: PortOptions, owner: Acceptance, timeout_s: float, closing_s: float) -> None:
        """`timeout_s`: for everything before HTTP, after which a connection is closed. `closing_s`: for a client of TLS
        to take what was written before its connection was closed, and to close its side; the rest is lost."""
        self.options = options
        self.owner = owner
        self.timeout_s = timeout_s
        self.closing_s = closing_s
        self.arrivals: set[Arrival] = set()
        self.silent: Counter[str] = Counter()
        """Connections by client for which there is no protocol yet, except those of proxies that have not named one."""
        self._socket: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None

    def start(self, bound: socket.socket, backlog: int) -> None:
        """Listen on this socket, which is closed with the acceptor."""
        bound.setblocking(False)
        bound.listen(backlog)
        self._socket = bound
        self._accept_on()

    def close(self) -> None:
        """Accept no more; connections that were accepted go on."""
        if self._resume is not None:
            self._resume.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def abort(self) -> None:
        """Close the connections that have not begun to speak HTTP."""
        for arrival in list(self.arrivals):
            arrival.close()

    def _accept_on(self) -> None:
        self._resume = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            if self._socket is None:
                return
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept a connection: %s; trying again in %g s", error, _PAUSE_S)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket)
                self._resume = loop.call_later(_PAUSE_S, self._accept_on)
                return
            if not self.owner.room():
                accepted.close()
                continue
            accepted.setblocking(False)
            Arrival(self, accepted, str(address[0])).begin()

    def counted(self, peer: str) -> str | None:
        """Count a connection, and return the client for which it counts; None where that has too many."""
        client = self.owner.counted_for(peer)
        if self.owner.crowded(client, self.silent[client]):
            return None
        self.silent[client] += 1
        return client

    def uncount(self, client: str) -> None:
        """Count one connection of this client less."""
        self.silent[client] -= 1
        if not self.silent[client]:
            del self.silent[client]


class Arrival:
    """One connection until it speaks HTTP: its PROXY header, the first byte, the handshake."""

    def __init__(self, acceptor: Acceptor, accepted: socket.socket, peer: str) -> None:
        self._acceptor = acceptor
        self._options = acceptor.options
        self._socket = accepted
        self._peer = peer
        self._header = b""
        """What was read of a PROXY header that is not whole."""
        proxies = acceptor.options.proxies
        self._proxied = proxies is not None and proxies(peer)
        self._client: str | None = None
        """For whom it counts as silent, while it does."""
        self._refused = False
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + acceptor.timeout_s
        self._due = self._loop.call_at(self._ends_at, self._expire)
        self._handshake: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look at what the client sent, now and whenever it sends."""
        self._acceptor.arrivals.add(self)
        if not self._proxied and not self._counts():
            return
        self._loop.add_reader(self._socket, self._readable)
        self._readable()

    def close(self) -> None:
        """Let go of the connection, wherever it is. Safe to call twice."""
        self._acceptor.arrivals.discard(self)
        self._uncount()
        self._due.cancel()
        if self._handshake is not None:
            self._handshake.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _expire(self) -> None:
        """Its time is over. Where the process stood still, what its client sent may still be on its way."""
        if self._loop.time() - self._ends_at > STALL_S:
            self._due = self._loop.call_later(STALL_S, self.close)
        else:
            self.close()

    def _counts(self) -> bool:
        """Count it for its client; False where it was closed, because that has too many."""
        self._client = self._acceptor.counted(self._peer)
        if self._client is None:
            self.close()
        return self._client is not None

    def _uncount(self) -> None:
        if self._client is not None:
            self._acceptor.uncount(self._client)
            self._client = None

    def _readable(self) -> None:
        try:
            if self._refused:
                self._drop()
            elif not self._proxied or self._read_header():
                self._look()
        except (BlockingIOError, InterruptedError):
            return
        except BadProxyHeader as error:
            _log.warning("closed a connection of the proxy %s without a PROXY header: %s", self._peer, error)
            self.close()
        except OSError:
            self.close()

    def _read_header(self) -> bool:
        """Read as far as the PROXY header goes, and no byte of what follows; whether it is whole."""
        seen = self._socket.recv(MAX_BYTES, socket.MSG_PEEK)
        if not seen:
            self.close()
            return False
        header = parse(self._header + seen)
        if header is None:
            self._header += self._socket.recv(len(seen))
            return False
        self._socket.recv(header.size - len(self._header))
        self._proxied = False
        self._peer = header.client or self._peer
        return self._counts()

    def _look(self) -> None:
        if self._options.tls is not None:
            first = self._socket.recv(1, socket.MSG_PEEK)
            if not first:
                self.close()
                return
            if first[0] != _HANDSHAKE:
                self._refuse(self._acceptor.owner.not_tls(self._peer))
                return
        self._loop.remove_reader(self._socket)
        self._uncount()
        protocol = self._acceptor.owner.protocol(self._peer)
        if protocol is None:
            self.close()
        else:
            self._due.cancel()  # from here on the handshake has the time that is left
            self._handshake = spawn(self._connect(protocol, self._options.tls), "accept")
            self._handshake.add_done_callback(lambda _: self._over(protocol))

    def _refuse(self, answer: bytes) -> None:
        """Send the answer, and close once the client has read it."""
        self._refused = True
        self._due.cancel()
        self._due = self._loop.call_later(LINGER_S, self.close)
        self._loop.add_reader(self._socket, self._readable)
        self._socket.send(answer)
        self._socket.shutdown(socket.SHUT_WR)

    def _drop(self) -> None:
        while self._socket.recv(65536):
            pass
        self.close()

    async def _connect(self, protocol: asyncio.BaseProtocol, tls: PortTls | None) -> None:
        def make() -> asyncio.BaseProtocol:
            return protocol

        try:
            lent = self._socket.dup()  # asyncio closes it where the handshake fails, and an alert is still to be sent
            if tls is None:
                await self._loop.connect_accepted_socket(make, lent)
            else:
                left_s = max(STALL_S, self._ends_at - self._loop.time())
                await self._loop.connect_accepted_socket(
                    *(make, lent),
                    ssl=tls.context,
                    ssl_handshake_timeout=left_s,
                    ssl_shutdown_timeout=self._acceptor.closing_s,
                )
        except OSError as error:  # of which ssl.SSLError is one
            if tls is not None:
                tls.handshake_failed(error)
            if isinstance(error, HandshakeFailed):
                with contextlib.suppress(OSError):
                    self._refuse(error.alert)

    def _over(self, protocol: asyncio.BaseProtocol) -> None:
        self._handshake = None
        if not self._refused:
            self.close()
        self._acceptor.owner.given_up(protocol)
