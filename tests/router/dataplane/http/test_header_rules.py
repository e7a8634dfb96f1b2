"""Which headers are passed on, which are dropped, and which are read."""

from __future__ import annotations

import pytest

from router.dataplane.http import header_rules
from router.dataplane.http.header_rules import (
    CHUNKED_LENGTH,
    ENDLESS,
    FORWARDING,
    NO_LENGTH,
    REQUEST,
    RESPONSE,
    HeaderFields,
)
from tests.fakes.each_case import each_case

HOP_BY_HOP = [
    *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer"),
    *("Transfer-Encoding", "Upgrade", "HTTP2-Settings"),
]


def sort(table: dict[bytes, int], *headers: tuple[bytes, bytes]) -> HeaderFields:
    fields = HeaderFields(table)
    for name, value in headers:
        fields.on_header(name, value)
    return fields


@each_case("table", [REQUEST, RESPONSE], ids=["request", "response"])
@each_case("name", HOP_BY_HOP)
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


def test_a_name_that_came_before_is_treated_as_the_first_time() -> None:
    headers = ((b"X-B", b"2"), (b"Content-Type", b"t"), (b"X-Turnout-Pod", b"p"), (b"X-Forwarded-For", b"1.2.3.4"))
    for _ in range(2):
        for table in (REQUEST, RESPONSE):
            fields = sort(table, *headers)
            forwarded = b"" if table is REQUEST else b"x-forwarded-for: 1.2.3.4\r\n"
            assert fields.lines() == [b"x-b: 2\r\ncontent-type: t\r\n" + forwarded]
            assert (FORWARDING in fields.header_map) is (table is REQUEST)


def test_names_that_clients_invent_take_a_bounded_memory() -> None:
    for number in range(3 * header_rules._MAX_NAMES):
        assert sort(REQUEST, (b"X-%d" % number, b"1")).lines() == [b"x-%d: 1\r\n" % number]
    long = b"X-" + b"a" * 8000
    assert sort(REQUEST, (long, b"1")).lines() == [long.lower() + b": 1\r\n"]
    assert len(header_rules._request_rules) <= header_rules._MAX_NAMES
    assert long not in header_rules._request_rules


def test_a_repeated_header_is_stored_as_a_list() -> None:
    fields = sort(REQUEST, (b"Connection", b"close"), (b"connection", b"x-a"))
    assert fields.header_map == {b"connection": b"close, x-a"}


def test_headers_named_by_connection_are_dropped() -> None:
    fields = sort(
        REQUEST,
        (b"x-a", b"1"),
        (b"x-b", b"2"),
        (b"x-c", b"3"),
        (b"x-a", b"4"),
        (b"connection", b"close, X-A ,, x-c, keep-alive"),
    )
    assert not fields.stays_open(True)
    assert b"".join(fields.kept) == b"x-b: 2\r\n"


def test_an_ordinary_connection_header_drops_nothing() -> None:
    fields = sort(REQUEST, (b"x-a", b"1"), (b"connection", b"Keep-Alive, Upgrade"))
    assert fields.stays_open(True)
    assert b"".join(fields.kept) == b"x-a: 1\r\n"


@each_case(
    ("connection", "http11", "open_after"),
    [
        (None, True, True),
        (None, False, False),
        (b"close", True, False),
        (b"x-a, \tClose", True, False),
        (b"upgrade", True, True),
        (b"Keep-Alive", False, True),
        (b"keep-alive, close", False, False),
        (b"keep-alive-not", False, False),
    ],
)
def test_a_connection_stays_open_by_version_and_header(
    connection: bytes | None, http11: bool, open_after: bool
) -> None:
    fields = sort(REQUEST, *([] if connection is None else [(b"Connection", connection)]))
    assert fields.stays_open(http11) is open_after


CHUNKED, PLAIN = (b"transfer-encoding", b"Chunked"), (b"content-length", b"7")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], NO_LENGTH),
        ([CHUNKED], CHUNKED_LENGTH),
        ([PLAIN], 7),
        ([(PLAIN[0], b"007 ")], 7),
        ([(PLAIN[0], b"9" * 19)], ENDLESS),
    ],
)
def test_the_length_of_a_body_follows_from_the_headers(headers: list[tuple[bytes, bytes]], length: int) -> None:
    assert sort(REQUEST, *headers).length() == length


@each_case("table", [REQUEST, RESPONSE], ids=["request", "response"])
@each_case(
    "headers",
    [
        [PLAIN, PLAIN],
        [CHUNKED, CHUNKED],
        [PLAIN, CHUNKED],
        [(CHUNKED[0], b"gzip, chunked")],
        [(CHUNKED[0], b"")],
        *([(PLAIN[0], value)] for value in (b"", b"+7", b"-7", b"7,7", b"0x7", b"7.0", b"7 7", b"\xb2")),
    ],
)
def test_two_lengths_or_a_malformed_one_are_refused(
    table: dict[bytes, int], headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(ValueError, match="it"):
        sort(table, *headers).length()


@pytest.mark.parametrize("name", [b"Host", b"content-type", b"Authorization", b"x-api-key", b"content-length"])
def test_a_header_that_may_come_once_is_noticed_when_it_comes_twice(name: bytes) -> None:
    assert sort(REQUEST, (name, b"a")).repeated == b""
    assert sort(REQUEST, (name, b"a"), (name.upper(), b"a")).repeated == name.lower()


@each_case("table", [REQUEST, RESPONSE], ids=["request", "response"])
@each_case("name", [b"X-Turnout-Pod", b"x-turnout-anything", b"x-turnout-"])
def test_the_gateways_own_headers_do_not_pass_it(table: dict[bytes, int], name: bytes) -> None:
    """Case E 26."""
    assert sort(table, (name, b"x")).kept == []


@pytest.mark.parametrize("name", [b"x-request-id", b"x-turnout-pod", b"x-turnout-attempts"])
def test_headers_that_the_gateway_sets_are_not_taken_from_a_pod(name: bytes) -> None:
    assert sort(RESPONSE, (name, b"x")).kept == []
