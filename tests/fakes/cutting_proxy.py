"""TCP ports in front of real pods that end one connection in the middle of a stream, as that of a killed pod ends."""

from __future__ import annotations

import re
import socket
import socketserver
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from select import select
from threading import Lock
from urllib.parse import urlsplit

from tests.fakes.echo_pod import serving

_EVENT = re.compile(rb"data: \{")


class Cutter:
    """Says which connection is cut."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = 0
        self.cuts = 0

    def cut_in(self, event: int) -> None:
        """Cut the next stream that has so many events, at the beginning of that event."""
        with self._lock:
            self._last = event

    def place(self, passed: int, starts: Sequence[int]) -> int | None:
        """Where a connection that has passed so many events on is cut, in bytes that have events at `starts`; None for
        one that is not cut now."""
        with self._lock:
            if not passed < self._last <= passed + len(starts):
                return None
            at, self._last = starts[self._last - passed - 1], 0
            self.cuts += 1
            return at


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pod: tuple[str, int], cutter: Cutter) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pod = pod
        self.cutter = cutter

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: either side may close at any time."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        client: socket.socket = self.request
        with socket.create_connection(self.server.pod) as pod:
            other, events = {client: pod, pod: client}, 0
            while True:
                for side in select([client, pod], [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is client:
                        events = 0  # the next request
                    else:
                        starts = [found.end() for found in _EVENT.finditer(data)]
                        if (cut := self.server.cutter.place(events, starts)) is not None:
                            client.sendall(data[:cut])
                            return
                        events += len(starts)
                    other[side].sendall(data)


@contextmanager
def cutting_proxies(pods: Sequence[str]) -> Iterator[tuple[list[str], Cutter]]:
    """One port for each pod's URL; gives their URLs and what cuts."""
    cutter = Cutter()
    with ExitStack() as stack:
        places = [urlsplit(url) for url in pods]
        servers = [_Server((place.hostname or "", place.port or 80), cutter) for place in places]
        yield [stack.enter_context(serving(server)) for server in servers], cutter
