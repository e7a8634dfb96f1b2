"""HAProxy in front of the replicas: its configuration, all inside one temporary directory, and its statistics.

It judges replicas by /readyz alone, as a load balancer in front of a Deployment does. Every future replica has a slot
from the start; a slot without a process fails its checks.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import httpx

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST

_CONF = Template("""\
global
    maxconn 3000
    nbthread 1
defaults
    mode http
    timeout connect 30s
    timeout client 180s
    timeout server 180s
    # A stopped replica refuses the check at once; a slow answer on a busy machine is no failure.
    timeout check 30s
    # Only a failed connect is tried again, on the same replica, so that retries hide no failure.
    retries 3
    retry-on conn-failure
    no option redispatch
    # Without it HAProxy delays the tokens of a stream for up to 200 ms, to send them together.
    option http-no-delay
frontend inference
    bind $host:$port
    default_backend replicas
backend replicas
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 300ms fall 2 rise 1
$servers
frontend numbers
    bind $host:$stats_port
    stats enable
    stats uri /stats
""")


def program() -> str | None:
    """The path of haproxy; Debian's is not on a plain user's PATH."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


def config(port: int, stats_port: int, slots: Mapping[str, int]) -> str:
    """`slots`: name -> inference port of every replica that may run."""
    servers = "\n".join(f"    server {name} {HOST}:{slot}" for name, slot in slots.items())
    return _CONF.substitute(host=HOST, port=port, stats_port=stats_port, servers=servers)


def parse(text: str) -> list[dict[str, str]]:
    """HAProxy's statistics in CSV: a row for each server of the backend."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return [row for row in rows if row["pxname"] == "replicas" and row["svname"] not in ("BACKEND", "FRONTEND")]


class HAProxy:
    """Started by its constructor; `stop` ends it."""

    def __init__(self, directory: Path, port: int, stats_port: int, slots: Mapping[str, int]) -> None:
        path = directory / "haproxy.cfg"
        path.write_text(config(port, stats_port, slots))
        self.port = port
        self.process = Owned([program() or "haproxy", "-db", "-f", str(path)], ANY_CORE, directory / "haproxy.log")
        self._numbers = httpx.Client(
            base_url=f"http://{HOST}:{stats_port}", trust_env=False, verify=False, timeout=60.0
        )

    def rows(self) -> list[dict[str, str]]:
        """Its statistics of each slot; empty while it does not listen yet. Raises RuntimeError if it has ended."""
        if self.process.ended():
            raise RuntimeError(f"haproxy ended:\n{self.process.log.read_text()}")
        try:
            return parse(self._numbers.get("/stats;csv").raise_for_status().text)
        except httpx.TransportError:
            return []

    def in_rotation(self) -> set[str]:
        """Replicas that get requests."""
        return {row["svname"] for row in self.rows() if row["status"].startswith("UP")}

    def total(self, columns: Sequence[str]) -> dict[str, int]:
        """Counters over all slots: `wretr` connect retries, `wredis` redispatches, `eresp` broken answers."""
        rows = self.rows()
        return {column: sum(int(row[column] or 0) for row in rows) for column in columns}

    def stop(self) -> None:
        """End it."""
        self._numbers.close()
        self.process.stop()
