"""HTTP/1.1 over a bare socket: sends any bytes, reads answers strictly. Every wait has a deadline."""

from __future__ import annotations

import json
import select
import socket
import ssl
from types import TracebackType
from typing import Any, NamedTuple

from tests.fakes.waiting import DEADLINE_S


class Closed(Exception):
    """The connection ended before the answer; holds the bytes received."""

    def __init__(self, got: bytes) -> None:
        super().__init__(got[-200:])
        self.got = got


class Answer(NamedTuple):
    """One answer of the gateway."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    complete: bool = True
    """False: the connection ended before the body's announced end."""

    def json(self) -> Any:
        """The body, decoded from JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The OpenAI-shaped error that the body must hold."""
        held = self.json()
        assert set(held["error"]) == {"message", "type", "param", "code"}, held
        assert held["error"]["message"]
        assert self.headers["x-request-id"]
        error: dict[str, Any] = held["error"]
        return error


class Wire:
    """A client connection."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = DEADLINE_S,
        receive_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """With `tls` raises ssl.SSLError of the handshake; in TLS 1.3 a client's certificate is refused after it.
        `session` is one to resume."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect((host, port))
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host, session=session)
        except OSError:
            self._socket.close()
            raise
        self._got = b""

    @property
    def session(self) -> ssl.SSLSession | None:
        """Its TLS session."""
        return self._socket.session if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def resumed(self) -> bool:
        """Whether it resumed one."""
        return isinstance(self._socket, ssl.SSLSocket) and bool(self._socket.session_reused)

    @property
    def serial(self) -> str:
        """The serial number of the gateway's certificate, in hex; empty without TLS."""
        certificate = self._socket.getpeercert() if isinstance(self._socket, ssl.SSLSocket) else None
        return str(certificate["serialNumber"]) if certificate else ""

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        self._socket.sendall(data)

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer, interim ones included. Raises Closed, or TimeoutError after the deadline."""
        head = self._until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[:-2]
        version, status = lines[0].split(" ")[:2]
        assert version == "HTTP/1.1", head
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        code = int(status)
        if head_only or code < 200 or code in (204, 304):
            return Answer(code, headers, b"")
        try:
            return Answer(code, headers, self._body(headers))
        except Closed as closed:
            return Answer(code, headers, closed.got, complete=False)

    def closed(self) -> bool:
        """Whether the gateway closes the connection without further bytes; a reset counts as a close."""
        try:
            return not self._got and self._socket.recv(65536) == b""
        except ConnectionError:
            return True

    def some(self) -> bytes:
        """The next bytes; empty at the end."""
        if self._got:
            got, self._got = self._got, b""
            return got
        return self._socket.recv(65536)

    def readable(self, wait_s: float = DEADLINE_S) -> bool:
        """Whether the gateway sends something, or closes, within `wait_s`."""
        return bool(self._got) or bool(select.select([self._socket], [], [], wait_s)[0])

    def shut(self) -> None:
        """Send end of file."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return self._chunks()
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        body = b""
        while piece := self.some():
            body += piece
        return body

    def _chunks(self) -> bytes:
        body = b""
        while True:
            try:
                size = int(self._until(b"\r\n"), 16)
                piece = self._exactly(size + 2)
            except Closed as closed:
                raise Closed(body + closed.got) from None
            assert piece.endswith(b"\r\n"), piece[-20:]
            body += piece[:-2]
            if not size:
                return body

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._got:
            self._more()
        piece, _, self._got = self._got.partition(mark)
        return piece + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._got) < size:
            self._more()
        piece, self._got = self._got[:size], self._got[size:]
        return piece

    def _more(self) -> None:
        try:
            got = self._socket.recv(65536)
        except ConnectionError:
            got = b""
        if not got:
            held, self._got = self._got, b""
            raise Closed(held)
        self._got += got


def post(body: object, *extra: str, path: str = "/v1/chat/completions", close: bool = False) -> bytes:
    """A POST with a JSON body; bytes are sent unchanged. `extra` are header lines."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json", *extra]
    lines.append(f"content-length: {len(payload)}")
    if close:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + payload


def get(path: str, *extra: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *extra, "", ""]).encode("latin-1")


def chat(text: str = "hello", model: str = "sim-model", **fields: object) -> dict[str, object]:
    """The body of a small chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8} | fields


def endless(text: str = "go on", tokens: int = 16_000) -> dict[str, object]:
    """The body of a request for a stream of more than half a minute, at the tiny profile's 2 ms a token."""
    return chat(text, stream=True, max_tokens=tokens, ignore_eos=True)


def ask(wire: Wire, data: bytes) -> Answer:
    """Send a request and return the answer."""
    wire.send(data)
    return wire.answer()


def stays_usable(wire: Wire) -> bool:
    """Whether the connection serves another request."""
    return ask(wire, post(chat())).status == 200


def events(body: bytes) -> list[Any]:
    """The events of an SSE body, decoded; `[DONE]` as text. Asserts that no event is torn."""
    assert body.endswith(b"\n\n"), body[-100:]
    datas = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if data == b"[DONE]" else json.loads(data) for data in datas]
