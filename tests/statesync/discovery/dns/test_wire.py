"""Long answers that dnspython makes are read as dnspython reads them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress

import dns.exception
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statesync.discovery.dns.source import open_resolver
from statesync.discovery.dns.wire import Addresses, addresses_of, read
from tests.fakes.dns_server import serving
from tests.fakes.waiting import DEADLINE_S

NAME = "vllm.ns.svc."
MANY = [str(ipaddress.IPv4Address(0x0A000000 + at)) for at in range(1000)]


def answer(*sets: dns.rrset.RRset, kind: str = "A") -> dns.message.QueryMessage:
    message = dns.message.make_response(dns.message.make_query(NAME, kind))
    assert isinstance(message, dns.message.QueryMessage)
    message.answer += [*sets]
    return message


def texts(name: str, ttl: int, kind: str, values: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, ttl, "IN", kind, values)


def test_all_addresses_are_read_and_dnspython_gets_the_first() -> None:
    sent = answer(texts(NAME, 30, "A", MANY))
    message = read(sent.to_wire(max_size=65535))
    found = addresses_of(message)
    assert found is not None
    # dnspython shuffles what it sends, as servers do.
    assert (sorted(found.hosts), found.ttl_s) == (sorted(MANY), 30)
    assert message.question == sent.question
    assert [record.to_text() for record in message.answer[0]] == [found.hosts[0]]


def test_ipv6_behind_a_chain_of_names_and_the_shortest_ttl() -> None:
    chain = (texts(NAME, 9, "CNAME", ["a.test."]), texts("a.test.", 5, "CNAME", ["b.test."]))
    sent = answer(*chain, texts("b.test.", 7, "AAAA", ["fd00::1"]), kind="AAAA")
    message = read(sent.to_wire())
    assert addresses_of(message) == Addresses(("fd00::1",), 7)
    assert isinstance(message, dns.message.QueryMessage)
    resolved = message.resolve_chaining()
    assert (resolved.canonical_name.to_text(), resolved.minimum_ttl) == ("b.test.", 5)


@pytest.mark.parametrize("spelled", [False, True], ids=["names point back", "a name spelled out"])
def test_records_of_many_ttls_and_spellings_are_read_with_the_shortest_ttl(spelled: bool) -> None:
    hosts = MANY[:20]
    head = answer(texts(NAME, 30, "A", hosts[:1])).to_wire()
    packed = [ipaddress.ip_address(host).packed for host in hosts]
    records = [head[-16:-10] + (99 - at).to_bytes(4) + b"\0\4" + host for at, host in enumerate(packed)]
    if spelled:
        records[7] = (dns.name.from_text(NAME).to_wire() or b"") + records[7][2:]
    found = addresses_of(read(head[:6] + len(hosts).to_bytes(2) + head[8:-16] + b"".join(records)))
    if spelled:
        assert found is None, "names are equal as in dnspython"
    else:
        assert found == Addresses(tuple(hosts), 80)


@pytest.mark.parametrize(
    "sent",
    [
        answer(),
        answer(texts(NAME, 9, "CNAME", ["a.test."])),
        answer(texts(NAME, 9, "A", ["10.0.0.1"]), texts("b.test.", 9, "A", ["10.0.0.2"])),
        answer(texts(NAME, 9, "SRV", ["0 0 80 a.test."])),
    ],
    ids=["nothing", "a name without an address", "addresses of two names", "another kind"],
)
def test_an_answer_that_is_not_a_list_of_addresses_goes_to_dnspython_whole(sent: dns.message.Message) -> None:
    message = read(sent.to_wire())
    assert addresses_of(message) is None
    assert message == sent


@given(st.binary(max_size=60), st.integers(0, 120))
def test_damage_is_reported_by_dnspython_alone(noise: bytes, at: int) -> None:
    wire = bytearray(answer(texts(NAME, 30, "A", MANY[:3])).to_wire())
    wire[at : at + len(noise)] = noise
    with contextlib.suppress(dns.exception.DNSException):
        read(bytes(wire))


def test_a_resolver_gets_a_thousand_addresses_over_tcp() -> None:
    async def ask() -> tuple[Addresses | None, bool]:
        async with serving() as server:
            server.records[NAME, "A"] = (60, MANY)
            resolver = open_resolver([("127.0.0.1", server.port)], timeout_s=DEADLINE_S)
            found = await resolver.resolve(NAME, "A")
            return addresses_of(found.response), bool(server.asked["tcp", NAME, "A"])

    found, over_tcp = asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))
    assert over_tcp
    assert found is not None
    assert sorted(found.hosts) == sorted(MANY)


def test_a_server_that_is_silent_or_hangs_up_over_tcp_is_a_failure() -> None:
    async def ask(hang_up: bool) -> str:
        async with serving() as server:
            server.records[NAME, "A"] = (60, MANY)
            server.hangs_up = hang_up
            server.silent_over_tcp = not hang_up
            resolver = open_resolver([("127.0.0.1", server.port)], timeout_s=60.0 if hang_up else 0.3)
            with pytest.raises(dns.exception.DNSException) as error:
                await resolver.resolve(NAME, "A")
            return type(error.value).__name__

    assert asyncio.run(asyncio.wait_for(ask(hang_up=False), DEADLINE_S)) == "LifetimeTimeout"
    assert asyncio.run(asyncio.wait_for(ask(hang_up=True), DEADLINE_S)) == "NoNameservers"
