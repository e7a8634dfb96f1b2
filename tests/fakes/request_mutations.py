"""Valid requests and ways to damage them, byte by byte. Pure functions of random bits, so that a seed repeats them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from tests.fakes.raw_http_client import chat, get, post

_STREAM = chat("stream this", stream=True, stream_options={"include_usage": True})
_BODY = json.dumps(chat("in chunks")).encode()
_HALF = len(_BODY) // 2
_FORM = (
    b'--edge\r\ncontent-disposition: form-data; name="model"\r\n\r\nsim-model\r\n'
    b'--edge\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n'
    b"content-type: audio/wav\r\n\r\nRIFF\0\xff\xfe\r\n--edge--\r\n"
)
_OURS = ("x-session-id: s1", "x-turnout-priority: 3", "x-turnout-deadline-ms: 5000", "x-turnout-pool: default")

SEEDS: Sequence[bytes] = (
    post(chat()),
    post(_STREAM, "accept: text/event-stream", "authorization: Bearer none"),
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n%x;ext=1\r\n%b\r\n0\r\ntrailer: t\r\n\r\n"
    % (_HALF, _BODY[:_HALF], len(_BODY) - _HALF, _BODY[_HALF:]),
    get("/v1/models") + post(chat("pipelined")) + get("/livez"),
    post(_FORM, path="/v1/audio/transcriptions").replace(b"application/json", b"multipart/form-data; boundary=edge"),
    get("/v1/models/sim-model", "user-agent: fuzz/1", "accept: */*"),
    get("/readyz", method="HEAD"),
    post({"model": "sim-model", "prompt": "expected", "max_tokens": 4}, "expect: 100-continue", path="/v1/completions"),
    post(chat("upgraded"), "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
    post({"model": "sim-model", "input": ["a", "b"]}, *_OURS, path="/v1/embeddings"),
    post(chat("old"), close=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    post({"model": "sim-model", "messages": [], "max_tokens": 4}, "x-request-id: r1", path="/v1/messages"),
)
"""Requests of every kind that the gateway accepts."""

_BYTES = bytes(range(256))
_SYNTAX = (
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b":",
    b" ",
    b"0\r\n\r\n",
    b"content-length: 9\r\n",
    b'"',
    b"{",
    b"\xff",
    b"HTTP/1.1",
)
"""Bytes with a meaning for a parser."""


def _slice(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 8, 40)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    new = rng.choice(_SYNTAX) if rng.random() < 0.5 else bytes(rng.choices(_BYTES, k=rng.choice((1, 3, 30))))
    return data[:at] + new + data[at:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:start] + data[end:]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    start, end = _slice(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 1, 5)) + data[end:]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def _splice(data: bytes, rng: random.Random) -> bytes:
    other = rng.choice(SEEDS)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


MUTATIONS: Sequence[Callable[[bytes, random.Random], bytes]] = (_flip, _insert, _delete, _duplicate, _truncate, _splice)


def mutant(rng: random.Random) -> bytes:
    """A valid request damaged one to three times; never empty."""
    data = rng.choice(SEEDS)
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(MUTATIONS)(data, rng) or data
    return data
