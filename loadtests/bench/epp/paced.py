"""The load: whole requests at random times, so many a second, whatever the answers take. Times count from when a
request was due, so that a slow answer does not hide what waits behind it.

A program of its own, without an event loop, since asyncio's timers count in milliseconds:
`python -m loadtests.bench.epp.paced ORDER`, where ORDER is a JSON file; it prints a line of JSON.
"""

from __future__ import annotations

import json
import random
import re
import select
import socket
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

LAST_ANSWER_S: Final = 2.0
"""Seconds after the last request in which its answer is waited for."""

MOST_CONNECTIONS: Final = 256
"""Requests under way at a time; those that are due wait, and their time counts."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Order(NamedTuple):
    """What to send."""

    host: str
    port: int
    requests: list[str]
    """Whole, sent in turn."""
    rate: float
    seconds: float
    seed: int


class Tally:
    """What came back."""

    def __init__(self) -> None:
        self.sent = 0
        self.times_ms: list[float] = []
        self.wrong = 0
        """Answers that were no 200, and connections that ended."""


class Connection:
    """One connection, with one request at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._due = 0.0
        self._answer = b""

    def fileno(self) -> int:
        """For `select`."""
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time."""
        self._due, self._answer = due, b""
        self.socket.sendall(request)

    def read(self, tally: Tally) -> bool:
        """Read on; whether the answer is complete."""
        piece = self.socket.recv(65536)
        self._answer += piece
        if not piece or not complete(self._answer):
            tally.wrong += not piece
            return False
        tally.times_ms.append((perf_counter() - self._due) * 1e3)
        tally.wrong += not self._answer.startswith(b"HTTP/1.1 200 ")
        return True


def complete(answer: bytes) -> bool:
    """Whether this is a whole answer."""
    head, found, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(found) and (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"))


def dues(order: Order) -> Iterator[float]:
    """When requests are due, in seconds from the start."""
    rng, at = random.Random(order.seed), 0.0
    while (at := at + rng.expovariate(order.rate)) < order.seconds:
        yield at


def play(order: Order) -> Tally:
    """Send everything, and read the answers."""
    tally, requests = Tally(), cycle([request.encode() for request in order.requests])
    free, busy = list[Connection](), set[Connection]()
    start = perf_counter()
    for due in (start + at for at in dues(order)):
        while (left := due - perf_counter()) > 0 or (not free and len(busy) >= MOST_CONNECTIONS):
            _read(free, busy, max(left, 0.0) or LAST_ANSWER_S, tally)
        connection = free.pop() if free else Connection(order.host, order.port)
        connection.send(next(requests), due)
        busy.add(connection)
        tally.sent += 1
    end = perf_counter() + LAST_ANSWER_S
    while busy and (left := end - perf_counter()) > 0:
        _read(free, busy, left, tally)
    for connection in (*free, *busy):
        connection.socket.close()
    return tally


def _read(free: list[Connection], busy: set[Connection], left_s: float, tally: Tally) -> None:
    for connection in select.select(busy, (), (), left_s)[0]:
        wrong = tally.wrong
        if connection.read(tally):
            free.append(connection)
            busy.discard(connection)
        elif tally.wrong > wrong:
            busy.discard(connection)
            connection.socket.close()


if __name__ == "__main__":
    played = play(Order(**json.loads(Path(sys.argv[1]).read_text())))
    sys.stdout.write(json.dumps(vars(played)) + "\n")
