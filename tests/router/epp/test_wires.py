"""Connections without sockets."""

from __future__ import annotations

import asyncio

import pytest

from router.epp.wires import MARK, EndWire, PodWires


class Kept(asyncio.Protocol):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen.append("lost")


def test_bytes_pass_both_ways_until_one_end_closes() -> None:
    protocol, taken = Kept(), list[bytes]()
    wire = EndWire(protocol, taken.append, "10.0.0.9")
    wire.deliver(b"in")
    wire.write(b"out")
    wire.writelines([b"a", b"b"])
    assert wire.get_extra_info("peername") == ("10.0.0.9", 0)
    wire.hang_up()
    wire.hang_up()
    wire.deliver(b"late")
    wire.write(b"late")
    assert (protocol.seen, taken, wire.is_closing()) == ([b"in", "lost"], [b"out", b"ab"], True)


def test_the_gateways_own_close_comes_in_another_turn() -> None:
    async def closes() -> None:
        protocol = Kept()
        wire = EndWire(protocol, lambda data: None)
        wire.abort()
        wire.close()
        assert protocol.seen == []
        await asyncio.sleep(0)
        assert protocol.seen == ["lost"]

    asyncio.run(closes())


def test_a_wire_says_whether_it_is_read() -> None:
    wire = EndWire(Kept(), lambda data: None)
    wire.pause_reading()
    assert not wire.is_reading()
    wire.resume_reading()
    assert wire.is_reading()
    assert not wire.can_write_eof()
    assert wire.get_write_buffer_size() == 0


def test_a_request_to_a_pod_goes_to_the_stream_that_it_came_from() -> None:
    picked: list[tuple[str, bytes]] = []
    wires = PodWires({3: lambda address, wire, data: picked.append((address, data))})
    request = b"GET / HTTP/1.1" + MARK + b"%d\r\n\r\n"
    wire = asyncio.run(wires.dial(Kept, "10.0.0.1:80", "main"))
    assert isinstance(wire, EndWire)
    wire.write(request % 3)
    wire.write(request % 4)
    assert picked == [("10.0.0.1:80", request % 3)], "stream 4 has ended"


@pytest.mark.parametrize("given", [b"4", b"p"])
def test_no_header_of_a_client_names_another_stream(given: bytes) -> None:
    picked: list[int] = []
    wires = PodWires({number: lambda *_, number=number: picked.append(number) for number in (3, 4)})
    wire = asyncio.run(wires.dial(Kept, "10.0.0.1:80", "main"))
    assert isinstance(wire, EndWire)
    wire.write(b"POST / HTTP/1.1" + MARK + given + MARK + b"3\r\n\r\nbody" + MARK + b"4\r\n")
    assert picked == [3]
