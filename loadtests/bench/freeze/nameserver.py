"""A DNS server for the freeze bench: one name with as many pods as asked for, in two sets that can be swapped, and
silence on demand. Answers are made once, so that the server does not disturb what it is there to measure.
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
    """What is answered now. `told` hears a word on every question."""

    def __init__(self, pods: int, told: Callable[[str], None]) -> None:
        self._told = told
        self._sets = [_answer(addresses(pods, number)) for number in range(2)]
        self._at = 0
        self.silent = False

    def swap(self) -> None:
        """From now on the name stands for the other pods."""
        self._at = 1 - self._at

    def hush(self) -> None:
        """Answer nothing from now on, or again."""
        self.silent = not self.silent

    def reply(self, question: bytes, *, over_tcp: bool) -> bytes | None:
        """The answer; over UDP a long one is only promised. None while silent."""
        if self.silent:
            self._told("ignored")
            return None
        query = dns.message.from_wire(question)
        answer = dns.message.make_response(query)
        if query.question[0].name.to_text() != NAME:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif query.question[0].rdtype == dns.rdatatype.A:
            if over_tcp:
                self._told(f"answered {self._at}")
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
        """Answer, if it is time to."""
        reply = self._names.reply(data, over_tcp=False)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class Stream(asyncio.Protocol):
    """The server over TCP: one question a connection."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._heard = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the question is whole."""
        self._heard += data
        if len(self._heard) < 2 or len(self._heard) < 2 + int.from_bytes(self._heard[:2]):
            return
        reply = self._names.reply(self._heard[2:], over_tcp=True)
        if reply is not None and self._transport is not None:
            self._transport.write(len(reply).to_bytes(2) + reply)
