"""The request cases of the HTTP corpus over sockets: a gateway's process between raw clients and a pod that is h11.

What comes of each case is known from the run in memory, so no answer is waited for that does not come.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.h11_pod import H11Pod, H11Request, h11_pod
from tests.fakes.waiting import DEADLINE_S
from tests.http_corpus import connections, framing, heads
from tests.http_corpus.building import Case, post
from tests.http_corpus.judging import Outcome, answers_to
from tests.http_corpus.memory_run import run_request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pod() -> Iterator[H11Pod]:
    with h11_pod() as pod:
        yield pod


@pytest.fixture(scope="module")
def gateway(pod: H11Pod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config((), pools=[pool("default", [pod.url], models=["m"])])
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def got_over_sockets(port: int, data: bytes, answers: int, closed: bool) -> bytes:
    """What a client gets that reads until it has so many answers, and then the close if one is expected."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
        with suppress(ConnectionError):  # refused before all was sent
            client.sendall(data)
        while closed or len(answers_to(Outcome(b"", [], [], got, False))) < answers or not whole(got):
            try:
                more = client.recv(1 << 20)
            except ConnectionError:
                break
            if not more:
                break
            got += more
    return got


def whole(got: bytes) -> bool:
    """Whether the last answer is complete."""
    read = answers_to(Outcome(b"", [], [], got, False))
    return bool(read) and read[-1].complete


@pytest.mark.parametrize("named", ["framing", "heads", "connections"])
def test_behind_the_gateway_a_strict_server_reads_the_same_requests(
    gateway: GatewayProcess, pod: H11Pod, named: str
) -> None:
    """Cases D 19, D 20, E 22, E 23 and E 24."""
    cases = {"framing": framing.cases, "heads": heads.cases, "connections": connections.cases}[named]
    for case in cases():
        expected, _ = run_request(case, 0)
        if not expected.waited:
            check(gateway.port, pod, case, expected)


def check(port: int, pod: H11Pod, case: Case, expected: Outcome) -> None:
    """Run the case over sockets and compare it with its run in memory."""
    for _ in range(2 if case.warm else 0):
        got_over_sockets(port, case.warm, 1, closed=False)
    pod.take()
    answers = answers_to(expected)
    got = got_over_sockets(port, case.data, len(answers), expected.closed)
    read = answers_to(Outcome(b"", [], [], got, expected.closed))
    seen, refused = pod.take()
    assert refused == [], case.name
    assert seen == [as_h11_reads(each.line, each.body) for each in expected.seen], case.name
    assert [answer.status for answer in read] == [answer.status for answer in answers], case.name


def as_h11_reads(line: bytes, body: bytes) -> H11Request:
    method, target, _ = line.split(b" ")
    return H11Request(method, target, body)


def test_the_gateway_serves_on(gateway: GatewayProcess, pod: H11Pod) -> None:
    assert b" 200 OK\r\n" in got_over_sockets(gateway.port, post(), 1, closed=False)
    names = [case.name for case in chain(framing.cases(), heads.cases(), connections.cases())]
    assert len(set(names)) == len(names)
