"""A small real DNS server for tests: UDP and TCP on one loopback port, with records that a test may change."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST, free_ports


class DnsServer(asyncio.DatagramProtocol):
    """Answers from `records`: (name with final dot, type) -> (TTL, texts)."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.rcode: dict[str, dns.rcode.Rcode] = {}
        """Name -> the response code to answer instead."""
        self.silent: set[str] = set()
        """Names that get no answer."""
        self.silent_over_tcp = False
        self.hangs_up = False
        """Over TCP, close the connection instead of answering."""
        self.asked: Counter[tuple[str, str, str]] = Counter()
        """(transport, name, type) -> number of questions."""
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(data, "udp")
        if answer is None:
            return
        try:
            wire = answer.to_wire()
        except dns.exception.TooBig:  # for the payload the question allows
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            wire = answer.to_wire()
        assert self._transport is not None
        self._transport.sendto(wire, addr)

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length = int.from_bytes(await reader.readexactly(2))
            answer = self._answer(await reader.readexactly(length), "tcp")
            if self.hangs_up:
                break
            if answer is not None and not self.silent_over_tcp:
                wire = answer.to_wire(max_size=65535)
                writer.write(len(wire).to_bytes(2) + wire)

    def _answer(self, data: bytes, transport: str) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked[transport, name, kind] += 1
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        if name in self.rcode:
            answer.set_rcode(self.rcode[name])
        elif (name, kind) in self.records:
            ttl, texts = self.records[name, kind]
            answer.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, texts))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[DnsServer]:
    """A server on a free port of 127.0.0.1."""
    server = DnsServer()
    # The same port number for UDP and TCP, free for both.
    (server.port,) = free_ports(1)
    async with stream_server(server.tcp, port=server.port):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=(HOST, server.port))
        try:
            yield server
        finally:
            transport.close()
