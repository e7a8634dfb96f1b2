"""A pod's port: opened, closed while the pod refuses, opened again. It knows connections, not their requests."""

from __future__ import annotations

import asyncio
import socket

from loadtests.sim.simpod.wire import Application, Connection
from statesync.tasks import spawn


class Listener:
    """A listening socket that can be closed and opened again on the same port."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.members: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._app: Application | None = None
        self._pod, self._keepalive_s = b"", 5.0

    def bind(self) -> socket.socket:
        """Listen: from now on the kernel queues connections. Sets the port if it was 0."""
        sock = socket.create_server((self.host, self.port), backlog=4096)
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        return sock

    async def serve(self, sock: socket.socket, app: Application, pod: bytes, keepalive_s: float) -> None:
        """Accept connections for `app`."""
        self._app, self._pod, self._keepalive_s = app, pod, keepalive_s
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=sock)

    def refuse(self) -> None:
        """Close the port and idle connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.members):
            if not connection.busy:
                connection.close()

    def reopen(self) -> None:
        """Listen again, if closed."""
        if self._server is None and self._app is not None:
            spawn(self.serve(self.bind(), self._app, self._pod, self._keepalive_s), f"sim-listen-{self.port}")

    def close(self) -> None:
        """Close the port and reset every connection."""
        self._app = None
        self.refuse()
        for connection in list(self.members):
            connection.abort()

    def _connection(self) -> Connection:
        assert self._app is not None
        return Connection(self._app, self._pod, self._keepalive_s, self.members)
