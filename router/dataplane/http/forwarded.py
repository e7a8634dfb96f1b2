"""`Forwarded` and `X-Forwarded-*`: who sent a request through which proxies. Pure; knows which proxies are trusted.

A header of this kind is only as good as its sender. What a trusted proxy sent is passed on, with its own address added;
what any other client sent is replaced by that client's address. So the last addresses are true, and the client is the
first from the right that is no trusted proxy.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final

from router.dataplane.http.header_rules import is_forwarding

FOR: Final = b"x-forwarded-for"
PROTO: Final = b"x-forwarded-proto"
FORWARDED: Final = b"forwarded"

_MAPPED: Final = "::ffff:"
"""What a socket that takes IPv4 and IPv6 puts before an address of IPv4."""

MAX_HOPS: Final = 32
"""Addresses of a chain that are looked at, from the right."""


class TrustedProxies:
    """Which peers are proxies, and what pods get of their headers."""

    def __init__(self, networks: Sequence[str], *, https: bool = False) -> None:
        """`https`: whether clients speak TLS to the gateway."""
        self._proto = b"https" if https else b"http"
        self._networks = [ipaddress.ip_network(each) for each in networks]
        self.always = bool(self._networks)
        """Whether pods get the client's address with every request, and not only where it replaces something."""

    def trusts(self, address: str) -> bool:
        """Whether this peer is a proxy whose headers count."""
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._networks)

    def client(self, peer: str, header_map: Mapping[bytes, bytes]) -> str:
        """The address of the client: the first from the right that is no trusted proxy."""
        client = peer.removeprefix(_MAPPED)
        if not self.trusts(peer):
            return client
        for hop in reversed(_chain(header_map)[-MAX_HOPS:]):
            client = hop
            if not self.trusts(hop):
                break
        return client

    def lines(self, peer: str, header_map: Mapping[bytes, bytes]) -> bytes:
        """The header lines for a pod."""
        found = {}
        if self.trusts(peer):
            found = {name: value for name, value in header_map.items() if is_forwarding(name)}
        hop = peer.removeprefix(_MAPPED).encode() or b"unknown"
        chain = found.get(FOR) or ", ".join(_chain(found)).encode("latin-1")
        found[FOR] = chain + b", " + hop if chain else hop
        found.setdefault(PROTO, self._proto)
        if FORWARDED in found:
            found[FORWARDED] += b", for=" + (b'"[%b]"' % hop if b":" in hop else hop)
        return b"".join([name + b": " + value + b"\r\n" for name, value in found.items()])


def peer_of(transport: asyncio.Transport | None) -> str:
    """The address at the other end of a connection; empty where it is closed or has none."""
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else ""


def _chain(header_map: Mapping[bytes, bytes]) -> list[str]:
    """The addresses that a trusted peer sent, from the left to the right."""
    value = header_map.get(FOR)
    if value is not None:
        return [_address(hop) for hop in value.decode("latin-1").split(",")]
    hops = header_map.get(FORWARDED, b"").decode("latin-1").split(",")
    pairs = [pair.strip().partition("=") for hop in hops for pair in hop.split(";")]
    return [_address(value) for name, _, value in pairs if name.strip().lower() == "for"]


def _address(hop: str) -> str:
    """`192.0.2.1`, `192.0.2.1:80`, `"[2001:db8::1]:80"` and `2001:db8::1` without port and quotes."""
    hop = hop.strip().strip('"')
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
