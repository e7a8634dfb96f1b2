"""A DNS server for one name whose answers can be made wrong. UDP, on a loopback port, in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Final

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from loadtests.sim.ports import HOST

NAME: Final = "pods.chaos.test"
TTL_S: Final = 1


class NameServer:
    """Its constructor starts it; `stop` ends it. Each attribute may be changed at any time."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.true_addresses = tuple(addresses)
        self.addresses = self.true_addresses
        """What it answers; empty: the name exists and has no address."""
        self.rcode = dns.rcode.NOERROR
        self.silent = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="names", daemon=True)
        self._thread.start()

    def restore(self) -> None:
        """Undo all changes."""
        self.addresses, self.rcode, self.silent = self.true_addresses, dns.rcode.NOERROR, False

    def stop(self) -> None:
        """End the thread."""
        # A datagram without content ends the loop: closing a socket does not wake the thread that reads it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (HOST, self.port))
        self._thread.join(5.0)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            try:
                query = dns.message.from_wire(data)
            except dns.exception.DNSException:
                continue
            if not self.silent:
                self._socket.sendto(self._answer(query).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer, question = dns.message.make_response(query), query.question[0]
        answer.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR and question.rdtype == dns.rdatatype.A and self.addresses:
            answer.answer.append(dns.rrset.from_text_list(question.name, TTL_S, "IN", "A", self.addresses))
        return answer
