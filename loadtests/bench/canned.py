"""An engine that costs almost nothing: the same answer to every request, so that what is measured is the router.

It reads just enough HTTP/1.1 to know where a request ends (content-length only) and knows nothing of the router. Run
as `python -m loadtests.bench.canned PORT...`; it prints `ready` once all ports listen and ends on SIGTERM.
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

ANSWER_BYTES = 270
CHUNKS = 64
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_METRICS = b'vllm:num_requests_waiting{model_name="bench"} 0\nvllm:num_requests_running{model_name="bench"} 0\n'
_MODELS = b'{"object":"list","data":[{"id":"bench","object":"model"}]}'


def response(body: bytes, content_type: str) -> bytes:
    """A whole 200 answer."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def completion() -> bytes:
    """A chat completion of `ANSWER_BYTES`, as vLLM words it."""
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
    """A streamed answer: the head, `count` events, and the end, each as it goes over the wire."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    delta = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "bench"}
    choices = [{"index": 0, "delta": {"content": "token "}, "finish_reason": None}]
    event = chunk(b"data: " + json.dumps({**delta, "choices": choices}).encode() + b"\n\n")
    return [head, *[event] * count, chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


WHOLE = response(completion(), "application/json")
STREAM = events()
PAGES = {
    b"/health": response(b"", "text/plain"),
    b"/metrics": response(_METRICS, "text/plain; version=0.0.4"),
    b"/v1/models": response(_MODELS, "application/json"),
}


def split(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The whole requests at the head of `data` as (head, body) each, and what is left over."""
    found, at = [], 0
    while (end := data.find(b"\r\n\r\n", at)) >= 0:
        length = _LENGTH.search(data, at, end)
        stop = end + 4 + (int(length[1]) if length else 0)
        if stop > len(data):
            break
        found.append((data[at:end], data[end + 4 : stop]))
        at = stop
    return found, data[at:]


class CannedEngine(asyncio.Protocol):
    """One connection. `gap_s` is the time between two events of a stream; 0 sends them all at once."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        # uvloop's transports do not descend from asyncio's: no isinstance here.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        requests, self._rest = split(self._rest + data)
        for head, body in requests:
            if head.startswith(b"POST"):
                self._answer(stream=b'"stream":true' in body)
            else:
                self._write(PAGES.get(head.split(b" ", 2)[1], PAGES[b"/health"]))

    def _answer(self, stream: bool) -> None:
        if not stream:
            self._write(WHOLE)
        elif self._gap_s:
            self._drip(0)
        else:
            self._write(b"".join(STREAM))

    def _drip(self, at: int) -> None:
        self._write(STREAM[at])
        if at + 1 < len(STREAM):
            asyncio.get_running_loop().call_later(self._gap_s, self._drip, at + 1)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def serve(ports: Sequence[int], gap_s: float) -> None:
    """Listen on every port until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    servers = [await loop.create_server(lambda: CannedEngine(gap_s), "127.0.0.1", port) for port in ports]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stopped.wait()
    for server in servers:
        server.close()


def main() -> None:
    """Serve the ports of the command line."""
    parser = argparse.ArgumentParser(description="an engine with a canned answer")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--gap-ms", type=float, default=0.0)
    options = parser.parse_args()
    uvloop.run(serve(options.ports, options.gap_ms / 1000))


if __name__ == "__main__":
    main()
