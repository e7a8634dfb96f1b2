"""A pod that streams without end, as fast as its reader takes it. It counts the bytes sent, and the streams that
wait for their reader.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.fakes.waiting import DEADLINE_S

EVENT = b"data: " + b"x" * 8184 + b"\n\n"
_CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT) * 8
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_MODELS = json.dumps({"object": "list", "data": [{"id": "hose", "object": "model"}]}).encode()


class HosePod:
    """One listening socket, and one thread for each connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._lock = threading.Lock()
        self.sent_bytes = 0
        """Bytes sent, over all streams."""
        self.streams = 0
        """Open streams."""
        self.stuck = 0
        """Open streams whose reader takes no bytes now."""

    def serve(self) -> None:
        """Accept connections until closed."""
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            request = b""
            while b"\r\n\r\n" not in request:
                if not (got := connection.recv(65536)):
                    return
                request += got
            if request.startswith(b"POST"):
                self._stream(connection)
            else:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(_MODELS), _MODELS)
                )

    def _stream(self, connection: socket.socket) -> None:
        self._count(streams=1)
        try:
            connection.sendall(_HEAD)
            connection.setblocking(False)
            while True:
                left = memoryview(_CHUNK)
                while left:
                    left = left[self._send(connection, left) :]
        finally:
            self._count(streams=-1)

    def _send(self, connection: socket.socket, data: memoryview) -> int:
        """Send what the reader takes; waits while it takes nothing."""
        try:
            sent = connection.send(data)
        except BlockingIOError:
            self._count(stuck=1)
            try:
                select.select([], [connection], [])
            finally:
                self._count(stuck=-1)
            return 0
        self._count(sent_bytes=sent)
        return sent

    def _count(self, *, streams: int = 0, stuck: int = 0, sent_bytes: int = 0) -> None:
        with self._lock:
            self.streams += streams
            self.stuck += stuck
            self.sent_bytes += sent_bytes


@contextmanager
def hose_pod() -> Iterator[HosePod]:
    """Run a hose pod for the block."""
    pod = HosePod()
    thread = threading.Thread(target=pod.serve, daemon=True)
    thread.start()
    try:
        yield pod
    finally:
        pod.close()
        thread.join(DEADLINE_S)
