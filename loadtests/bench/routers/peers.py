"""The compared routers, and how each is started. A new peer is one row of the table."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.routers import nginx, turnout, wheels
from loadtests.bench.routers.wheels import Missing
from loadtests.sim.ports import free_ports


class Place(NamedTuple):
    """A peer's directory, its port, and the engines' ports."""

    directory: Path
    port: int
    engines: Sequence[int]
    python: str = sys.executable
    """Runs this gateway."""
    state: str = ""
    """URL of a Redis, for variants that share state."""


class Start(NamedTuple):
    """How a peer is run."""

    command: list[str]
    url: str
    """Base URL that takes the load."""
    ready: str
    """Answers 2xx when the peer is up."""
    scrape: str = ""
    """A metrics page that is read once a second while the peer is measured."""
    second: Start | None = None
    """A second replica, which runs on the load's core and is not measured."""


class Peer(NamedTuple):
    """A row of the report."""

    start: Callable[[Place], Start]
    """Raises Missing."""
    version: Callable[[], str]
    what: str
    streams: bool = True
    """Whether it takes part in the stream cases: the policy matters little there, so one variant is enough."""


def start_nginx(place: Place, method: str = "") -> Start:
    """Debian's nginx as a plain proxy, by default in turn: the lower bound."""
    if nginx.program() is None:
        raise Missing("nginx is not installed (Debian: apt-get install nginx)")
    url = f"http://127.0.0.1:{place.port}"
    return Start(nginx.command(place.directory, place.port, place.engines, method), url, f"{url}/health")


def start_turnout(name: str, place: Place) -> Start:
    """This gateway with the settings of a variant."""
    if turnout.VARIANTS[name].shared and not place.state:
        raise Missing("redis-server is not installed (Debian: apt-get install redis-server)")
    url = f"http://127.0.0.1:{place.port}"
    variant = turnout.VARIANTS[name]
    control, port, other = free_ports(3)
    # A separate database: replicas that share one are peers of each other.
    state = f"{place.state}/1" if variant.pair else place.state
    command = turnout.command(name, place.python, place.directory, place.port, control, place.engines, state)
    second = None
    if variant.pair:
        directory = place.directory / "second"
        directory.mkdir()
        its_url = f"http://127.0.0.1:{port}"
        its_command = turnout.command(name, place.python, directory, port, other, place.engines, state)
        second = Start(its_command, its_url, f"{its_url}/readyz")
    scrape = f"http://127.0.0.1:{control}/metrics" if variant.shared else ""
    return Start(command, url, f"{url}/readyz", scrape, second)


_LAUNCH: Mapping[str, tuple[Sequence[str], str]] = {
    "sglang-router": (["python", "-m", "sglang_router.launch_router"], "warn"),
    "vllm-router": (["vllm-router"], "warning"),
    "smg": (["smg", "launch"], "warn"),
}
"""By wheel: its program, and its name of the log level that leaves out the lines it logs for each request."""


def start_rust(wheel: str, policy: str, place: Place) -> Start:
    """A Rust router from its wheel; with its default policy if none is named."""
    (program, *arguments), level = _LAUNCH[wheel]
    url = f"http://127.0.0.1:{place.port}"
    (metrics,) = free_ports(1)
    command = [str(wheels.programs(wheel) / program), *arguments]
    command += ["--host", "127.0.0.1", "--port", str(place.port), "--log-level", level]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics)]
    command += ["--worker-urls", *(f"http://127.0.0.1:{engine}" for engine in place.engines)]
    return Start(command + (["--policy", policy] if policy else []), url, f"{url}/health")


def start_baseline(place: Place) -> Start:
    """A typical Python router."""
    python = wheels.programs("fastapi-aiohttp") / "python"
    program = Path(__file__).with_name("baseline_fastapi.py")
    url = f"http://127.0.0.1:{place.port}"
    return Start([str(python), str(program), str(place.port), *map(str, place.engines)], url, f"{url}/health")


def nginx_version() -> str:
    """Of the nginx on this machine."""
    said = subprocess.run([nginx.program() or "nginx", "-v"], capture_output=True, text=True)
    return said.stderr.strip().rpartition("/")[2]


def _ours(name: str, what: str, streams: bool = True) -> Peer:
    return Peer(functools.partial(start_turnout, name), functools.partial(version, "turnout"), what, streams)


def _rust(wheel: str, policy: str, what: str) -> Peer:
    # Their default keeps a prefix tree, which costs nothing for chunks: one of the two is enough for streams.
    found = functools.partial(wheels.version, wheel)
    return Peer(functools.partial(start_rust, wheel, policy), found, what, streams=bool(policy))


PEERS: dict[str, Peer] = {
    "nginx": Peer(start_nginx, nginx_version, "plain proxy, no decisions: the lower bound"),
    "turnout-random": _ours("turnout-random", "random; no probes, scrapes, retries"),
    "turnout": _ours("turnout", "prefix_aware, default settings", streams=False),
    "turnout-all": _ours(
        "turnout-all", "prefix_aware, state in Redis, all limits, timeouts, probes; /metrics read at 1 Hz"
    ),
    "turnout-pair": _ours("turnout-pair", "the same, with a second replica on the same Redis"),
    "sglang-router": _rust("sglang-router", "", "its default, cache_aware"),
    "sglang-router-rr": _rust("sglang-router", "round_robin", "round_robin"),
    "vllm-router": _rust("vllm-router", "", "its default, cache_aware"),
    "vllm-router-rr": _rust("vllm-router", "round_robin", "round_robin"),
    "smg": _rust("smg", "", "its default, cache_aware"),
    "smg-rr": _rust("smg", "round_robin", "round_robin"),
    "fastapi-aiohttp": Peer(
        start_baseline, lambda: wheels.version("fastapi-aiohttp"), "round robin, a typical Python router"
    ),
}
"""By the name in the report; `direct` (no router at all) is always measured."""
