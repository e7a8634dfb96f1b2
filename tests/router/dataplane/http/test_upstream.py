"""Connections to pods: which one a request gets, and what becomes of the idle ones."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream import DISCARD, dial
from router.errors import ConnectFailed, ConnectTimeout
from router.settings import Timeouts
from tests.fakes.memory_client_and_pods import ok
from tests.fakes.memory_upstream import POD, Ground


def test_a_connection_is_made_when_none_is_idle() -> None:
    with Ground() as ground:
        attempt = ground.send()
        assert ground.net.dialled == [POD]
        ground.pod.sends(ok(b"abc"))
        assert (attempt.body, attempt.ended, attempt.failures) == (b"abc", 1, [])


def test_the_connection_that_was_used_last_is_used_first() -> None:
    with Ground() as ground:
        ground.send()
        ground.send()
        first, second = ground.net.made
        first.sends(ok())
        second.sends(ok())
        attempt = ground.send()
        assert len(ground.net.made) == 2
        assert attempt.connection is cast(object, second.transport.get_protocol())


def test_pods_do_not_share_connections() -> None:
    with Ground() as ground:
        ground.send()
        ground.pod.sends(ok())
        ground.send("10.0.0.2:8000")
        assert ground.net.dialled == [POD, "10.0.0.2:8000"]


def test_a_fresh_connection_is_made_when_asked_for() -> None:
    with Ground() as ground:
        ground.send()
        ground.pod.sends(ok())
        ground.send(fresh=True)
        assert len(ground.net.made) == 2


def test_an_idle_connection_is_closed_before_the_pod_would_close_it() -> None:
    with Ground() as ground:
        ground.send(timeouts=Timeouts(upstream_keepalive_s=4))
        ground.pod.sends(ok())
        ground.passes(3.9)
        assert ground.pod.fate == ""
        ground.passes(0.2)
        assert ground.pod.fate == "aborted"
        assert (ground.upstream.idle, ground.upstream.open, ground.deadlines.members) == ({}, 0, set())


def test_an_idle_connection_past_its_time_is_not_used_though_nobody_looked() -> None:
    with Ground() as ground:
        ground.send(timeouts=Timeouts(upstream_keepalive_s=4))
        ground.pod.sends(ok())
        ground.wire.clock.now += 4.1
        ground.send()
        assert [end.fate for end in ground.net.made] == ["aborted", ""]


@pytest.mark.parametrize("how", ["closes", "dies"])
def test_an_idle_connection_that_the_pod_ends_is_forgotten(how: str) -> None:
    with Ground() as ground:
        ground.send()
        ground.pod.sends(ok())
        getattr(ground.pod, how)()
        assert (ground.upstream.idle, ground.upstream.open) == ({}, 0)
        attempt = ground.send()
        ground.pod.sends(ok())
        assert attempt.ended == 1


def test_an_idle_connection_on_which_the_pod_speaks_is_closed() -> None:
    with Ground() as ground:
        ground.send()
        ground.pod.sends(ok())
        ground.pod.sends(ok(b"nobody asked"))
        assert ground.pod.fate == "aborted"
        assert ground.upstream.idle == {}


def test_the_idle_connections_of_one_pod_can_be_dropped() -> None:
    with Ground() as ground:
        for address in (POD, POD, "10.0.0.2:8000"):
            ground.send(address)
        for end in ground.net.made:
            end.sends(ok())
        ground.wire.do(lambda: ground.upstream.drop_idle(POD))
        assert [end.fate for end in ground.net.made] == ["aborted", "aborted", ""]
        assert list(ground.upstream.idle) == ["10.0.0.2:8000"]
        ground.wire.do(ground.upstream.close)
        assert (ground.upstream.idle, ground.upstream.open) == ({}, 0)


def test_a_refused_connection_is_reported_with_its_reason() -> None:
    with Ground() as ground:
        ground.net.trouble[POD] = ConnectionRefusedError(111, "Connection refused")
        (failure,) = ground.send().failures
        assert isinstance(failure, ConnectFailed)
        assert (failure.message, failure.retry_after_s) == (f"Pod {POD} cannot be reached: Connection refused.", 1.0)


@pytest.mark.parametrize("address", ["no-port", "pod:x", "", "a..b:80"])
def test_an_address_that_cannot_be_one_is_reported(address: str) -> None:
    with Ground() as ground:
        ground.net.trouble["a..b:80"] = UnicodeError("label empty or too long")
        (failure,) = ground.send(address).failures
        assert isinstance(failure, ConnectFailed)
        assert ground.wire.crashes == []


def test_a_connection_that_takes_too_long_is_reported() -> None:
    with Ground() as ground:
        ground.net.silent.add(POD)
        attempt = ground.send(timeouts=Timeouts(connect_s=2))
        ground.passes(1.9)
        assert attempt.failures == []
        ground.passes(0.2)
        assert isinstance(attempt.failures[0], ConnectTimeout)


def test_an_ipv6_address_loses_its_brackets() -> None:
    with Ground() as ground:
        ground.send("[::1]:8000")
        assert ground.net.dialled == ["::1:8000"]


def test_discarding_takes_anything() -> None:
    assert DISCARD.head(ResponseHead(200, 0, True, False, []), 0, 0) is False
    DISCARD.data(b"x", 0, 0.0)
    DISCARD.end()
    DISCARD.failed(ConnectFailed("x"))


def test_the_default_dial_opens_a_real_connection() -> None:
    class Accepted(asyncio.Protocol):
        def __init__(self) -> None:
            self.made = asyncio.Event()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.made.set()
            transport.close()

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        accepted = Accepted()
        await dial(lambda: accepted, "127.0.0.1", server.sockets[0].getsockname()[1])
        await accepted.made.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(run())
