"""An engine that costs almost nothing: the same answer to every request, so that a measurement is of the router.

It reads just enough HTTP/1.1 to find the end of a request (content-length only), reads no body and knows no router. Run
as `python -m loadtests.bench.load.canned PORT...`; it prints `ready` once all ports listen and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections.abc import Sequence
from typing import cast

import uvloop

from loadtests.bench.load.timing_wheel import Wheel

ANSWER_BYTES = 270
CHUNKS = 64
MARK = b"~"
"""Stands once in every event and nowhere else in a streamed answer, so that it can be counted without parsing."""
BACKLOG = 4096
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_METRICS = b'vllm:num_requests_waiting{model_name="bench"} 0\nvllm:num_requests_running{model_name="bench"} 0\n'
_MODELS = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'
_INFO = (
    b'{"model_path":"bench","model_id":"bench","served_model_name":"bench","tokenizer_path":"","is_generation":true}'
)


def response(body: bytes, content_type: str) -> bytes:
    """A whole 200 answer."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def completion() -> bytes:
    """A chat completion of `ANSWER_BYTES`, in vLLM's format."""
    usage = {"prompt_tokens": 300, "completion_tokens": 8, "total_tokens": 308}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "bench", "usage": usage}
    message = {"role": "assistant", "content": ""}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    message["content"] = "x" * (ANSWER_BYTES - len(json.dumps(answer)))
    return json.dumps(answer).encode()


def chunk(data: bytes) -> bytes:
    """`data` in chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def events(count: int = CHUNKS) -> list[bytes]:
    """A streamed answer as one write each: the head with the first of `count` events, the other events, and the end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    delta = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    choices = [{"index": 0, "delta": {"content": "token" + MARK.decode()}, "finish_reason": None}]
    event = chunk(b"data: " + json.dumps({**delta, "choices": choices}).encode() + b"\n\n")
    return [head + event, *[event] * (count - 1), chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


WHOLE = response(completion(), "application/json")
STREAM = events()
_JSON_INFO = response(_INFO, "application/json")
PAGES = {
    b"/health": response(b"", "text/plain"),
    b"/metrics": response(_METRICS, "text/plain; version=0.0.4"),
    b"/v1/models": response(_MODELS, "application/json"),
    # The Rust routers read these of a worker before they use it, under older and newer names.
    b"/server_info": _JSON_INFO,
    b"/get_server_info": _JSON_INFO,
    b"/model_info": _JSON_INFO,
    b"/get_model_info": _JSON_INFO,
}


class Requests:
    """Bytes in, heads of whole requests out. Bodies are counted and dropped, not kept."""

    def __init__(self) -> None:
        self._rest = b""
        self._head = b""
        self._missing = 0
        """Bytes of the body of `_head` still to come."""

    def feed(self, data: bytes) -> list[bytes]:
        """The heads of the requests that `data` completes."""
        done = []
        while data:
            if self._missing:
                taken = min(self._missing, len(data))
                self._missing -= taken
                data = data[taken:]
            else:
                data = self._begin(data)
            if not self._missing and self._head:
                done.append(self._head)
                self._head = b""
        return done

    def _begin(self, data: bytes) -> bytes:
        """Take a complete head off the front; returns the rest of `data`."""
        data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return b""
        self._rest = b""
        self._head = data[:end]
        length = _LENGTH.search(self._head)
        self._missing = int(length[1]) if length else 0
        return data[end + 4 :]


class CannedEngine(asyncio.Protocol):
    """One connection. With a wheel every answer is a stream that the wheel turns; without one, answers are whole."""

    def __init__(self, wheel: Wheel | None) -> None:
        self._wheel = wheel
        self._requests = Requests()
        self._transport: asyncio.Transport | None = None
        self._at = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        # uvloop's transports do not descend from asyncio's: no isinstance.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        for head in self._requests.feed(data):
            if not head.startswith(b"POST"):
                self._write(PAGES.get(head.split(b" ", 2)[1], PAGES[b"/health"]))
            elif self._wheel is None:
                self._write(WHOLE)
            else:
                self._at = 0
                self.advance()
                self._wheel.add(self)

    def advance(self) -> bool:
        """Write the stream's next part; whether another follows."""
        self._write(STREAM[self._at])
        self._at += 1
        return self._at < len(STREAM) and self._transport is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Its stream ends with the connection."""
        self._transport = None

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def serve(ports: Sequence[int], stream: bool, gap_s: float) -> None:
    """Listen on every port until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    wheel = Wheel(loop, gap_s) if stream else None
    for port in ports:
        await loop.create_server(lambda: CannedEngine(wheel), "127.0.0.1", port, backlog=BACKLOG)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # No `close()`: clients that stay connected must not delay the end.
    await stopped.wait()


def main() -> None:
    """Serve the ports of the command line."""
    parser = argparse.ArgumentParser(description="an engine with a canned answer")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--stream", action="store_true", help="answer every POST with a stream")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="between two chunks; 0 is full speed")
    options = parser.parse_args()
    uvloop.run(serve(options.ports, options.stream, options.gap_ms / 1000))


if __name__ == "__main__":
    main()
