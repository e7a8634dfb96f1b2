"""A pod on asyncio streams, to be served over TCP, TLS or a socket by `stream_server`. Records what it is asked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from typing import NamedTuple


class Asked(NamedTuple):
    """One request."""

    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    issuer: str
    """The authority of the certificate that the client showed; empty for none."""


class RecordingPod:
    """Lists `models` and answers every POST with `{}`; health and metrics are 404 unless `pages` has them."""

    def __init__(self, *models: str, key: str = "", base: str = "") -> None:
        """With `key` everything below /v1 wants it, as vLLM does with --api-key."""
        self.models = models
        self.key = key
        self.base = base
        self.pages: dict[str, bytes] = {"/health": b""}
        self.asked: list[Asked] = []
        self.keep_alive = True
        """Whether connections stay open after an answer."""

    @property
    def posts(self) -> list[Asked]:
        """What was posted."""
        return [each for each in self.asked if each.method == "POST"]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
            await reader.readexactly(int(headers.get("content-length", "0")))
            self.asked.append(Asked(method, target, headers, _issuer(writer)))
            if headers.get("upgrade") == "websocket":
                await _echo_frames(reader, writer, headers["sec-websocket-key"])
                return
            status, body = self._answer(method, target, headers)
            stay = b"" if self.keep_alive else b"connection: close\r\n"
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), stay, body))
            if not self.keep_alive:
                await writer.drain()
                return

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
        path = target.removeprefix(self.base) if target.startswith(self.base) else ""
        if path.startswith("/v1/") and self.key and headers.get("authorization") != f"Bearer {self.key}":
            return 401, b'{"error":"Unauthorized"}'
        if path == "/v1/models":
            cards = [{"id": name, "object": "model"} for name in self.models]
            return 200, json.dumps({"object": "list", "data": cards}).encode()
        if method == "POST" and path.startswith("/v1/"):
            return 200, b"{}"
        return (200, self.pages[path]) if path in self.pages else (404, b"")


async def _echo_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
    """Accept a WebSocket and send back every byte that comes."""
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
    head = b"HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: %b\r\n\r\n"
    writer.write(head % accept)
    while data := await reader.read(1000):
        writer.write(data)


def _issuer(writer: asyncio.StreamWriter) -> str:
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    shown = tls.getpeercert() if tls is not None else None
    issuer: object = shown.get("issuer") if shown else None
    return dict(pair[0] for pair in issuer)["commonName"] if isinstance(issuer, tuple) else ""
