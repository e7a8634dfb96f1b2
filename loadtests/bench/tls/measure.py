"""This gateway and nginx, each with and without TLS, under the same load in one run: requests over kept connections,
and connections of one request each. Figures only; `__main__.py` writes the text.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.bench.load import wrk
from loadtests.bench.load.cases import CASES, Case
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.stream_load import request
from loadtests.bench.routers import nginx, turnout
from loadtests.bench.routers.run import ENGINES, NUMBERS_A_RUN, calm
from loadtests.processes import procfs
from loadtests.processes.owned import Owned, pin, wait_until_ready
from loadtests.processes.replica import serve
from loadtests.sim.ports import HOST, free_ports

PEERS: Final = ("nginx", "turnout")
KINDS: Final = ("request", "request, TLS", "connection", "connection, TLS", "connection, TLS resumed")

Pair = tuple[Path, Path]
"""A certificate and its key."""


class Plan(NamedTuple):
    """The size of a measurement."""

    rounds: int = 5
    seconds: int = 1
    """Of requests over kept connections."""
    connections: int = 500
    python: str = sys.executable
    case: Case = CASES["1k"]


class Cost(NamedTuple):
    """One load on one router."""

    peer: str
    kind: str
    """One of `KINDS`."""
    round: int
    cpu_us: float
    """Of the router, for each request or connection."""
    wrong: int
    """Missing answers, and those that were not 2xx."""


class Router(NamedTuple):
    """A running router."""

    peer: str
    owned: Owned
    port: int
    tls: ssl.SSLContext | None


def certificate(directory: Path) -> Pair:
    """A new certificate of this machine, on the curve that most have now (P-256). Raises CalledProcessError."""
    pair = directory / "tls.crt", directory / "tls.key"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = ("-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{HOST}")
    command = ["openssl", "req", "-x509", *key, *names, "-keyout", str(pair[1]), "-out", str(pair[0])]
    subprocess.run(command, check=True, capture_output=True)
    return pair


def measured(plan: Plan, directory: Path) -> Iterator[Cost]:
    """In each round every router with every load that it takes."""
    with routers(plan, directory) as found:
        runs = 0
        for router in found:
            wrk.run(pin(LOAD_CORE), _url(router), plan.case, plan.seconds, 0, directory)
        for number in range(1, plan.rounds + 1):
            for router in found:
                runs += 1
                yield _requests(router, plan, number, runs, directory)
                for resumed in (False, True)[: 2 if router.tls else 1]:
                    yield _connections(router, plan, number, resumed)


@contextlib.contextmanager
def routers(plan: Plan, directory: Path) -> Iterator[list[Router]]:
    """All of them, running before the same canned engines."""
    pair = certificate(directory)
    with ExitStack() as stack:
        engines = free_ports(ENGINES)
        canned = [sys.executable, "-m", "loadtests.bench.load.canned", *map(str, engines)]
        owned = stack.enter_context(Owned(canned, LOAD_CORE, directory / "engines.log"))
        wait_until_ready(owned, f"http://{HOST}:{engines[0]}/health")
        found = []
        for peer in PEERS:
            for tls in (None, pair):
                port, control = free_ports(2)
                own = directory / f"{peer}-{'tls' if tls else 'plain'}"
                own.mkdir()
                command = _command(peer, plan.python, own, port, control, engines, tls)
                process = stack.enter_context(Owned(command, ROUTER_CORE, own / "output.log"))
                trusting = ssl.create_default_context(cafile=str(pair[0])) if tls else None
                if peer == "turnout":
                    wait_until_ready(process, f"http://{HOST}:{control}/readyz")
                found.append(Router(peer, process, port, trusting))
        yield found


def _command(
    peer: str, python: str, directory: Path, port: int, control: int, engines: list[int], pair: Pair | None
) -> list[str]:
    if peer == "nginx":
        return nginx.command(directory, port, engines, pair=pair)
    given = turnout.settings("turnout", port, control, engines)
    if pair is not None:
        given["tls"] = {"cert_file": str(pair[0]), "key_file": str(pair[1])}
    return serve(python, given, directory / "turnout.yaml")


def _url(router: Router) -> str:
    return f"{'https' if router.tls else 'http'}://{HOST}:{router.port}"


def _requests(router: Router, plan: Plan, number: int, run: int, directory: Path) -> Cost:
    calm(router.owned)
    before = procfs.read(router.owned.pids())
    load = wrk.run(pin(LOAD_CORE), _url(router), plan.case, plan.seconds, run * NUMBERS_A_RUN, directory)
    cpu_s = procfs.read(router.owned.pids()).since(before).cpu_s
    kind = KINDS[1] if router.tls else KINDS[0]
    return Cost(router.peer, kind, number, cpu_s / load.requests * 1e6, load.failed + load.bad_status)


def _connections(router: Router, plan: Plan, number: int, resumed: bool) -> Cost:
    calm(router.owned)
    body = request(plan.case, number).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).encode()
    session, _ = _one(router, body, None)
    before = procfs.read(router.owned.pids())
    wrong = 0
    for _ in range(plan.connections):
        _, right = _one(router, body, session if resumed else None)
        wrong += not right
    cpu_s = procfs.read(router.owned.pids()).since(before).cpu_s
    kind = KINDS[2] if router.tls is None else KINDS[3 + resumed]
    return Cost(router.peer, kind, number, cpu_s / plan.connections * 1e6, wrong)


def _one(router: Router, sent: bytes, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    """A connection of one request: its session, and whether it was resumed if asked to and the answer is right."""
    with socket.create_connection((HOST, router.port)) as plain:
        if router.tls is None:
            plain.sendall(sent)
            return None, _answer(plain).startswith(b"HTTP/1.1 200")
        with router.tls.wrap_socket(plain, server_hostname=HOST, session=session) as secured:
            secured.sendall(sent)
            right = _answer(secured).startswith(b"HTTP/1.1 200")
            return secured.session, right and secured.session_reused is (session is not None)


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer
