"""When a certificate ends. Reads as much of X.509 (RFC 5280, 4.1) as leads to that date, which `ssl` shows of the other
side's certificate only.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17


def expiry_of(pem: bytes) -> float:
    """When the first certificate of a PEM file ends, Unix time; 0.0 where that cannot be read."""
    found = _PEM.search(pem)
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(found[0].decode())) if found is not None else 0.0
    except (ValueError, IndexError):
        return 0.0


def _not_after(der: bytes) -> float:
    """A certificate's first part begins with an optional version, serial number, algorithm, issuer, and two dates."""
    rest = _content(_content(der))
    if rest[0] == _VERSION:
        rest = _after(rest)
    for _ in ("serial number", "algorithm", "issuer"):
        rest = _after(rest)
    end = _after(_content(rest))
    text = _content(end).decode("ascii")
    if end[0] == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _content(der: bytes) -> bytes:
    """What is inside the first element."""
    begin, end = _span(der)
    return der[begin:end]


def _after(der: bytes) -> bytes:
    """What follows the first element."""
    return der[_span(der)[1] :]


def _span(der: bytes) -> tuple[int, int]:
    """Where the content of the first element begins and ends. Its length has one byte, or a byte that counts the bytes
    of the length."""
    if der[1] < 0x80:
        return 2, 2 + der[1]
    begin = 2 + (der[1] & 0x7F)
    return begin, begin + int.from_bytes(der[2:begin], "big")
