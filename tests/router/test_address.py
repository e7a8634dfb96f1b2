"""host:port in all supported forms."""

from __future__ import annotations

import contextlib
import socket

import pytest

from loadtests.sim.ports import HOST, free_ports
from router.address import ListenAddress, bind, parse_listen
from tests.fakes.each_case import each_case
from tests.fakes.waiting import DEADLINE_S


@each_case(
    ("text", "host", "port", "loopback"),
    [
        ("0.0.0.0:8000", "0.0.0.0", 8000, False),
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("127.8.8.8:1", "127.8.8.8", 1, True),
        ("localhost:65535", "localhost", 65535, True),
        ("[::1]:80", "::1", 80, True),
        ("[::]:80", "::", 80, False),
        ("gateway.svc:80", "gateway.svc", 80, False),
    ],
)
def test_host_and_port_are_read_and_written_back(text: str, host: str, port: int, loopback: bool) -> None:
    listen = parse_listen(text)
    assert listen == ListenAddress(host, port)
    assert listen.loopback is loopback
    assert str(listen) == text


@each_case(
    "text",
    [
        "",
        "8000",
        ":8000",
        "host",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "::1:80",
        "a b:80",
        "http://h:80",
        "[]:8",
    ],
)
def test_what_is_not_host_and_port_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_listen(text)


@each_case(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("[::]:1", "127.0.0.1:1", True),
        ("[::]:1", "0.0.0.0:1", True),
        ("[::]:1", "[::1]:1", True),
        ("0.0.0.0:1", "[::1]:1", False),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("0.0.0.0:1", "127.0.0.1:2", False),
        ("0.0.0.0:0", "0.0.0.0:0", False),
    ],
)
def test_two_addresses_overlap_where_not_both_can_be_listened_on(one: str, other: str, overlap: bool) -> None:
    assert parse_listen(one).overlaps(parse_listen(other)) is overlap
    assert parse_listen(other).overlaps(parse_listen(one)) is overlap


@pytest.mark.parametrize("shared", [False, True])
def test_every_address_of_ipv6_is_every_address_of_ipv4_too(shared: bool) -> None:
    """Case D 20."""
    with bind(ListenAddress("::", 0), shared=shared) as both:
        both.listen()
        port = both.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=DEADLINE_S).close()


def test_one_address_of_ipv6_is_only_that() -> None:
    with bind(ListenAddress("::1", 0)) as one:
        assert one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_only_shared_sockets_share_a_port() -> None:
    listen = ListenAddress(HOST, free_ports(1)[0])
    with bind(listen, shared=True) as first, bind(listen, shared=True) as second:
        first.listen()
        second.listen()
        with pytest.raises(OSError, match=f"cannot listen on {listen}: Address already in use"):
            bind(listen)


def test_an_ipv6_address_accepts_only_ipv6() -> None:
    with contextlib.closing(bind(ListenAddress("::1", 0))) as bound:
        assert bound.family == socket.AF_INET6
        assert bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
