"""A pod that answers any POST with the request it received, head included. Simulated engines do not offer this."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from tests.fakes.waiting import DEADLINE_S


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": "echo", "object": "model"}]}
        self._say(json.dumps(models if self.path == "/v1/models" else {}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        received = {
            "method": self.command,
            "target": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self._say(json.dumps(received).encode())

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "keep-alive")
        self.send_header("keep-alive", "timeout=5")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: the gateway may close its connections at any time."""


@contextmanager
def serving(server: TCPServer) -> Iterator[str]:
    """Run a server on loopback in a thread for the block; gives its URL."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


@contextmanager
def echo_pod() -> Iterator[str]:
    """Run an echo pod for the block; gives its URL."""
    with serving(_Server(("127.0.0.1", 0), _Echo)) as url:
        yield url
