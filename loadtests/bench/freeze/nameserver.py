"""A DNS server for the freeze bench: one name with any number of pods, in two sets that can be swapped; it can
also stop answering. Answers are encoded once, so that the server does not disturb the measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

NAME = "pods.test."
TTL_S = 1


def addresses(pods: int, set_number: int) -> list[str]:
    """The pods of a set: all of them on the loopback network, and in no other set."""
    return [f"127.{set_number + 1}.{at // 250}.{at % 250 + 1}" for at in range(pods)]


class Names:
    """The present answers. `log` is called with a line for every question."""

    def __init__(self, pods: int, log: Callable[[str], None]) -> None:
        self._log = log
        self._sets = [_answer(addresses(pods, number)) for number in range(2)]
        self._at = 0
        self.silent = False

    def swap(self) -> None:
        """From now on the name has the other pods."""
        self._at = 1 - self._at

    def toggle(self) -> None:
        """Stop answering, or start again."""
        self.silent = not self.silent

    def reply(self, question: bytes, *, over_tcp: bool) -> bytes | None:
        """The answer; over UDP a long one is truncated (TC). None while silent."""
        if self.silent:
            self._log("ignored")
            return None
        query = dns.message.from_wire(question)
        answer = dns.message.make_response(query)
        if query.question[0].name.to_text() != NAME:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif query.question[0].rdtype == dns.rdatatype.A:
            if over_tcp:
                self._log(f"answered {self._at}")
                return question[:2] + self._sets[self._at]
            answer.flags |= dns.flags.TC
        return answer.to_wire()


def _answer(hosts: list[str]) -> bytes:
    """A whole answer without the two bytes of its number."""
    message = dns.message.make_response(dns.message.make_query(NAME, "A"))
    message.answer.append(dns.rrset.from_text_list(NAME, TTL_S, "IN", "A", hosts))
    return message.to_wire(max_size=65535)[2:]


class Datagrams(asyncio.DatagramProtocol):
    """The server over UDP."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer, unless silent."""
        reply = self._names.reply(data, over_tcp=False)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class Stream(asyncio.Protocol):
    """The server over TCP: one question a connection."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the question is complete."""
        self._received += data
        if len(self._received) < 2 or len(self._received) < 2 + int.from_bytes(self._received[:2]):
            return
        reply = self._names.reply(self._received[2:], over_tcp=True)
        if reply is not None and self._transport is not None:
            self._transport.write(len(reply).to_bytes(2) + reply)
