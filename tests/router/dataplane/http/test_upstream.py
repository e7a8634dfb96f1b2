"""Connections to pods: which one a request gets, and when idle ones are closed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import pytest

from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream import DISCARD
from router.errors import ConnectFailed, ConnectTimeout, TlsFailed
from router.settings import Timeouts
from tests.fakes.memory_client_and_pods import ok
from tests.fakes.memory_upstream import POD, Attempt, Ground


def test_a_connection_is_made_when_none_is_idle() -> None:
    with Ground() as harness:
        attempt = harness.send()
        assert harness.net.dialled == [POD]
        harness.pod.sends(ok(b"abc"))
        assert (attempt.body, attempt.ended, attempt.failures) == (b"abc", 1, [])


def test_the_connection_that_was_used_last_is_used_first() -> None:
    with Ground() as harness:
        harness.send()
        harness.send()
        first, second = harness.net.made
        first.sends(ok())
        second.sends(ok())
        attempt = harness.send()
        assert len(harness.net.made) == 2
        assert attempt.connection is cast(object, second.transport.get_protocol())


def test_pods_do_not_share_connections() -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok())
        harness.send("10.0.0.2:8000")
        assert harness.net.dialled == [POD, "10.0.0.2:8000"]


def test_a_fresh_connection_is_made_when_asked_for() -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok())
        harness.send(fresh=True)
        assert len(harness.net.made) == 2


def test_an_idle_connection_is_closed_before_the_pod_would_close_it() -> None:
    with Ground() as harness:
        harness.send(timeouts=Timeouts(upstream_keepalive_s=4))
        harness.pod.sends(ok())
        harness.passes(3.9)
        assert harness.pod.fate == ""
        harness.passes(0.2)
        assert harness.pod.fate == "aborted"
        assert (harness.upstream.idle, harness.upstream.open, harness.deadlines.members) == ({}, 0, set())


def test_an_expired_idle_connection_is_not_used_before_the_next_pass_either() -> None:
    with Ground() as harness:
        harness.send(timeouts=Timeouts(upstream_keepalive_s=4))
        harness.pod.sends(ok())
        harness.wire.clock.now += 4.1
        harness.send()
        assert [end.fate for end in harness.net.made] == ["aborted", ""]


@pytest.mark.parametrize("how", ["closes", "dies"])
def test_an_idle_connection_that_the_pod_closes_is_removed(how: str) -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok())
        getattr(harness.pod, how)()
        assert (harness.upstream.idle, harness.upstream.open) == ({}, 0)
        attempt = harness.send()
        harness.pod.sends(ok())
        assert attempt.ended == 1


def test_an_idle_connection_on_which_the_pod_sends_bytes_is_closed() -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok())
        harness.pod.sends(ok(b"unasked"))
        assert harness.pod.fate == "aborted"
        assert harness.upstream.idle == {}


def test_the_idle_connections_of_one_pod_can_be_dropped() -> None:
    with Ground() as harness:
        for address in (POD, POD, "10.0.0.2:8000"):
            harness.send(address)
        for end in harness.net.made:
            end.sends(ok())
        harness.wire.do(lambda: harness.upstream.drop_idle(POD))
        assert [end.fate for end in harness.net.made] == ["aborted", "aborted", ""]
        assert list(harness.upstream.idle) == ["10.0.0.2:8000"]
        harness.wire.do(harness.upstream.close)
        assert (harness.upstream.idle, harness.upstream.open) == ({}, 0)


def test_a_refused_connection_is_reported_with_its_reason() -> None:
    with Ground() as harness:
        harness.net.trouble[POD] = ConnectionRefusedError(111, "Connection refused")
        (failure,) = harness.send().failures
        assert isinstance(failure, ConnectFailed)
        assert (failure.message, failure.retry_after_s) == (f"Pod {POD} cannot be reached: Connection refused.", 1.0)


@pytest.mark.parametrize("error", [UnicodeError("label empty or too long"), ValueError("pod 'x': no port")])
def test_an_address_that_cannot_be_one_is_reported(error: Exception) -> None:
    with Ground() as harness:
        harness.net.trouble[POD] = error
        (failure,) = harness.send().failures
        assert isinstance(failure, ConnectFailed)
        assert harness.wire.crashes == []


def test_a_connection_that_takes_too_long_is_reported() -> None:
    with Ground() as harness:
        harness.net.silent.add(POD)
        attempt = harness.send(timeouts=Timeouts(connect_s=2))
        harness.passes(1.9)
        assert attempt.failures == []
        harness.passes(0.2)
        assert isinstance(attempt.failures[0], ConnectTimeout)


def test_the_discarding_receiver_takes_every_call() -> None:
    assert DISCARD.head(ResponseHead(200, 0, True, False, []), 0, 0) is False
    DISCARD.data(b"x", 0, 0.0)
    DISCARD.end()
    DISCARD.failed(ConnectFailed("x"))


def test_a_failed_handshake_says_why_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with Ground() as harness:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message, error.verify_code = "certificate has expired", 10
        harness.net.trouble["https://10.0.0.1:8000"] = error
        attempts = [harness.send("https://10.0.0.1:8000") for _ in range(3)]
    for attempt in attempts:
        (failure,) = attempt.failures
        assert isinstance(failure, TlsFailed)
        assert "its certificate is refused: certificate has expired" in failure.message
        assert (failure.shape.status, failure.shape.code) == (502, "pod_failed")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == ("pod https://10.0.0.1:8000: no TLS connection: its certificate is refused: certificate has expired")


def test_a_connection_is_made_for_the_pod_s_pool() -> None:
    with Ground() as harness:
        pools: list[str] = []
        dial = harness.upstream._dial

        async def noting(make: Callable[[], asyncio.Protocol], address: str, pool: str) -> None:
            pools.append(pool)
            await dial(make, address, pool)

        harness.upstream._dial = noting
        harness.wire.do(
            lambda: harness.upstream.send("a:1", [b"x"], Attempt(), Timeouts(), head_only=False, pool="main")
        )
        assert pools == ["main"]
