"""The routers that are put side by side: how each is started. A new peer is one function and one line of the table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench import nginx
from loadtests.ports import free_ports


class Place(NamedTuple):
    """Where a peer may put its files, where it listens, and what it proxies to."""

    directory: Path
    port: int
    engines: Sequence[int]


class Start(NamedTuple):
    """How to run a peer."""

    command: list[str]
    url: str
    """Base URL that takes the load."""
    ready: str
    """Answers 2xx when the peer is ready for load."""


class Missing(Exception):
    """The peer is not on this machine; the message says how to get it."""


def start_nginx(place: Place) -> Start:
    """Debian's nginx as a plain proxy: the floor."""
    if nginx.program() is None:
        raise Missing("nginx is not installed (Debian: apt-get install nginx)")
    url = f"http://127.0.0.1:{place.port}"
    return Start(nginx.command(place.directory, place.port, place.engines), url, f"{url}/health")


def start_turnout(place: Place) -> Start:
    """This project as a user starts it: prefix_aware, metrics on."""
    url = f"http://127.0.0.1:{place.port}"
    (control,) = free_ports(1)
    command = [turnout(), "serve", "--policy", "prefix_aware"]
    command += ["--listen", f"127.0.0.1:{place.port}", "--control", f"127.0.0.1:{control}"]
    for engine in place.engines:
        command += ["--pod", f"http://127.0.0.1:{engine}"]
    return Start(command, url, f"{url}/readyz")


def turnout() -> str:
    """The console script beside this Python, or the one on PATH."""
    beside = Path(sys.executable).with_name("turnout")
    return str(beside) if beside.exists() else shutil.which("turnout") or "turnout"


PEERS: dict[str, Callable[[Place], Start]] = {
    "nginx": start_nginx,
    "turnout": start_turnout,
}
"""By the name in the report; `direct` (no router at all) is always measured."""
