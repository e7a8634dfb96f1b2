"""The bytes that cost each parser most, for `linear.py`: what clients send, and what pods answer. Pure.

A case may be `scale` times smaller than the others where each few bytes are work: its growth shows there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

PIECE: Final = 65536
"""Bytes of a read."""

CHAT: Final = b"/v1/chat/completions"
FORM: Final = b"/v1/audio/transcriptions"


class WorstCase(NamedTuple):
    """One kind of input."""

    request: Callable[[int], bytes]
    """Makes the bytes of a client of about this size."""
    answer: Callable[[int], bytes] | None = None
    """Makes those of the pod; None for a short answer."""
    piece: int = PIECE
    """Bytes of a read."""
    scale: int = 1


def _post(body: bytes, path: bytes = CHAT, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: g\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (path, kind, more, len(body)) + body


def _json(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    """A body of the same unit again and again."""
    return lambda size: _post(b'{"model":"bench",' + before + unit * (size // len(unit)) + after + b"}")


def _form(body: Callable[[int], bytes], boundary: bytes = b"b") -> Callable[[int], bytes]:
    return lambda size: _post(body(size), FORM, b"multipart/form-data; boundary=" + boundary)


def _fields(size: int) -> bytes:
    return b"--b" + b"\r\ncontent-disposition:;name=model" * (size // 33)


def _parts(size: int) -> bytes:
    each = b"--b\r\ncontent-disposition: form-data; name=x\r\n\r\n" + b"x" * (size // 1900) + b"\r\n"
    return each * 1900 + b"--b\r\ncontent-disposition: form-data; name=model\r\n\r\nbench\r\n--b--\r\n"


def _near_boundaries(size: int) -> bytes:
    dashes = b"-" * 70
    almost = (b"\n--" + dashes[:-1] + b"x") * (size // 73)
    head = b"--%b\r\ncontent-disposition: form-data; name=model\r\n\r\nbench\r\n--%b\r\n" % (dashes, dashes)
    return head + b"content-disposition: form-data; name=file\r\n\r\n" + almost + b"\r\n--%b--\r\n" % dashes


def _chunked(size: int) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" % CHAT
    body = b'{"model":"bench","prompt":"' + b"x" * size + b'"}'
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in _cut(body, 16)) + b"0\r\n\r\n"


def _heads(size: int) -> bytes:
    """Heads that are new, each of 8 KB of short headers and a long query."""
    many = b"".join(b"x-%d: y\r\n" % at for at in range(90))
    each = b"POST %b?%b HTTP/1.1\r\nhost: g\r\nx-turnout-pool: nowhere\r\nx-new: %d\r\n%bcontent-length: 2\r\n\r\n{}"
    return b"".join(each % (CHAT, b"a=1&" * 1700, at, many) for at in range(max(1, size // 8192)))


def _pipelined(size: int) -> bytes:
    return b"GET /v1/models/x HTTP/1.1\r\nhost: g\r\n\r\n" * (size // 41)


def _stream(unit: bytes, chunk: int) -> Callable[[int], bytes]:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def made(size: int) -> bytes:
        parts = _cut(unit * (size // len(unit)), chunk)
        return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    return made


def _whole(unit: bytes) -> Callable[[int], bytes]:
    def made(size: int) -> bytes:
        body = unit * (size // len(unit))
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    return made


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


_ASKED: Final = _post(b'{"model":"bench","prompt":"x","stream":true}')

CASES: Final[dict[str, WorstCase]] = {
    "form of headers": WorstCase(_form(_fields)),
    "form of many parts": WorstCase(_form(_parts)),
    "form of near boundaries": WorstCase(_form(_near_boundaries, b"-" * 70)),
    "base64 in short runs": WorstCase(_json(b'"prompt":"base64,', b"A" * 4095 + b"-", b'"')),
    "base64 without end": WorstCase(_json(b'"prompt":"base64,', b"A" * 4096, b'"')),
    "blanks before a token": WorstCase(_json(b'"prompt":[', b" " * 1024, b'"a"]')),
    "tokens": WorstCase(_json(b'"prompt":[1', b",1", b"]"), scale=2),
    "backslashes": WorstCase(_json(b'"prompt":"', b"\\\\", b'"')),
    "backslashes before quotes": WorstCase(_json(b'"prompt":["', b"\\\\" * 40 + b'","', b'"]')),
    "escaped quotes": WorstCase(_json(b'"prompt":"', b'\\"', b'"')),
    "long strings": WorstCase(_json(b'"messages":["', b"x" * 1100 + b'","', b'"]')),
    "fields": WorstCase(_json(b'"x":0', b',"x":0', b""), scale=2),
    "fields of one name": WorstCase(_json(b'"x":0', b',"model":"bench"', b"")),
    "surrogates and NaN": WorstCase(_json(b'"x":NaN,"prompt":"', b"\\ud800", b'"')),
    "open brackets": WorstCase(_json(b'"prompt":', b"[", b"")),
    "digits": WorstCase(_json(b'"max_tokens":', b"1", b"")),
    "a fraction": WorstCase(_json(b'"temperature":1,"max_tokens":0.', b"1", b"")),
    "a session key": WorstCase(_json(b'"prompt_cache_key":"', b"k" * 64, b'"')),
    "a user of JSON": WorstCase(_json(b'"metadata":{"user_id":"{\\"session_id\\":\\"', b"k" * 64, b'\\"}"}')),
    "a user of brackets": WorstCase(_json(b'"metadata":{"user_id":"', b"[" * 64, b'"}')),
    "a name of a response": WorstCase(_json(b'"previous_response_id":"', b"r" * 64, b'"')),
    "a name of a model": WorstCase(lambda size: _post(b'{"model":"' + b"benc" * (size // 4) + b'"}')),
    "chunks": WorstCase(_chunked, scale=16),
    "small reads": WorstCase(_json(b'"prompt":"', b"x" * 64, b'"'), piece=512, scale=4),
    "heads": WorstCase(_heads, scale=8),
    "requests in one read": WorstCase(_pipelined, scale=32),
    "a stream of small chunks": WorstCase(lambda _: _ASKED, _stream(b"x", 4), scale=16),
    "a stream without events": WorstCase(lambda _: _ASKED, _stream(b"x" * 64, 4096)),
    "a stream of line ends": WorstCase(lambda _: _ASKED, _stream(b"\r\n", 4096)),
    "an answer of usage": WorstCase(lambda _: _ASKED, _whole(b'"usage":{"prompt_tokens":1,"cached_tokens":')),
}
"""By name."""
