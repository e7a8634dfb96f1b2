"""A pod that answers with bytes of the request where they do not belong: in its status line, in a chunk's size, in half
an answer. What of them a gateway quotes is a leak.
"""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.fakes.echo_pod import serving

MODEL: Final = "spoilt"
KINDS: Final = ("status_line", "header", "chunk_size", "cut", "refusal", "nothing")


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while line := self.rfile.readline():
            head += line
            if line in (b"\r\n", b"\n"):
                break
        fields = dict(line.lower().split(b": ", 1) for line in head.splitlines()[1:] if b": " in line)
        body = self.rfile.read(int(fields.get(b"content-length", 0)))
        if head.startswith(b"GET"):
            listed = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
            self.wfile.write(_whole(200, listed))
        elif head:
            echo = (head + body).replace(b"\r", b" ").replace(b"\n", b" ")
            kind = next((kind for kind in KINDS if f"kind-{kind}".encode() in body), "nothing")
            self.wfile.write(_spoilt(kind, echo))


def _whole(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def _spoilt(kind: str, echo: bytes) -> bytes:
    chunked = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return {
        "status_line": echo + b"\r\n\r\n",
        "header": b"HTTP/1.1 200 OK\r\n" + echo.replace(b":", b" ") + b"\r\n\r\n",
        "chunk_size": chunked + b"5\r\nhello\r\n" + echo[:400] + b"\r\n",
        "cut": _whole(200, echo)[:-10],
        "refusal": _whole(503, b'{"error": {"message": "%b"}}' % echo.replace(b'"', b"'")),
        "nothing": b"",
    }[kind]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: the gateway may close its connections at any time."""


@contextmanager
def spoiling_pod() -> Iterator[str]:
    """Run the pod for the block; gives its URL. A request chooses by `kind-NAME` in its body."""
    with serving(_Server(("127.0.0.1", 0), _Handler)) as url:
        yield url
