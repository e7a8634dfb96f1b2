"""Which headers are passed on, which are dropped, and which are read."""

from __future__ import annotations

import pytest

from router.dataplane.http.header_rules import REQUEST, RESPONSE, HeaderFields

HOP_BY_HOP = [
    *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer"),
    *("Transfer-Encoding", "Upgrade", "HTTP2-Settings"),
]


def sort(table: dict[bytes, int], *headers: tuple[bytes, bytes]) -> HeaderFields:
    fields = HeaderFields(table)
    for name, value in headers:
        fields.add(name, value)
    return fields


@pytest.mark.parametrize("table", [REQUEST, RESPONSE], ids=["request", "response"])
@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_headers_are_dropped(table: dict[bytes, int], name: str) -> None:
    for written in (name, name.lower(), name.upper()):
        assert sort(table, (written.encode(), b"x")).kept == []


@pytest.mark.parametrize("table", [REQUEST, RESPONSE], ids=["request", "response"])
def test_headers_in_no_table_are_passed_on_in_order(table: dict[bytes, int]) -> None:
    fields = sort(table, (b"X-B", b"2"), (b"X-Auth", b"Bearer k"), (b"X-B", b"3"), (b"X-Empty", b""))
    assert b"".join(fields.kept) == b"x-b: 2\r\nx-auth: Bearer k\r\nx-b: 3\r\nx-empty: \r\n"
    assert fields.header_map == {}


def test_read_headers_are_stored_and_some_are_passed_on() -> None:
    fields = sort(REQUEST, (b"X-Turnout-Pool", b"p"), (b"X-Session-Id", b"s"), (b"Content-Type", b"t"))
    assert fields.header_map == {b"x-turnout-pool": b"p", b"x-session-id": b"s", b"content-type": b"t"}
    assert b"".join(fields.kept) == b"x-session-id: s\r\ncontent-type: t\r\n"


def test_a_repeated_header_is_stored_as_a_list() -> None:
    fields = sort(REQUEST, (b"Connection", b"close"), (b"connection", b"x-a"))
    assert fields.header_map == {b"connection": b"close, x-a"}


def test_the_size_counts_names_values_and_separators() -> None:
    assert sort(REQUEST, (b"a", b"b"), (b"host", b"xyz")).size == len(b"a: b\r\nhost: xyz\r\n")


def test_headers_named_by_connection_are_dropped() -> None:
    fields = sort(
        REQUEST,
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-c", b"3"),
        (b"x-a", b"4"),
        (b"connection", b"close, X-A ,, x-c, keep-alive"),
    )
    fields.drop_nominated()
    assert b"".join(fields.kept) == b"x-b: 2\r\n"


def test_an_ordinary_connection_header_drops_nothing() -> None:
    fields = sort(REQUEST, (b"x-a", b"1"), (b"connection", b"Keep-Alive, Upgrade"))
    fields.drop_nominated()
    assert b"".join(fields.kept) == b"x-a: 1\r\n"


@pytest.mark.parametrize("name", [b"x-request-id", b"x-turnout-pod", b"x-turnout-attempts"])
def test_headers_that_the_gateway_sets_are_not_taken_from_a_pod(name: bytes) -> None:
    assert sort(RESPONSE, (name, b"x")).kept == []
