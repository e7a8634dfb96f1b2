"""Clients that are slow or leave, over raw sockets: each is answered in time, nothing hangs, others are still served.

The timeouts are so short that on a busy machine a good client may exceed them too; it then sends its request again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.raw_http_client import Answer, Closed, Wire, ask, chat, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    impatient = {"client_header_s": 1.0, "client_body_s": 1.0}
    with running(config(all_sims.urls[:2], timeouts=impatient), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def serves_on(port: int) -> Iterator[None]:
    """After each test a good request is answered."""
    yield
    with served(port):
        pass


def served(port: int) -> Wire:
    """A connection on which a good request was answered."""

    def look() -> Wire | None:
        wire = Wire("127.0.0.1", port)
        with contextlib.suppress(Closed):
            if ask(wire, post(chat())).status == 200:
                return wire
        wire.close()
        return None

    return wait_for("a good request is answered", look)


STOPS = {
    "after a byte": b"G",
    "in the headers": b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-slow: ",
    "in the body": post(chat())[:-10],
    "in a second request": post(chat())[:-10],
}


def test_a_client_that_stops_half_way_gets_a_408_and_a_silent_one_is_closed(port: int) -> None:
    """All of them at once, so that they wait at the same time."""
    with ExitStack() as stack:
        mute = stack.enter_context(Wire("127.0.0.1", port))
        wires = {}
        # Each sends as soon as it is connected: by the end of the time-out it would be another silent one.
        for named, sent in STOPS.items():
            wires[named] = stack.enter_context(served(port) if "second" in named else Wire("127.0.0.1", port))
            wires[named].send(sent)
        answers = {named: wire.answer() for named, wire in wires.items()}
        outcomes = {named: (answer.status, answer.error["code"]) for named, answer in answers.items()}
        assert outcomes == dict.fromkeys(STOPS, (408, "request_timeout"))
        assert all(wire.closed() for wire in (mute, *wires.values()))


@pytest.mark.parametrize(
    "begun",
    [b"GET /v1/models HTTP/1.1\r\nx-drip: ", post(b"x" * 5000)[:-4990]],
    ids=["in the headers", "in the body"],
)
def test_single_bytes_do_not_move_the_deadline(wire: Wire, begun: bytes) -> None:
    wire.send(begun)
    answer = drip_until_answered(wire)
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


def drip_until_answered(wire: Wire) -> Answer:
    """Send a byte every 50 ms until the gateway answers."""
    while not wire.readable(0.05):
        with contextlib.suppress(ConnectionError):
            wire.send(b"d")
    return wire.answer()


@pytest.mark.parametrize("upto", [1, 30, -1], ids=["in the line", "in the headers", "in the body"])
def test_a_client_that_leaves_within_its_request_leaves_no_state(wire: Wire, upto: int) -> None:
    wire.send(post(chat())[:upto])
    wire.shut()
    with contextlib.suppress(Closed):
        assert wire.answer().status in (400, 408)
