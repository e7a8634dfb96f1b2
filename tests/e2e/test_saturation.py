"""A limit per pod, and the queue behind it: which requests wait, for how long, and which are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Wire, ask, chat, endless, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def narrow(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Two pods that take two requests each; two more may wait, for longer than any test."""
    with running(two_at_a_time(all_sims, 600.0), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def hasty(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same, with a short queue timeout."""
    with running(two_at_a_time(all_sims, 0.2), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def two_at_a_time(sims: SimPods, queue_timeout_s: float) -> dict[str, object]:
    pools = [pool("default", sims.urls[4:6], max_inflight_per_pod=2)]
    return config((), pools=pools, limits={"max_queue": 2, "queue_timeout_s": queue_timeout_s})


@contextmanager
def both_full(gateway: GatewayProcess) -> Iterator[list[Wire]]:
    """Four streams, so that both pods are at their limit."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire("127.0.0.1", gateway.port)) for _ in range(4)]
        for wire in wires:
            wire.send(post(endless()))
            assert wire.some().startswith(b"HTTP/1.1 200")
        yield wires
    gateway.settle()


@pytest.fixture
def full(narrow: GatewayProcess, sims: SimPods) -> Iterator[list[Wire]]:
    """The four streams."""
    with both_full(narrow) as wires:
        yield wires


@pytest.fixture
def wire(narrow: GatewayProcess) -> Iterator[Wire]:
    """One more client."""
    with Wire("127.0.0.1", narrow.port) as wire:
        yield wire


def until_waiting(gateway: GatewayProcess, count: int) -> None:
    """Wait until `count` requests are queued in the gateway."""
    wait_for(f"{count} wait", lambda: gateway.metric("turnout_waiting_requests") == count)


def test_a_request_waits_while_all_pods_are_full(narrow: GatewayProcess, full: list[Wire], wire: Wire) -> None:
    assert [pod["inflight"] for pod in narrow.pods()] == [2, 2]
    wire.send(post(chat()))
    until_waiting(narrow, 1)
    assert not wire.readable(0.0)
    full[0].close()
    assert wire.answer().status == 200


def test_a_request_that_waits_too_long_gets_retry_after(hasty: GatewayProcess) -> None:
    with both_full(hasty), Wire("127.0.0.1", hasty.port) as wire:
        answer = ask(wire, post(chat()))
    assert (answer.status, answer.error["code"]) == (429, "pool_saturated")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_deadline_ends_the_wait(full: list[Wire], wire: Wire) -> None:
    answer = ask(wire, post(chat(), "x-turnout-deadline-ms: 100"))
    assert (answer.status, answer.error["code"]) == (504, "deadline_exceeded")


def test_a_full_queue_refuses_at_once(narrow: GatewayProcess, full: list[Wire], wire: Wire) -> None:
    with Wire("127.0.0.1", narrow.port) as one, Wire("127.0.0.1", narrow.port) as two:
        for each in (one, two):
            each.send(post(chat()))
        until_waiting(narrow, 2)
        answer = ask(wire, post(chat()))
        assert (answer.status, answer.error["code"]) == (429, "pool_saturated")
        assert "already wait" in answer.error["message"]
        full[0].close()
        assert [each.answer().status for each in (one, two)] == [200, 200]


def test_a_higher_priority_is_served_first(narrow: GatewayProcess, full: list[Wire], wire: Wire) -> None:
    with Wire("127.0.0.1", narrow.port) as low:
        low.send(post(endless("low"), "x-turnout-priority: -1"))
        until_waiting(narrow, 1)
        wire.send(post(endless("high"), "x-turnout-priority: 5"))
        until_waiting(narrow, 2)
        full[0].close()
        assert wire.some().startswith(b"HTTP/1.1 200")
        assert not low.readable(0.0)


def test_a_client_that_leaves_the_queue_frees_its_place(narrow: GatewayProcess, full: list[Wire], wire: Wire) -> None:
    for _ in range(5):
        with Wire("127.0.0.1", narrow.port) as leaving:
            leaving.send(post(chat()))
            until_waiting(narrow, 1)
        until_waiting(narrow, 0)
    full[0].close()
    assert ask(wire, post(chat())).status == 200
