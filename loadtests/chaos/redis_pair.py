"""Two Redis servers, one of them the master, and the Sentinel that promotes the other one.

The Sentinel promotes none unless `fail_over` is called: other faults of the master are not failovers. Each replica of
the gateway reaches all three through links of its own, and Sentinel's answers name these links.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import redis
from redis.sentinel import Sentinel

from loadtests.processes.owned import ANY_CORE, Owned, wait_for
from loadtests.processes.redis_server import RedisServer, program
from loadtests.processes.slow_link import SlowLink
from loadtests.sim.ports import HOST, free_ports

NAME: Final = "chaos"
"""Sentinel's name for the master."""
DOWN_MS: Final = 1_000
"""Silence of the master after which Sentinel promotes the other server, during a failover."""
NEVER_MS: Final = 600_000
"""The same, otherwise: longer than any other fault."""
FAILOVER_MS: Final = 5_000
"""Sentinel tries again after twice this time."""
CALL_S: Final = 10.0


class RedisPair:
    """Started by its constructor; `stop` ends it, and so does the end of a `with` block."""

    def __init__(self, directory: Path) -> None:
        with ExitStack() as stack:
            self.servers = [stack.enter_context(_server(directory / f"redis-{number}")) for number in range(2)]
            first, second = self.servers
            with redis.Redis(port=second.port, socket_timeout=CALL_S) as client:
                client.replicaof(HOST, first.port)
                wait_for("the second Redis has the first one's data", lambda: _has_its_master(client))
            self._port = free_ports(1)[0]
            stack.enter_context(_sentinel(directory, self._port, first.port))
            asked: Any = Sentinel([(HOST, self._port)], socket_timeout=CALL_S)  # type: ignore[no-untyped-call]
            self._asked: Any = asked.sentinels[0]
            stack.callback(self._asked.close)
            wait_for("Sentinel knows the second Redis", self._knows_both)
            self.client: redis.Redis = asked.master_for(NAME)
            """To the master, whichever it is."""
            stack.callback(self.client.close)
            self._stack = stack.pop_all()

    def _knows_both(self) -> bool:
        try:
            return len(self._asked.sentinel_slaves(NAME)) == 1
        except redis.ConnectionError:  # it does not listen yet
            return False

    @property
    def master(self) -> RedisServer:
        """The server that Sentinel names."""
        _, port = self._asked.sentinel_get_master_addr_by_name(NAME)
        return next(each for each in self.servers if each.port == int(port))

    def links(self) -> list[SlowLink]:
        """Links for a replica: to Sentinel, whose `url` it takes, and to each server."""
        every = [SlowLink(port) for port in (self._port, *(each.port for each in self.servers))]
        for link in every:
            link.start()
        ports = zip((each.port for each in self.servers), (each.port for each in every[1:]), strict=True)
        every[0].replaced = {_port(server): _port(link) for server, link in ports}
        return every

    def fail_over(self, promoted_from: RedisServer) -> None:
        """Let Sentinel promote the other server, and wait until it has."""
        self._promotes_after(DOWN_MS)
        wait_for("Sentinel promotes the other Redis", lambda: self.master is not promoted_from)
        self._promotes_after(NEVER_MS)

    def wait_until_replica(self, server: RedisServer) -> None:
        """Wait until Sentinel has made a former master a replica: it waits ten seconds before it does."""
        with redis.Redis(port=server.port, socket_timeout=CALL_S) as client:
            wait_for("the former master has its successor's data", lambda: _has_its_master(client))

    def _promotes_after(self, milliseconds: int) -> None:
        self._asked.sentinel_set(NAME, "down-after-milliseconds", milliseconds)

    def stop(self) -> None:
        """End all three, also while one is paused."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _server(directory: Path) -> RedisServer:
    directory.mkdir()
    return RedisServer(directory, options=("--repl-diskless-sync-delay", "0"))


def _sentinel(directory: Path, port: int, master: int) -> Owned:
    file = directory / "sentinel.conf"  # Sentinel rewrites it
    times = {"down-after-milliseconds": NEVER_MS, "failover-timeout": FAILOVER_MS}
    lines = [f"monitor {NAME} {HOST} {master} 1", *(f"{name} {NAME} {value}" for name, value in times.items())]
    file.write_text("".join(f"sentinel {line}\n" for line in lines))
    options = ["--sentinel", "--port", str(port), "--bind", HOST, "--dir", str(directory)]
    return Owned([program() or "redis-server", str(file), *options], ANY_CORE, directory / "sentinel.log")


def _has_its_master(client: redis.Redis) -> bool:
    info: dict[str, Any] = client.info("replication")
    return (info["role"], info.get("master_link_status")) == ("slave", "up")


def _port(number: int) -> bytes:
    """A port as a server's reply has it. All have five digits, so that a reply keeps its length."""
    return b"$5\r\n%d\r\n" % number
