"""A pod that accepts connections and can delay its answers, so that a probe has to wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.fakes.waiting import DEADLINE_S


class LatePod(ThreadingHTTPServer):
    """Answers 200 to every GET while `answers` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: a client may close the connection before the answer."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LatePod

    def do_GET(self) -> None:
        if self.server.answers.wait(DEADLINE_S):
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def late_pod() -> Iterator[LatePod]:
    """Run a late pod for the block; it answers until `answers` is cleared."""
    pod = LatePod()
    pod.answers.set()
    thread = threading.Thread(target=pod.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield pod
    finally:
        pod.answers.set()
        pod.shutdown()
        thread.join(DEADLINE_S)
        pod.server_close()
