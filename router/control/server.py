"""uvicorn inside the gateway's own event loop: it starts, answers and stops, and leaves signals alone. Its limits
are its own (`limits.py`): what clients of the inference port hold does not count here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from router.address import ListenAddress, bind
from router.control.address_pace import AddressPace, counted_for
from router.control.limits import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_EACH,
    MOST_WAIT_S,
    REQUEST_S,
    REQUESTS_BURST,
    REQUESTS_PER_S,
    BodyLimit,
    LimitedHttp,
    Turns,
)
from router.dataplane.http.responses import CLOSE, error_answer
from router.errors import BadFraming
from router.ports.acceptor import DESCRIPTORS, Acceptor, PortOptions
from router.ports.tls import PortTls
from statesync.tasks import spawn

_DATE_S = 1.0
_GRACE_S = 2
"""Seconds that answers under way get when the port closes; they are all short."""

_SET_UP = 3
"""Turns of the loop from the moment that it accepts a connection until its protocol knows it."""


class ControlServer:
    """The control port."""

    def __init__(
        self, app: ASGIApp, listen: ListenAddress, lent: socket.socket | None = None, tls: PortTls | None = None
    ) -> None:
        """Opens nothing yet. `lent` is a bound socket to listen on instead of one of its own."""
        self._listen = listen
        self._lent = lent
        pace = AddressPace(time.monotonic, per_s=REQUESTS_PER_S, burst=REQUESTS_BURST)
        make: type[LimitedHttp] = type("PacedHttp", (LimitedHttp,), {"pace": pace})
        self._server = _Server(
            uvicorn.Config(
                Turns(BodyLimit(app), pace),
                http=make,
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_S,
            ),
            make,
            tls,
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> ListenAddress:
        """Where it listens; with port 0 asked for, the real port once started."""
        return self._listen

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be used; returns once connections are accepted."""
        # Bound here rather than by uvicorn, which ends the whole process when a port is taken.
        bound = self._lent or bind(self._listen, setting="control.listen")
        self._listen = ListenAddress(self._listen.host, bound.getsockname()[1])
        self._serving = spawn(self._server.serve(sockets=[bound]), "control-port")
        accepting = asyncio.get_running_loop().create_task(self._server.accepting.wait())
        await asyncio.wait({accepting, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._serving.done():
            await self._serving

    def stop_accepting(self) -> None:
        """Accept no new connections; open ones are answered until `stop`."""
        if self._server.accepting.is_set():
            self._server.stop_accepting()

    async def stop(self) -> None:
        """Close, letting answers under way finish for a moment. Safe to call twice and before `start`."""
        self._server.end()
        if self._serving is not None:
            await asyncio.wait({self._serving})


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, with an event for the moment when it accepts, and ending at once
    where uvicorn's own checks ten times a second whether it should. With TLS its connections come from an acceptor."""

    def __init__(self, config: uvicorn.Config, make: type[LimitedHttp], tls: PortTls | None) -> None:
        super().__init__(config)
        self._make = make
        self._acceptor = Acceptor(PortOptions(tls), self, REQUEST_S, REQUEST_S) if tls is not None else None
        if tls is not None:
            tls.on_clients_changed = self.retire
        self._handshakes: dict[asyncio.BaseProtocol, str] = {}
        """Connections in their handshake, and the client of each."""
        self.accepting = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Have `serve` return soon, if it runs."""
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is None or not sockets:
            await super().startup(sockets)
        else:
            self.servers = []
            self._acceptor.start(sockets[0], self.config.backlog)
            self.started = True
        self.accepting.set()

    def stop_accepting(self) -> None:
        """Accept no more connections."""
        for each in self.servers:
            each.close()
        if self._acceptor is not None:
            self._acceptor.close()

    def retire(self) -> None:
        """Have every connection that is open now, or in its handshake, close after one more request."""
        self._make.rules += 1

    def room(self) -> bool:
        """See `Acceptance`."""
        arrivals = self._acceptor.arrivals if self._acceptor is not None else ()
        return len(self.server_state.connections) + DESCRIPTORS * len(arrivals) < MAX_CONNECTIONS

    def counted_for(self, peer: str) -> str:
        """See `Acceptance`."""
        return counted_for(peer)

    def crowded(self, client: str, silent: int) -> bool:
        """See `Acceptance`. Of one address at most half of all: the others are left for probes."""
        arriving = silent + sum(each == client for each in self._handshakes.values())
        connected: int = sum(
            isinstance(each, LimitedHttp) and each.counted_for == client for each in self.server_state.connections
        )
        return connected + DESCRIPTORS * arriving >= MAX_CONNECTIONS_EACH

    def protocol(self, peer: str) -> asyncio.BaseProtocol | None:
        """See `Acceptance`. A handshake counts like a request, and costs more."""
        if self._make.pace.wait_s(peer) > MOST_WAIT_S:
            return None
        self._make.pace.count(peer)
        made = self._make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        self._handshakes[made] = counted_for(peer)
        return made

    def given_up(self, protocol: asyncio.BaseProtocol) -> None:
        """See `Acceptance`."""
        self._handshakes.pop(protocol, None)

    def not_tls(self, _peer: str) -> bytes:
        """See `Acceptance`."""
        return error_answer(BadFraming("The control port speaks TLS: use https://."), (), connection=CLOSE)

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which renews the date in the headers
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _DATE_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # asyncio before 3.12 loses a connection that it accepts in the turn in which its server closes.
        for listening in sockets or ():
            if listening.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(listening)
        for _ in range(_SET_UP):
            await asyncio.sleep(0)
        self.stop_accepting()
        if self._acceptor is not None:
            self._acceptor.abort()
        for listening in sockets or ():
            listening.close()
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
