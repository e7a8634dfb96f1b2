"""Offers of a WebSocket, the answer that accepts one, and where frames end. Case C 10."""

from __future__ import annotations

import pytest

from router.dataplane.http.websocket import FrameScanner, accepted, close_frame, is_close, is_offer
from tests.fakes.each_case import each_case

OFFER = {b"upgrade": b"websocket", b"connection": b"Upgrade", b"sec-websocket-key": b"k"}


def frame(payload: bytes, *, opcode: int = 1, mask: bool = False, final: bool = True) -> bytes:
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        length = bytes([bit | size])
    else:
        length = bytes([bit | 126]) + size.to_bytes(2) if size < 65536 else bytes([bit | 127]) + size.to_bytes(8)
    return bytes([(0x80 if final else 0) | opcode]) + length + (b"mask" if mask else b"") + payload


@pytest.mark.parametrize(
    ("method", "changed", "is_one"),
    [
        (b"GET", {}, True),
        (b"GET", {b"upgrade": b"WebSocket", b"connection": b"keep-alive, upgrade"}, True),
        (b"POST", {}, False),
        (b"GET", {b"upgrade": b"h2c"}, False),
        (b"GET", {b"connection": b"keep-alive"}, False),
    ],
)
def test_an_offer_is_a_get_with_all_of_its_headers(method: bytes, changed: dict[bytes, bytes], is_one: bool) -> None:
    assert is_offer(method, OFFER | changed) is is_one
    assert not is_offer(method, {name: value for name, value in OFFER.items() if name != b"sec-websocket-key"})


def test_the_lines_of_an_acceptance_are_passed_on_without_those_of_the_hop() -> None:
    head = (
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a=\r\n"
        b"Sec-WebSocket-Protocol: realtime\r\nX-Turnout-Pod: spoofed\r\nContent-Length: 0\r\nServer: uvicorn\r\n\r\n"
    )
    lines = [b"sec-websocket-accept: a=\r\n", b"sec-websocket-protocol: realtime\r\n", b"server: uvicorn\r\n"]
    assert accepted(head) == lines


@pytest.mark.parametrize("line", [b"no colon", b"a b: c", b" folded: x", b"a: \x00", b"a: b\nc: d"])
def test_a_line_that_is_no_header_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a header"):
        accepted(b"HTTP/1.1 101 Switching\r\n" + line + b"\r\n\r\n")


@each_case("size", [0, 1, 125, 126, 65535, 65536])
@each_case("mask", [False, True])
@each_case("step", [1, 3, 1 << 20])
def test_the_end_of_a_frame_is_found_in_whatever_pieces_it_comes(size: int, mask: bool, step: int) -> None:
    scanner = FrameScanner()
    data = frame(bytes(size), mask=mask)
    assert scanner.between
    for at in range(0, len(data), step):
        scanner.feed(data[at : at + step])
        assert scanner.between is (at + step >= len(data))
    scanner.feed(frame(b"more", final=False) + frame(b"x", opcode=9))
    assert scanner.between and not scanner.closed


def test_nothing_follows_a_close_frame() -> None:
    scanner = FrameScanner()
    scanner.feed(frame(b"x") + close_frame(1000, "bye"))
    assert scanner.closed and not scanner.between


@each_case(
    ("data", "is_one"),
    [
        (frame(b"", opcode=8, mask=True), True),
        (frame(b"\x03\xe8bye", opcode=8, mask=True), True),
        (frame(b"\x03\xe8bye", opcode=8, mask=True)[:-1], False),
        (frame(b"hello", mask=True), False),
        (b"", False),
        (b"\x88", False),
    ],
)
def test_a_close_frame_of_a_client_is_known_by_itself(data: bytes, is_one: bool) -> None:
    assert is_close(data) is is_one


def test_a_close_frame_has_a_code_and_a_short_reason() -> None:
    assert close_frame(1001, "bye") == b"\x88\x05\x03\xe9bye"
    assert len(close_frame(1001, "x" * 500)) == 127
