"""The proxy passes on bytes and ends of its peers, and stops whatever they do."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from loadtests.processes.slow_link import SlowLink, slow_link
from loadtests.sim.ports import HOST, free_ports
from tests.fakes.waiting import DEADLINE_S, wait_for


class Ends(NamedTuple):
    """The two ends of a connection through a proxy: the client's socket and the server's."""

    link: SlowLink
    client: socket.socket
    server: socket.socket


@contextmanager
def connected() -> Iterator[Ends]:
    with socket.create_server((HOST, 0)) as listening, slow_link(listening.getsockname()[1]) as link:
        listening.settimeout(DEADLINE_S)
        with socket.create_connection((HOST, link.port), DEADLINE_S) as client, listening.accept()[0] as server:
            server.settimeout(DEADLINE_S)
            yield Ends(link, client, server)


def reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def all_of(end: socket.socket) -> bytes:
    """All bytes until the end."""
    return b"".join(iter(lambda: end.recv(65536), b""))


def test_a_half_close_is_passed_on_and_the_answer_still_arrives() -> None:
    with connected() as ends:
        ends.link.delay_s = 0.05
        ends.client.sendall(b"question")
        ends.client.shutdown(socket.SHUT_WR)
        assert all_of(ends.server) == b"question"
        ends.server.sendall(b"answer")
        ends.server.close()
        assert all_of(ends.client) == b"answer"
        wait_for("both sides are closed", lambda: not ends.link.open)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_of_either_ends_the_other(who: str) -> None:
    with connected() as ends:
        reset(ends.client if who == "client" else ends.server)
        with pytest.raises(ConnectionResetError):
            (ends.server if who == "client" else ends.client).recv(1)
        wait_for("both sides are closed", lambda: not ends.link.open)


def test_a_client_that_half_closed_and_then_resets_ends_the_server_s_side() -> None:
    with connected() as ends:
        ends.client.shutdown(socket.SHUT_WR)
        assert ends.server.recv(1) == b""
        reset(ends.client)
        ends.server.sendall(b"x")  # only a write detects the reset
        wait_for("both sides are closed", lambda: not ends.link.open)


def test_the_client_is_disconnected_when_no_server_listens() -> None:
    (unused,) = free_ports(1)
    with slow_link(unused) as link, pytest.raises(ConnectionResetError):
        # The proxy may reset the client while it still connects.
        with socket.create_connection((HOST, link.port), DEADLINE_S) as client:
            client.recv(1)


def test_bytes_keep_their_order_when_the_delay_is_lowered() -> None:
    with connected() as ends:
        sent = b"".join(b"%d," % at for at in range(200))
        for at in range(200):
            ends.link.delay_s = 0.02 if at % 3 else 0.0
            ends.server.sendall(b"%d," % at)
        ends.server.close()
        assert all_of(ends.client) == sent
        assert ends.link.held > 0


def test_it_stops_while_peers_stay_connected_and_read_nothing() -> None:
    with connected() as ends:
        ends.link.delay_s = 3600.0
        ends.server.sendall(bytes(1 << 20))
        ends.client.sendall(bytes(1 << 16))
    assert not ends.link.open


def test_parted_sides_get_nothing_until_the_link_is_whole_again() -> None:
    with connected() as ends:
        ends.link.part()
        wait_for("it is parted", lambda: ends.link.parted)
        ends.client.sendall(b"question")
        ends.server.sendall(b"answer")
        for side in (ends.client, ends.server):
            side.settimeout(0.05)
            with pytest.raises(TimeoutError):
                side.recv(1)
            side.settimeout(DEADLINE_S)
        ends.link.heal()
        assert ends.server.recv(64) == b"question"
        assert ends.client.recv(64) == b"answer"


def test_the_end_of_a_parted_side_is_known_to_the_other_when_the_link_is_whole_again() -> None:
    with connected() as ends:
        ends.link.part()
        wait_for("it is parted", lambda: ends.link.parted)
        reset(ends.client)
        wait_for("the proxy has lost the client", lambda: len(ends.link.open) == 1)
        ends.link.heal()
        with pytest.raises(ConnectionResetError):
            ends.server.recv(1)


def test_all_connections_can_be_reset_at_once() -> None:
    with connected() as ends:
        ends.link.reset_all()
        for side in (ends.client, ends.server):
            with pytest.raises(ConnectionResetError):
                side.recv(1)


def test_a_link_that_refuses_resets_its_connections_and_later_accepts_on_the_same_port() -> None:
    with socket.create_server((HOST, 0)) as listening:
        link = SlowLink(listening.getsockname()[1], HOST, free_ports(1)[0])
        link.start()
        try:
            with socket.create_connection((HOST, link.port)) as before, listening.accept()[0]:
                link.refuse()
                with pytest.raises(ConnectionResetError):
                    before.recv(1)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((HOST, link.port))
            link.accept()
            with socket.create_connection((HOST, link.port)), listening.accept()[0]:
                pass
        finally:
            link.stop()


def test_a_server_s_address_can_be_replaced_by_a_link_s() -> None:
    with connected() as ends:
        ends.link.replaced = {b":20001": b":20002"}
        for side in (ends.client, ends.server):
            side.sendall(b"host:20001")
            side.shutdown(socket.SHUT_WR)
        assert all_of(ends.client) == b"host:20002"
        assert all_of(ends.server) == b"host:20001"
