"""Runs the stream load generator as a separate program and reads its result."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtests.bench.load.cases import SERIAL, Case, bodies, place
from loadtests.bench.load.result import Load, LoadFailed
from loadtests.bench.load.streams import FIRST_CHUNK_TIMEOUT_S, Order
from loadtests.bench.load.wrk import PATH
from loadtests.processes.procfs import Usage

REQUESTS = 1000
"""Distinct requests, sent in turn."""


class Found(NamedTuple):
    """The load, the resources used during it, and the streams open at the end."""

    load: Load
    usage: Usage
    load_cpu_s: float
    """Of engines and generator."""
    open_streams: int


class Pids(NamedTuple):
    """The processes whose CPU time is read."""

    router: Sequence[int]
    engines: Sequence[int]


def order(url: str, case: Case, seconds: int, first: int, pids: Pids) -> Order:
    """The generator's input."""
    address = urlsplit(url)
    if address.hostname is None or address.port is None:
        raise ValueError(f"{url} has no host and port")
    requests = [request(case, number) for number in range(first, first + REQUESTS)]
    where = (address.hostname, address.port)
    return Order(*where, requests, case.connections, case.ramp_s, seconds, [*pids.router], [*pids.engines])


def request(case: Case, number: int) -> str:
    """The bytes of the `number`-th request."""
    conversation, at = place(number, case)
    before, after = _bodies(case)[at]
    body = before + SERIAL % conversation + after
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head + body


@functools.cache
def _bodies(case: Case) -> list[tuple[str, str]]:
    return bodies(case)


def run(pin: list[str], url: str, case: Case, seconds: int, first: int, pids: Pids, directory: Path) -> Found:
    """Load `url` with `case.connections` streams and count for `seconds`. Raises LoadFailed."""
    path = directory / "order.json"
    path.write_text(json.dumps(order(url, case, seconds, first, pids)._asdict()))
    command = [*pin, sys.executable, "-m", "loadtests.bench.load.streams", str(path)]
    limit_s = seconds + case.ramp_s + FIRST_CHUNK_TIMEOUT_S + 20
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed("the stream load generator did not end in time") from error
    if done.returncode:
        raise LoadFailed(done.stderr[-2000:])
    return parse(done.stdout)


def parse(output: str) -> Found:
    """Read the generator's output. Raises LoadFailed if no chunk arrived."""
    found = json.loads(output)
    cpu_s, rss_bytes, cores_s = found.pop("usage")
    open_streams, load_cpu_s = found.pop("open"), found.pop("load_cpu_s")
    load = Load(**found)
    if not load.chunks:
        raise LoadFailed(f"no chunk arrived; {load.failed} connections failed, {load.bad_status} were refused")
    return Found(load, Usage(cpu_s, rss_bytes, tuple(cores_s)), load_cpu_s, open_streams)
