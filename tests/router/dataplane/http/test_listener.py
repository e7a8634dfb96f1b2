"""The listening socket and the open connections; over real sockets where the socket is what is tested."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import cast

import pytest

from loadtests.sim.ports import free_ports
from router.address import ListenAddress, bind
from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge
from router.dataplane.http.listener import Listener, client_of
from router.ports.acceptor import PortOptions
from router.settings import Limits, Timeouts
from tests.fakes.bare_exchange import NoGateway
from tests.fakes.memory_client_and_pods import ok, post
from tests.fakes.memory_gateway import Rig
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import until


def listener(limits: Limits | None = None) -> Listener[Exchange]:
    return Listener(NoGateway(), Deadlines(Clock(), 0.1), limits or Limits(), Timeouts(), lambda error: ())


async def until_connected(to: Listener[Exchange], count: int) -> None:
    await until(lambda: len(to.edges) == count)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_clients_connect_to_the_returned_port(host: str) -> None:
    async def run() -> None:
        here = listener()
        port = await here.start(host, 0)
        _, writer = await asyncio.open_connection(host or "127.0.0.1", port)
        await until_connected(here, 1)
        assert set(here.deadlines.members) == set(here.edges)
        writer.close()
        await until_connected(here, 0)
        assert here.deadlines.members == set()
        here.stop()

    asyncio.run(run())


def test_every_address_of_ipv6_takes_clients_of_ipv4() -> None:
    """Case D 20."""

    async def run() -> None:
        here = listener()
        port = await here.start("::", 0)
        writers = [(await asyncio.open_connection(host, port))[1] for host in ("127.0.0.1", "::1")]
        await until_connected(here, 2)
        for writer in writers:
            writer.close()
        here.stop()

    asyncio.run(run())


def test_a_port_in_use_raises() -> None:
    async def run() -> None:
        first, second = listener(), listener()
        port = await first.start("127.0.0.1", 0)
        with pytest.raises(OSError, match="address already in use"):
            await second.start("127.0.0.1", port)
        first.stop()

    asyncio.run(run())


def test_a_listener_on_a_lent_socket_stops_accepting_and_keeps_open_connections() -> None:
    async def run() -> None:
        here = listener()
        lent = bind(ListenAddress("127.0.0.1", 0))
        port = await here.start("127.0.0.1", 0, lent.dup())
        assert port == lent.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until_connected(here, 1)
        here.stop_accepting()
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(lent), 60)
            accepted.close()
        assert len(here.edges) == 1
        here.stop()
        assert await reader.read() == b""
        writer.close()
        lent.close()

    asyncio.run(run())


def test_a_stopped_listener_accepts_no_client_and_closes_idle_connections() -> None:
    async def run() -> None:
        here = listener()
        port = await here.start("127.0.0.1", free_ports(1)[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until_connected(here, 1)
        here.stop()
        here.stop()
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await until_connected(here, 0)
        writer.close()

    asyncio.run(run())


def test_aborting_closes_every_connection() -> None:
    async def run() -> None:
        here = listener()
        port = await here.start("127.0.0.1", 0)
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await until_connected(here, 3)
        here.stop()
        here.abort()
        await until_connected(here, 0)
        for _, writer in pairs:
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2%eth0", "2001:db8::/64"),
    ],
)
def test_connections_are_counted_by_address(peer: str, client: str) -> None:
    assert client_of(peer) == client


def test_one_client_may_have_a_number_of_connections() -> None:
    """Case E 22."""
    with Rig(limits=Limits(max_connections_per_client=2)) as rig:
        first, second, third = [rig.client() for _ in range(3)]
        assert json.loads(third.answer().body)["error"]["message"].startswith("This client has 2 connections")
        assert (third.answer().status, third.fate) == (503, "closed")
        third.leaves()
        second.leaves()
        fourth = rig.client()
        for client in (first, fourth):
            client.sends(post())
            rig.asked().sends(ok())
            assert client.answer().status == 200


def test_far_too_many_connections_are_closed_without_an_answer() -> None:
    """Case E 22: an answer takes a descriptor until it is read."""
    with Rig(limits=Limits(max_connections=1)) as rig:
        clients = [rig.client() for _ in range(80)]
        assert [client.transport.lost for client in clients] == [False] * 65 + [True] * 15
        assert len(rig.listener.edges) == 65


def proxied(limits: Limits | None = None) -> Listener[Exchange]:
    """A listener whose every client comes through a proxy."""
    port = PortOptions(None, lambda peer: True)
    return Listener(NoGateway(), Deadlines(Clock(), 0.1), limits or Limits(), Timeouts(), lambda error: (), port=port)


def header(client: str) -> bytes:
    return f"PROXY TCP4 {client} 127.0.0.1 1 2\r\n".encode()


def test_behind_a_proxy_connections_count_for_the_client_that_it_names() -> None:
    async def run() -> None:
        here = proxied(Limits(max_connections_per_client=1))
        port = await here.start("127.0.0.1", 0)
        pairs = []
        for at, client in enumerate(["203.0.113.1", "203.0.113.2", "203.0.113.1"]):
            pairs.append(await asyncio.open_connection("127.0.0.1", port))
            pairs[-1][1].write(header(client))
            await until_connected(here, at + 1)
        assert sorted(edge.peer for edge in here.edges) == ["203.0.113.1", "203.0.113.1", "203.0.113.2"]
        assert (await pairs[2][0].readline()).startswith(b"HTTP/1.1 503 ")
        for _, writer in pairs:
            writer.close()
        await until_connected(here, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(header("203.0.113.1") + b"no request\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        here.stop()

    asyncio.run(run())


def test_connections_without_a_header_count_as_connections_and_end_with_the_listener() -> None:
    async def run() -> None:
        here = proxied(Limits(max_connections=1))
        port = await here.start("127.0.0.1", 0)
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(33)]
        await until(lambda: len(here.new()) == 33)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""  # each has two descriptors, and 64 refusals are answered
        writer.close()
        here.stop(spare_new=True)
        assert len(here.new()) == 33
        here.stop()
        assert here.new() == []
        for reader, writer in pairs:
            assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_whoever_is_in_a_handshake_is_retired_with_the_open_connections() -> None:
    """Their certificate was looked at by the rules of before."""
    here, last = proxied(), NoGateway()
    edge = cast("Edge[Exchange]", here.protocol("203.0.113.1"))
    here.retire(last)
    assert edge.requests is last
    assert here.connect().requests is not last


def test_a_refused_connection_is_not_one_whose_first_request_is_still_to_come() -> None:
    """A replica that hands over would wait for it."""
    with Rig() as rig:
        rig.client()
        refused = rig.client().sends(b"\x16\x03\x01")
        assert not refused.transport.is_closing(), "it is read until it closes"
        assert len(rig.listener.edges) == 2
        assert len(rig.listener.new()) == 1
