"""Who a request came from, through which proxies, and what pods get of it. Every case is Case E 26."""

from __future__ import annotations

import pytest

from router.dataplane.http.forwarded import MAX_HOPS, TrustedProxies
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT
from tests.fakes.memory_gateway import Rig

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])
CLIENT = "203.0.113.9"


@each_case(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("unknown", False),
        ("", False),
        ("10.1.2.3, 10.1.2.4", False),
    ],
)
def test_a_proxy_is_known_by_its_network(address: str, trusted: bool) -> None:
    assert PROXIES.trusts(address) is trusted


@each_case(
    ("peer", "chain", "client"),
    [
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", CLIENT),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", CLIENT),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", CLIENT),
        ("10.0.0.1", "203.0.113.9:4711", CLIENT),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "nonsense"),
        ("::ffff:10.0.0.1", "203.0.113.9", CLIENT),
        ("::ffff:203.0.113.9", "1.1.1.1", CLIENT),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_proxy(peer: str, chain: str, client: str) -> None:
    assert PROXIES.client(peer, {b"x-forwarded-for": chain.encode()} if chain else {}) == client


@pytest.mark.parametrize(
    "forwarded",
    [
        b"for=203.0.113.9",
        b'for=1.1.1.1;proto=https, FOR="203.0.113.9:80";proto=http',
        b"for=203.0.113.9, for=10.0.0.7;by=10.0.0.1",
    ],
)
def test_the_client_is_found_in_the_standard_header_too(forwarded: bytes) -> None:
    assert PROXIES.client("10.0.0.1", {b"forwarded": forwarded}) == CLIENT


def test_an_address_of_ipv6_loses_its_brackets_and_its_port() -> None:
    assert PROXIES.client("10.0.0.1", {b"forwarded": b'for="[2001:db9::1]:80"'}) == "2001:db9::1"


def test_only_the_last_addresses_of_a_long_chain_are_looked_at() -> None:
    chain = b",".join([b"1.1.1.1"] + [b"10.0.0.2"] * 100_000)
    assert PROXIES.client("10.0.0.1", {b"x-forwarded-for": chain}) == "10.0.0.2"
    assert MAX_HOPS < 100


SPOOFED = {
    b"x-forwarded-for": b"1.1.1.1",
    b"x-forwarded-proto": b"https",
    b"x-forwarded-user": b"root",
    b"forwarded": b"for=1.1.1.1",
    b"x-real-ip": b"1.1.1.1",
    b"authorization": b"Bearer k",
}


def test_what_an_untrusted_client_says_is_replaced() -> None:
    lines = PROXIES.lines(CLIENT, SPOOFED)
    assert lines == b"x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\n"


def test_a_chain_in_the_standard_header_alone_is_in_the_other_too() -> None:
    lines = PROXIES.lines("10.0.0.1", {b"forwarded": b'for=203.0.113.9, for="10.0.0.2:80"'})
    assert b"x-forwarded-for: 203.0.113.9, 10.0.0.2, 10.0.0.1\r\n" in lines


def test_an_address_of_ipv4_is_written_as_one_whatever_the_socket() -> None:
    assert b"x-forwarded-for: 203.0.113.9\r\n" in PROXIES.lines("::ffff:203.0.113.9", {})


def test_what_a_trusted_proxy_says_is_passed_on_with_its_address() -> None:
    lines = PROXIES.lines("10.0.0.1", SPOOFED).split(b"\r\n")
    assert sorted(lines) == [
        b"",
        b"forwarded: for=1.1.1.1, for=10.0.0.1",
        b"x-forwarded-for: 1.1.1.1, 10.0.0.1",
        b"x-forwarded-proto: https",
        b"x-forwarded-user: root",
        b"x-real-ip: 1.1.1.1",
    ]


def test_an_address_of_ipv6_is_quoted_in_the_standard_header() -> None:
    assert b'for=1.1.1.1, for="[2001:db8::7]"\r\n' in PROXIES.lines("2001:db8::7", {b"forwarded": b"for=1.1.1.1"})


def test_a_request_without_such_headers_is_sent_as_it_came_unless_proxies_are_configured() -> None:
    with Rig() as rig:
        rig.asks()
        assert not [name for name in rig.asked().request.headers if "forwarded" in name]
    with Rig(trusted_proxies=["10.0.0.0/8"]) as rig:
        rig.asks()
        assert rig.asked().request.headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(("trusted", "seen"), [((), "127.0.0.1"), (["127.0.0.0/8"], "1.1.1.1, 127.0.0.1")])
def test_a_pod_sees_a_clients_word_only_through_a_trusted_proxy(trusted: list[str], seen: str) -> None:
    with Rig(trusted_proxies=trusted) as rig:
        for _ in range(2):  # the second head comes from the cache
            rig.asks(CHAT, "X-Forwarded-For: 1.1.1.1", "X-Forwarded-User: root")
            headers = rig.asked().request.headers
            assert headers["x-forwarded-for"] == seen
            assert ("x-forwarded-user" in headers) is bool(trusted)
            rig.asked().dies()


def test_unknown_headers_of_the_gateways_own_kind_do_not_reach_pods() -> None:
    with Rig() as rig:
        rig.asks(CHAT, "X-Turnout-Anything: 1", "x-turnout-priority: 1")
        assert not [name for name in rig.asked().request.headers if name.startswith("x-turnout-")]
