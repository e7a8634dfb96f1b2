"""Decodes long DNS answers without blocking the event loop: dnspython takes 0.2 s for a thousand A records.

The nameserver here queries as dnspython's own does. A long answer (all come over TCP) goes to dnspython cut off after
its first address, which is enough to check the answer and its chain of CNAMEs. The addresses themselves are decoded
here, a thousand in 0.7 ms. Answers of any other kind go to dnspython whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Any, NamedTuple, cast

import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype

_LENGTHS = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 16}
_IN = 1
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_POINTER = 0xC0


class Addresses(NamedTuple):
    """Every address of an answer, each once, in its order."""

    hosts: tuple[str, ...]
    ttl_s: float
    """The shortest TTL."""


class LeanNameserver(dns.nameserver.Do53Nameserver):
    """UDP as dnspython does it; over TCP the addresses are read here."""

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,  # noqa: ASYNC109  dnspython calls it so
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """See dnspython. Raises dns.exception.DNSException and OSError."""
        if not max_size:
            return await super().async_query(
                request, timeout, source, source_port, max_size, backend, one_rr_per_rrset, ignore_trailing
            )
        try:
            async with asyncio.timeout(timeout):
                reply = await _over_tcp(self.address, self.port, request.to_wire())
        except TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None  # type: ignore[no-untyped-call]
        except asyncio.IncompleteReadError as error:
            raise EOFError("the nameserver closed the connection") from error
        message = read(reply)
        if not request.is_response(message):
            raise dns.exception.FormError("not an answer to the question")  # type: ignore[no-untyped-call]
        return message


def addresses_of(message: dns.message.Message) -> Addresses | None:
    """The addresses that `read` took out of the message; None if it took none and the message is whole."""
    found: Addresses | None = getattr(message, "addresses", None)
    return found


def read(wire: bytes) -> dns.message.Message:
    """The message, with `addresses_of` if it lists addresses. Raises dns.exception.DNSException."""
    try:
        cut = _cut(wire)
    except (struct.error, IndexError, ValueError):
        cut = None  # damaged: dnspython raises the error
    if cut is None:
        return dns.message.from_wire(wire)
    message = dns.message.from_wire(cut[0])
    cast(Any, message).addresses = cut[1]
    return message


def _cut(wire: bytes) -> tuple[bytes, Addresses] | None:
    """The message up to its first address, and all addresses; None if it has none, or those of several names."""
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(wire)
    at = _HEADER.size
    for _ in range(questions):
        at = _after_name(wire, at) + 4
    hosts: dict[bytes, None] = {}
    ttl_s, owner, end, kept = float("inf"), b"", 0, 0
    for place in range(answers):
        start, at = at, _after_name(wire, at)
        kind, group, ttl, length = _RECORD.unpack_from(wire, at)
        name, data = wire[start:at], at + _RECORD.size
        at = data + length
        if group != _IN or _LENGTHS.get(kind) != length:
            continue
        if not end:
            owner, end, kept = name, at, place + 1
            if (rest := _alike(wire[start:], at - start, length, answers - place)) is not None:
                hosts, ttl_s = rest
                break
        elif name != owner:
            return None
        hosts[wire[data:at]] = None
        ttl_s = min(ttl_s, ttl)
    if not end or at > len(wire):
        return None
    found = Addresses((*map(_text, hosts),), ttl_s)
    return _HEADER.pack(number, flags, questions, kept, 0, 0) + wire[_HEADER.size : end], found


def _alike(records: bytes, size: int, length: int, count: int) -> tuple[dict[bytes, None], int] | None:
    """Addresses and shortest TTL of records that differ in nothing else; None if they do, or are incomplete.

    Servers point back to a name instead of repeating it, so records are mostly alike: 0.4 us each instead of 1.5.
    """
    if len(records) < size * count:
        return None
    rows = struct.Struct(f">{size - length - 6}sI2s{length}s").iter_unpack(records[: size * count])
    owners, ttls_s, lengths, hosts = zip(*rows, strict=True)
    if len({*owners}) > 1 or len({*lengths}) > 1:
        return None
    return dict.fromkeys(hosts), min(ttls_s)


def _after_name(wire: bytes, at: int) -> int:
    while length := wire[at]:
        if length >= _POINTER:
            return at + 2
        at += length + 1
    return at + 1


def _text(address: bytes) -> str:
    return socket.inet_ntoa(address) if len(address) == 4 else str(ipaddress.IPv6Address(address))


async def _over_tcp(host: str, port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(question).to_bytes(2) + question)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.transport.abort()
