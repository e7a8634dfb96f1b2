"""Faults of a pod that tests switch on: which there are, which requests they strike, and how they spoil an answer.

A fault applies to all later requests; `rate`, `count` and `scope` narrow it. Faults of the table `INSTEAD` replace the
answer; those of `SPOILT` let the engine answer and spoil what is sent. `refuse` closes the listening socket, which the
pod does itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import msgspec

from loadtests.sim.simpod.errors import ApiError

Kind = Literal[
    "refuse",
    "close_before_first_byte",
    "garbage",
    "hang",
    "http_429",
    "http_500",
    "http_503",
    "reset_midstream",
    "slow_drip",
    "stall",
    "truncated_sse",
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, as `PUT /sim/faults` takes it."""

    kind: Kind
    rate: float = 1.0
    """Share of requests that it strikes."""
    count: int | None = None
    """The number of requests it strikes before it is over; null is no limit."""
    after_chunks: int = 1
    """Chunks that a streamed answer sends before it is cut off or stalls. An answer in one piece is cut in half."""
    for_s: float | None = None
    """`refuse` ends by itself after this time."""
    drip_bytes: int = 16
    drip_interval_s: float = 0.05
    """`slow_drip` sends `drip_bytes` in each interval."""
    retry_after_s: int | None = None
    """Retry-After of the http_ faults."""
    scope: Literal["requests", "all"] = "requests"
    """`requests` is what the engine answers; `all` strikes /health, /metrics and the rest as well."""
    seed: int = 0
    """Of the random numbers that `rate` is compared with."""


class Outlet(Protocol):
    """Where an answer is sent: a connection, or a spoilt one."""

    @property
    def paused(self) -> bool:
        """Whether the client has stopped reading."""

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """A complete answer."""

    def open(self, content_type: bytes) -> None:
        """The head of a streamed answer."""

    def send(self, data: bytes) -> None:
        """One chunk of it."""

    def end(self) -> None:
        """Its end."""


class Line(Outlet, Protocol):
    """What faults need of a connection as well."""

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""

    def close(self) -> None:
        """Close in order."""

    def reset(self) -> None:
        """Cut with a TCP reset."""


class FaultSwitch:
    """The fault that is switched on, if any, and its random numbers."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.struck = 0
        """Requests struck since it was switched on."""
        self._rng = random.Random(0)

    def set(self, fault: Fault | None) -> None:
        """Switch a fault on, or off with None."""
        self.fault, self.struck = fault, 0
        self._rng = random.Random(fault.seed if fault else 0)

    def draw(self, *, inference: bool) -> Fault | None:
        """The fault that strikes this request, or None."""
        fault = self.fault
        if fault is None or fault.kind == "refuse" or (fault.scope == "requests" and not inference):
            return None
        if fault.count is not None and self.struck >= fault.count:
            return None
        if self._rng.random() >= fault.rate:
            return None
        self.struck += 1
        return fault


def _garbage(line: Line, fault: Fault) -> None:
    line.raw(b"\x16\x03\x01 this is not HTTP \x00\xff\xfe\r\n\r\n")
    line.close()


def _http_error(status: int, kind: str, message: str) -> Callable[[Line, Fault], None]:
    def answer(line: Line, fault: Fault) -> None:
        extra = b"" if fault.retry_after_s is None else b"retry-after: %d\r\n" % fault.retry_after_s
        line.whole(status, b"application/json", ApiError(status, message, kind).openai(), extra)

    return answer


INSTEAD: Mapping[str, Callable[[Line, Fault], None]] = {
    "close_before_first_byte": lambda line, fault: line.close(),
    "garbage": _garbage,
    "hang": lambda line, fault: None,
    "http_429": _http_error(429, "RateLimitError", "Too many requests are queued."),
    "http_500": _http_error(500, "InternalServerError", "EngineCore encountered an issue."),
    "http_503": _http_error(503, "ServiceUnavailableError", "The engine is not ready."),
}
"""Faults that answer in the engine's place."""


class Cut:
    """Lets some chunks pass, then half of the next, and then calls `cut` on the connection."""

    def __init__(self, line: Line, fault: Fault, cut: Callable[[Line], None], *, half: bool) -> None:
        self._line, self._left, self._cut, self._half = line, fault.after_chunks, cut, half
        self._done = False

    @property
    def paused(self) -> bool:
        """As the connection."""
        return self._line.paused

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """An answer in one piece announces its full length and stops half-way."""
        self._line.raw(b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\n" % (status, content_type))
        self._line.raw(b"content-length: %d\r\n\r\n%b" % (len(body), body[: len(body) // 2]))
        self._strike()

    def open(self, content_type: bytes) -> None:
        """The head is always sent."""
        self._line.open(content_type)

    def send(self, data: bytes) -> None:
        """Count down."""
        if self._done:
            return
        if self._left > 0:
            self._left -= 1
            self._line.send(data)
            return
        if self._half:
            self._line.raw(b"%x\r\n%b" % (len(data), data[: len(data) // 2]))
        self._strike()

    def end(self) -> None:
        """An answer shorter than the count is cut before its end."""
        if not self._done:
            self._strike()

    def _strike(self) -> None:
        self._done = True
        self._cut(self._line)


class Drip:
    """Sends the answer a few bytes at a time."""

    def __init__(self, line: Line, fault: Fault) -> None:
        self._line, self._fault = line, fault
        self._pending, self._ended, self._timer_on = bytearray(), False, False

    @property
    def paused(self) -> bool:
        """Always false: what cannot be sent yet is kept here."""
        return False

    def whole(self, status: int, content_type: bytes, body: bytes, extra: bytes = b"") -> None:
        """A complete answer, as a chunked one."""
        self.open(content_type)
        self.send(body)
        self.end()

    def open(self, content_type: bytes) -> None:
        """The head leaves at once."""
        self._line.open(content_type)

    def send(self, data: bytes) -> None:
        """Queue."""
        self._pending += data
        if data:
            self._arm()

    def end(self) -> None:
        """The end follows all that is queued."""
        self._ended = True
        self._arm()

    def _arm(self) -> None:
        if not self._timer_on:
            self._timer_on = True
            asyncio.get_running_loop().call_later(self._fault.drip_interval_s, self._drop)

    def _drop(self) -> None:
        self._timer_on = False
        if not self._line.paused:
            drop = bytes(self._pending[: self._fault.drip_bytes])
            del self._pending[: len(drop)]
            self._line.send(drop)
        if self._pending:
            self._arm()
        elif self._ended:
            self._line.end()


def _close(line: Line) -> None:
    line.close()


def _reset(line: Line) -> None:
    line.reset()


def _stay_silent(line: Line) -> None:
    """The connection stays open, and nothing more is sent."""


SPOILT: Mapping[str, Callable[[Line, Fault], Outlet]] = {
    "reset_midstream": lambda line, fault: Cut(line, fault, _reset, half=True),
    "slow_drip": Drip,
    "stall": lambda line, fault: Cut(line, fault, _stay_silent, half=False),
    "truncated_sse": lambda line, fault: Cut(line, fault, _close, half=True),
}
"""Faults that spoil the engine's answer."""
