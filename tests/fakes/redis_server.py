"""Real redis-server processes on 127.0.0.1 for tests: plain, TLS, Sentinel or cluster nodes; nothing is persisted.

Each server is ended by its pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from loadtests.sim.ports import HOST, PORTS, TRIES, claim, free_ports
from tests.fakes.certificates import Authority
from tests.fakes.programs import need
from tests.fakes.waiting import DEADLINE_S, wait_for

_BUS: Final = 10_000
_EMPTY: Final = ("--save", "", "--appendonly", "no")
"""Options that turn persistence off. Sentinel has no such options."""


def free_port() -> int:
    """A free port whose cluster bus port, 10,000 above it, is free, too."""
    for _ in range(TRIES):
        (port,) = free_ports(1)
        if port + _BUS in PORTS and claim([port + _BUS]):
            return port
    raise OSError("no port is free with that of its bus")


class RedisServer:
    """One process; `start` after `kill` gives an empty server on the same port."""

    def __init__(self, command: Sequence[str], port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command

    @property
    def log(self) -> str:
        """Its log."""
        return (self.directory / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self.directory, stdout=log, stderr=log)
        wait_for(f"redis-server on port {self.port}", self._answers)

    def pause(self) -> None:
        """SIGSTOP: its connections stay open and it sends nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"redis-server ended at its start:\n{self.log}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1) as link:
            link.sendall(b"PING\r\n")
            # A TLS port accepts the connection, but its answer cannot be read here; listening is enough.
            return "--tls-port" in self._command or link.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))
        return False


@contextlib.contextmanager
def redis_server(*options: str, port: int = 0, config: str = "") -> Iterator[RedisServer]:
    """A server that answers, with these options (`"--requirepass", "x"`), in its own directory.

    `config` is the text of a configuration file, which Sentinel needs.
    """
    binary = need("redis-server")
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as place:
        directory = Path(place)
        (directory / "redis.conf").write_text(config)
        lasting = () if "--sentinel" in options else _EMPTY
        ports = () if "--tls-port" in options else ("--port", str(port))
        common = ("--bind", HOST, "--dir", place, *ports, *lasting)
        server = RedisServer((binary, f"{place}/redis.conf", *common, *options), port, directory)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def sentinel(
    master: RedisServer, name: str = "mymaster", *, password: str = "", own: str = ""
) -> Iterator[RedisServer]:
    """A Sentinel with a quorum of one and short delays. `password` is the servers', `own` the Sentinel's."""
    lines = [
        f"sentinel monitor {name} {HOST} {master.port} 1",
        f"sentinel down-after-milliseconds {name} 600000",
        f"sentinel failover-timeout {name} 600000",
        *([f"sentinel auth-pass {name} {password}"] if password else []),
        *([f"requirepass {own}"] if own else []),
    ]
    with redis_server("--sentinel", config="\n".join(lines) + "\n") as watching:
        yield watching


@contextlib.contextmanager
def cluster_nodes(count: int) -> Iterator[list[RedisServer]]:
    """Cluster nodes that are not connected to each other yet and own no slot."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(redis_server(*options)) for _ in range(count)]


class Certificates(NamedTuple):
    """Files of a certificate authority and of a server on 127.0.0.1 whose certificate it has signed."""

    ca: Path
    cert: Path
    key: Path


def certificates(directory: Path) -> Certificates:
    """Make them."""
    authority = Authority(directory)
    return Certificates(authority.cert, *authority.issue())


def tls_options(made: Certificates, port: int) -> tuple[str, ...]:
    """Options for a server that only speaks TLS, on `port`, without client certificates."""
    files = ("--tls-cert-file", str(made.cert), "--tls-key-file", str(made.key), "--tls-ca-cert-file", str(made.ca))
    return ("--port", "0", "--tls-port", str(port), *files, "--tls-auth-clients", "no")
