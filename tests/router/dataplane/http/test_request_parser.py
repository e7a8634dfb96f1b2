"""Bytes to requests: the same requests whatever pieces their bytes come in, and what cannot be one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.request_head import RequestHead
from router.dataplane.http.request_parser import BODY, HEAD, IDLE, PART, RequestParser
from router.errors import BadFraming, BodyTooLarge, GatewayError, HeadersTooLarge
from router.settings import Limits
from tests.fakes.each_case import each_case


class RecordingOwner:
    """An owner that records its calls."""

    def __init__(self) -> None:
        self.requests: list[tuple[RequestHead, bytes]] = []
        self.calls: list[str] = []

    def head_begun(self) -> None:
        self.calls.append("head")

    def body_expected(self, wants_continue: bool, /) -> None:
        self.calls.append("continue" if wants_continue else "body")

    def body_grew(self, total_bytes: int, /) -> None:
        self.calls.append(f"{total_bytes}")

    def received(self, head: RequestHead, body: bytes, /) -> None:
        self.requests.append((head, body))


def read(*pieces: bytes, limits: Limits | None = None) -> RecordingOwner:
    """The owner after these reads."""
    owner = RecordingOwner()
    reader = RequestParser(owner, limits or Limits())
    for piece in pieces:
        reader.feed(piece)
    return owner


def plain(owner: RecordingOwner) -> list[tuple[bytes, bytes, bool, bool, bytes, dict[bytes, bytes], bytes]]:
    """The requests without what does not matter: how the kept headers are cut into parts, and the length with which a
    cached head was learned."""
    return [
        (head.method, head.target, head.http11, head.keep_alive, b"".join(head.kept), _header_map(head), body)
        for head, body in owner.requests
    ]


def _header_map(head: RequestHead) -> dict[bytes, bytes]:
    return {name: value for name, value in head.header_map.items() if name != b"content-length"}


TOKEN = st.text("abcdefgxyz-", min_size=1, max_size=8).map(str.encode)

ODD = st.sampled_from([b"upgrade: h2c\r\nconnection: Upgrade", b"x-turnout-pool: p", b"x-length: 7"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One valid request after which the connection stays open."""
    body = draw(st.binary(max_size=60))
    names = draw(st.lists(TOKEN, max_size=4))
    lines = [b"x-" + name + b": " + draw(TOKEN) for name in names]
    if draw(st.booleans()):
        lines.append(
            draw(st.sampled_from([b"upgrade: h2c\r\nconnection: Upgrade", b"x-turnout-pool: p", b"x-length: 7"]))
        )
    framing = draw(st.sampled_from(["none", "length", "Length", "chunked"]))
    if framing == "chunked":
        at = draw(st.integers(0, len(body)))
        lines.append(b"transfer-encoding: chunked")
        parts = [part for part in (body[:at], body[at:]) if part]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif framing == "none":
        body = b""
    else:
        name = b"content-length" if framing == "length" else b"Content-Length"
        lines.insert(draw(st.integers(0, len(lines))), b"%b: %d" % (name, len(body)))
    head = draw(st.sampled_from([b"POST /v1/a HTTP/1.1", b"GET /v1/b?c=d HTTP/1.1"]))
    return b"\r\n".join([head, b"host: h", *lines, b"", b""]) + body


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=10))
def test_pipelined_requests_are_the_same_whatever_their_pieces(sent: list[bytes], places: list[int]) -> None:
    wire = b"".join(sent)
    at = [0, *sorted(place % (len(wire) + 1) for place in places), len(wire)]
    alone = [plain(read(request))[0] for request in sent]
    assert plain(read(*[wire[a:b] for a, b in pairwise(at) if a < b])) == alone
    assert plain(read(*[wire[at : at + 1] for at in range(len(wire))])) == alone
    assert plain(read(wire)) == alone


@pytest.mark.parametrize("unlike", [False, True])
def test_many_requests_in_one_read_are_the_same_as_one_by_one(unlike: bool) -> None:
    """Case E 21. Behind the first one they are parsed in parts, whose ends lie anywhere in a head or a body."""
    line, length = b"POST /v1/x%d HTTP/1.1\r\nhost: g\r\n", b"content-length: %d\r\n\r\n"
    sizes = [50_000 if at == 1000 else at % 97 for at in range(2000)]
    sent = [line % (at if unlike else 0) + length % size + b"x" * size for at, size in enumerate(sizes)]
    sent.insert(1500, line % 0 + b"transfer-encoding: chunked\r\n\r\n9c40\r\n" + b"z" * 40_000 + b"\r\n0\r\n\r\n")
    assert len(b"".join(sent)) > 8 * PART
    assert plain(read(b"".join(sent))) == plain(read(*sent))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read(data, limits=Limits(max_header_bytes=100, max_body_bytes=50))
    except GatewayError as error:
        assert error.shape.status in (400, 413, 431, 505)


@given(requests(), st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_request_is_read_or_refused(request: bytes, place: int, byte: int) -> None:
    at = place % len(request)
    try:
        read(request[:at] + bytes([byte]) + request[at + 1 :])
    except GatewayError as error:
        assert error.shape.status in (400, 413, 431, 505)


def test_the_same_head_twice_is_read_the_same() -> None:
    request = b"POST /twice HTTP/1.1\r\nhost: h\r\nconnection: x-a\r\nx-a: 1\r\nx-b: 2\r\nContent-Length: %d\r\n\r\n%b"
    first, second, third = plain(read(*[request % (len(body), body) for body in (b"one", b"three", b"")]))
    assert first[:6] == second[:6] == third[:6]
    assert [first[6], second[6], third[6]] == [b"one", b"three", b""]
    assert b"x-a" not in second[4]
    assert b"x-b: 2" in second[4]


def test_a_head_that_differs_in_anything_but_its_length_is_read_anew() -> None:
    def ask(line: bytes) -> bytes:
        return b"POST /v1 HTTP/1.1\r\nhost: h\r\n" + line + b"\r\ncontent-length: 2\r\n\r\nab"

    pools = [
        read(ask(b"x-turnout-pool: " + name)).requests[0][0].header_map[b"x-turnout-pool"]
        for name in (b"a", b"b", b"a")
    ]
    assert pools == [b"a", b"b", b"a"]
    assert [head.keep_alive for head, _ in read(ask(b"connection: keep-alive")).requests] == [True]
    assert [head.keep_alive for head, _ in read(ask(b"connection: close")).requests] == [False]


def test_the_body_limit_holds_behind_a_known_head() -> None:
    head = b"POST /limit HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
    read(head % 2 + b"ab")
    with pytest.raises(BodyTooLarge):
        read(head % 2 + b"ab", head % 11, limits=Limits(max_body_bytes=10))


@each_case("value", [b"2, 2", b"+2", b"-2", b"0x2", b"2_0", b"2 2", b"", b"1e2", b"\xb2"])
def test_a_known_head_with_a_malformed_length_is_refused(value: bytes) -> None:
    head = b"POST /odd HTTP/1.1\r\nhost: h\r\ncontent-length: %b\r\n\r\n"
    read(head % b"2" + b"ab")
    with pytest.raises(BadFraming):
        read(head % value + b"ab")


def test_a_second_length_behind_a_known_head_is_refused() -> None:
    head = b"POST /dup HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nx-a: 1\r\n%b\r\nab"
    read(head % b"")
    for second in (b"content-length: 2\r\n", b"Content-Length: 3\r\n", b"transfer-encoding: chunked\r\n"):
        with pytest.raises(BadFraming):
            read(head % second)


def test_each_stage_is_reported_to_the_owner() -> None:
    owner = RecordingOwner()
    reader = RequestParser(owner, Limits())
    stages = [reader.stage]
    for piece in (
        b"POST / HTTP/1.1\r\nhost: h\r\n",
        b"expect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        b"ab",
        b"cd",
    ):
        reader.feed(piece)
        stages.append(reader.stage)
    assert stages == [IDLE, HEAD, BODY, BODY, IDLE]
    assert owner.calls == ["head", "continue", "2"]
    assert owner.requests[0][1] == b"abcd"


def test_the_stages_behind_a_known_head_are_reported_too() -> None:
    head = b"POST /reported HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n"
    read(head + b"abcd")
    owner = read(head, b"ab", b"cd")
    assert owner.calls[-2:] == ["0", "2"] or owner.calls[-1] in ("2", "4")
    assert "body" in owner.calls
    assert owner.requests[0][1] == b"abcd"


def test_the_head_of_an_http_1_0_request_is_marked() -> None:
    ((head, _),) = read(b"GET / HTTP/1.0\r\n\r\n").requests
    assert (head.http11, head.keep_alive) == (False, False)
    ((head, _),) = read(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").requests
    assert (head.http11, head.keep_alive) == (False, True)


def test_an_http_1_0_request_that_offers_an_upgrade_stays_http_1_0() -> None:
    ((head, _),) = read(b"GET / HTTP/1.0\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n").requests
    assert not head.http11
    assert not head.keep_alive


@pytest.mark.parametrize("pieces", [[b"GET /" + b"a" * 300], [b"GET / HTTP/1.1\r\n", *[b"x: yyyy\r\n"] * 40]])
def test_a_head_over_the_limit_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(HeadersTooLarge):
        read(*pieces, limits=Limits(max_header_bytes=200))


def test_a_bad_body_behind_an_upgrade_offer_is_the_clients_error() -> None:
    offer = b"POST /v1/a HTTP/1.1\r\nhost: h\r\nupgrade: h2c\r\nconnection: Upgrade\r\n"
    with pytest.raises(BadFraming, match="chunked"):
        read(offer + b"transfer-encoding:!chunked\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_torn_head_that_was_seen_before_is_known(size: int) -> None:
    wire = b"POST /torn HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab"
    ((first, _),) = read(wire).requests
    ((second, body),) = read(*[wire[at : at + size] for at in range(0, len(wire), size)]).requests
    ((third, _),) = read(wire).requests
    assert body == b"ab"
    assert second is third
    assert second[:3] == first[:3]


@pytest.mark.parametrize("pieces", [[b"\r\n\r\n%b"], [b"\r", b"\n%b"], [b"\r\n", b"\r", b"\n", b"%b"]])
def test_blank_lines_before_a_request_are_skipped(pieces: list[bytes]) -> None:
    get = b"GET /v1/a HTTP/1.1\r\nhost: h\r\n\r\n"
    owner = read(*[piece.replace(b"%b", get) for piece in pieces])
    assert [head.target for head, _ in owner.requests] == [b"/v1/a"]


def test_blank_lines_behind_a_request_leave_the_connection_idle() -> None:
    owner = RecordingOwner()
    reader = RequestParser(owner, Limits())
    reader.feed(b"GET /v1/a HTTP/1.1\r\nhost: h\r\n\r\n\r\n")
    assert (reader.stage, owner.calls) == (IDLE, [])


@pytest.mark.parametrize("pieces", [[b"\r\n" * 200], [b"\r\n"] * 200])
def test_blank_lines_without_end_are_refused(pieces: list[bytes]) -> None:
    with pytest.raises(HeadersTooLarge):
        read(*pieces, limits=Limits(max_header_bytes=200))


@each_case(
    "beginning",
    [
        *(b"SSH-2.0-x\r\n", b"GET /v1 HTTP/1.1 \r\n", b"\n", b"\r\n\nG"),
        *(b"\x16\x03\x01", b"hello", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nx: a\n", b"GET / HTTP/1.1\rx: a\n"),
    ],
)
def test_what_cannot_become_a_request_is_refused_before_its_head_is_whole(beginning: bytes) -> None:
    with pytest.raises(BadFraming):
        read(beginning)
    with pytest.raises(BadFraming):
        read(*[bytes([byte]) for byte in beginning])


@pytest.mark.parametrize("size", [7, 4096, 1 << 20])
def test_a_head_with_too_many_headers_is_refused_at_once(size: int) -> None:
    """Case E 22."""
    head = b"GET / HTTP/1.1\r\nhost: h\r\n" + b"x: y\r\n" * 98
    assert len(read(head + b"x: y\r\n\r\n").requests) == 1
    wire = head + b"x: y\r\n" * 2 + b"\r\n"
    with pytest.raises(HeadersTooLarge, match="100 headers"):
        read(*[wire[at : at + size] for at in range(0, len(wire), size)])
    with pytest.raises(HeadersTooLarge, match="16 headers"):
        read(b"GET / HTTP/1.1\r\nhost: h\r\n" + b"x: y\r\n" * 16, limits=Limits(max_headers=16))


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_a_chunked_body_is_read_strictly_in_any_pieces(size: int) -> None:
    head = b"POST /chunks HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"

    def body(wire: bytes) -> bytes:
        whole = head + wire + b"GET /next HTTP/1.1\r\nhost: h\r\n\r\n"
        (_, found), (following, _) = read(*[whole[at : at + size] for at in range(0, len(whole), size)]).requests
        assert following.target == b"/next"
        return found

    assert body(b"0\r\n\r\n") == b""
    assert body(b'1\r\na\r\n00F;x="y"\r\n' + b"b" * 15 + b"\r\n000\r\nx-t: 1\r\n\r\n") == b"a" + b"b" * 15
    for bad in (
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"1;\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\nhost: x\r\n\r\n",
    ):
        with pytest.raises(BadFraming, match="chunk framing"):
            body(bad)


@pytest.mark.parametrize("wire", [b"b\r\n" + b"a" * 11, b"fffffffffff\r\n", b"6\r\naaaaaa\r\n" * 2])
def test_a_chunked_body_over_the_limit_is_refused_at_the_size_that_exceeds_it(wire: bytes) -> None:
    head = b"POST /chunks HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    read(head + b"a\r\n" + b"a" * 10 + b"\r\n0\r\n\r\n", limits=Limits(max_body_bytes=10))
    with pytest.raises(BodyTooLarge):
        read(head + wire, limits=Limits(max_body_bytes=10))
