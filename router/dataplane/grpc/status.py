"""gRPC's own words in HTTP/2: status codes, messages, time-outs. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

Headers = list[tuple[bytes, bytes]]


class Status(IntEnum):
    """The codes that the gateway sends itself."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


HTTP: Final = {0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400} | {
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
"""The status under which a call is counted, by its code (google/rpc/code.proto)."""

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS: Final = 8


def seconds(timeout: bytes) -> float | None:
    """A `grpc-timeout`; None for what is none."""
    digits, unit = timeout[:-1], _UNITS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return None
    return int(digits) * unit


def timeout_of(left_s: float) -> bytes:
    """A `grpc-timeout` of this time, at least a millisecond."""
    milliseconds = max(1, int(left_s * 1000))
    return b"%dm" % milliseconds if milliseconds < 10**_MOST_DIGITS else b"%dS" % min(left_s, 10**_MOST_DIGITS - 1)


def trailers(status: Status, message: str) -> Headers:
    """The end of a call that the gateway ends; the message is percent-encoded where it is not plain."""
    plain = message.encode()
    encoded = b"".join([b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in plain])
    return [(b"grpc-status", b"%d" % status), (b"grpc-message", encoded)]


def code_in(headers: Headers) -> int | None:
    """The code in these headers or trailers; None where they have none."""
    found = next((value for name, value in headers if name == b"grpc-status"), b"")
    return int(found) if found.isdigit() and len(found) < 4 else None
