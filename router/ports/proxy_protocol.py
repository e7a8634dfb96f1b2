"""The PROXY protocol, versions 1 and 2: the header with which a proxy begins a connection and names its client. Pure;
the format is HAProxy's (doc/proxy-protocol.txt).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final, NamedTuple

MAX_BYTES: Final = 4096
"""Longest header of version 2 that is taken, TLVs included."""

_V1: Final = b"PROXY "
_V1_MAX_BYTES: Final = 107
_V1_LINE: Final = re.compile(rb"PROXY TCP([46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) (\d{1,5}) (\d{1,5})")
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")
_LAST_PORT: Final = 65535

_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD_BYTES: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 and the command. A proxy's own connections, such as its health checks, are LOCAL."""

_ADDRESSES: Final = {0x11: (12, 4), 0x21: (36, 16)}
"""By family and transport, TCP over IPv4 and IPv6: bytes of the addresses, and of the first, the client's. Of any other
family the connection's own address holds."""


class BadProxyHeader(Exception):
    """The bytes are no header of the PROXY protocol; the message says why."""


class ProxyHeader(NamedTuple):
    """A whole header."""

    size: int
    """Its bytes; what follows them is the client's."""
    client: str
    """The client's address; empty where the connection's own address holds."""


def parse(data: bytes) -> ProxyHeader | None:
    """The header with which `data` begins; None while its end is missing. Raises BadProxyHeader."""
    for start, read in _VERSIONS:
        if data[: len(start)] == start[: len(data)]:
            return read(data)
    raise BadProxyHeader("it does not begin with a header")


def _version_1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MAX_BYTES)
    if end < 0:
        if len(data) >= _V1_MAX_BYTES:
            raise BadProxyHeader(f"the line has no end within {_V1_MAX_BYTES} bytes")
        return None
    line, size = data[:end], end + 2
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader(size, "")
    if (found := _V1_LINE.fullmatch(line)) is None or max(int(found[4]), int(found[5])) > _LAST_PORT:
        raise BadProxyHeader("the line has no two addresses and ports")
    version = int(found[1])
    try:
        addresses = [ipaddress.ip_address(found[at].decode()) for at in (2, 3)]
    except ValueError as error:
        raise BadProxyHeader(str(error)) from None
    if any(address.version != version for address in addresses):
        raise BadProxyHeader(f"an address is not of IPv{version}")
    return ProxyHeader(size, _text(addresses[0]))


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD_BYTES:
        return None
    command, family = data[12], data[13]
    size = _V2_HEAD_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"version and command are {command:#04x}")
    if size > MAX_BYTES:
        raise BadProxyHeader(f"the header has {size} bytes, more than {MAX_BYTES}")
    needed, width = _ADDRESSES.get(family, (0, 0))
    if command == _PROXY and size < _V2_HEAD_BYTES + needed:
        raise BadProxyHeader("the header is too short for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or not width:
        return ProxyHeader(size, "")
    return ProxyHeader(size, _text(ipaddress.ip_address(data[_V2_HEAD_BYTES : _V2_HEAD_BYTES + width])))


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """A proxy that takes IPv4 by a socket of IPv6 names its clients so, and Python writes ::ffff:10.0.0.1 in hex."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


_VERSIONS: Final[tuple[tuple[bytes, Callable[[bytes], ProxyHeader | None]], ...]] = (
    (_V1, _version_1),
    (_V2, _version_2),
)
"""The first bytes of each version, and what reads it."""
