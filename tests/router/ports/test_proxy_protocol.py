"""The PROXY protocol's headers, byte by byte."""

from __future__ import annotations

import ipaddress

import pytest

from router.ports.proxy_protocol import MAX_BYTES, BadProxyHeader, ProxyHeader, parse

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes([203, 0, 113, 9, 10, 0, 0, 1]) + b"\x30\x39\x01\xbb"
IPV6 = ipaddress.ip_address("2001:db8::9").packed + ipaddress.ip_address("2001:db8::1").packed + b"\x30\x39\x01\xbb"
MAPPED = ipaddress.ip_address("::ffff:203.0.113.9").packed + IPV6[16:]
NOTED = b"\x03\x00\x04\xde\xad\xbe\xef\xee\x00\x02hi"
"""TLVs: a checksum and one that has no meaning."""


def v2(command: int, family: int, rest: bytes) -> bytes:
    return V2 + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


HEADERS = {
    b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 443\r\n": "203.0.113.9",
    b"PROXY TCP6 2001:db8::9 2001:db8::1 12345 443\r\n": "2001:db8::9",
    b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 12345 443\r\n": "203.0.113.9",
    b"PROXY UNKNOWN\r\n": "",
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": "",
    v2(0x21, 0x11, IPV4): "203.0.113.9",
    v2(0x21, 0x21, IPV6): "2001:db8::9",
    v2(0x21, 0x21, MAPPED): "203.0.113.9",
    v2(0x21, 0x11, IPV4 + NOTED): "203.0.113.9",
    v2(0x20, 0x00, b""): "",
    v2(0x20, 0x11, IPV4 + NOTED): "",
    v2(0x21, 0x00, b""): "",
    v2(0x21, 0x31, bytes(216)): "",
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_names_the_client_and_ends_where_the_clients_bytes_begin(header: bytes) -> None:
    assert parse(header + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(header), HEADERS[header])


@pytest.mark.parametrize("header", HEADERS)
def test_every_beginning_of_a_header_waits_for_the_rest(header: bytes) -> None:
    assert [parse(header[:end]) for end in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 12345\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 65536\r\n",
        b"PROXY TCP4 203.0.113.900 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n",
        b"PROXY TCP4  203.0.113.9 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n" + b" " * 80,
        b"PROXY " + b"x" * 200,
        v2(0x11, 0x11, IPV4),
        v2(0x22, 0x11, IPV4),
        v2(0x21, 0x11, IPV4[:-1]),
        v2(0x21, 0x21, IPV4),
        v2(0x21, 0x11, bytes(MAX_BYTES)),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        parse(data)
