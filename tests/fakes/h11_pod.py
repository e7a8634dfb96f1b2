"""A pod whose server is h11, a strict parser that shares nothing with the gateway's. Records what it reads."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import h11

MODELS = {"object": "list", "data": [{"id": "m", "object": "model"}]}


class H11Request(NamedTuple):
    """A request as h11 reads it."""

    method: bytes
    target: bytes
    body: bytes


class H11Pod:
    """A listening pod. Requests for /v1/models, /health and /metrics are answered and not recorded."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[H11Request] = []
        self.refused: list[str] = []
        """What h11 said of bytes that it did not take for a request."""
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> tuple[list[H11Request], list[str]]:
        """What came since the last call."""
        taken = self.requests, self.refused
        self.requests, self.refused = [], []
        return taken

    def close(self) -> None:
        """Accept no more."""
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        with connection, suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while (asked := _next(peer, connection)) is not None:
                    connection.sendall(self._answer(peer, asked))
                    if peer.our_state is h11.MUST_CLOSE:
                        return
                    peer.start_next_cycle()
            except h11.RemoteProtocolError as error:
                self.refused.append(str(error))

    def _answer(self, peer: h11.Connection, asked: H11Request) -> bytes:
        if asked.method == b"POST":
            self.requests.append(asked)
        body = json.dumps(MODELS if asked.target == b"/v1/models" else {}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        events = h11.Response(status_code=200, headers=headers), h11.Data(data=body), h11.EndOfMessage()
        return b"".join(peer.send(event) or b"" for event in events)


def _next(peer: h11.Connection, connection: socket.socket) -> H11Request | None:
    """The next whole request; None at the end of the connection. Raises RemoteProtocolError."""
    head, body = None, b""
    while True:
        event = peer.next_event()
        if event is h11.NEED_DATA:
            peer.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return H11Request(head.method, head.target, body)
        else:
            return None


@contextmanager
def h11_pod() -> Iterator[H11Pod]:
    """Run an h11 pod for the block."""
    pod = H11Pod()
    try:
        yield pod
    finally:
        pod.close()
