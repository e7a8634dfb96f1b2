"""A picker behind the real Envoy, and a gateway, before the same engines and under the same load in one run. Figures
only; `__main__.py` writes the text.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from loadtests.bench.epp.envoy import FLAGS, FLUSH_MS, envoy_config
from loadtests.bench.epp.paced import Order
from loadtests.bench.load.cases import CASES
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.result import LoadFailed
from loadtests.bench.load.stream_load import REQUESTS, request
from loadtests.bench.routers import turnout
from loadtests.bench.routers.run import ENGINES, calm
from loadtests.processes import procfs
from loadtests.processes.owned import Owned, pin, wait_until_ready, wait_until_serving
from loadtests.processes.replica import serve
from loadtests.sim.ports import HOST, free_ports

CASE: Final = CASES["1k"]
AHEAD: Final = ("chrt", "--rr", "1")
"""Before Envoy's command: it runs ahead of the load and the engines on its core, so that they delay no pick."""

WARM_S: Final = 2.0
"""Seconds of load before the first round, so that connections are open and code has run."""


class Plan(NamedTuple):
    """The size of a measurement."""

    envoy: Path
    rounds: int = 3
    seconds: float = 10.0
    rate: float = 1000.0
    python: str = sys.executable


class Cost(NamedTuple):
    """One round of one of the two."""

    peer: str
    round: int
    requests: int
    cpu_us: float
    """Of the gateway or the picker, a request."""
    envoy_us: float
    """Of Envoy, a request."""
    answers_ms: tuple[float, float]
    """From when a request was due until its answer was complete: half of them, and 99 of 100."""
    picks_ms: tuple[float, float]
    """From Envoy's message until the picker's reply, by Envoy's clock."""
    wrong: int


class Target(NamedTuple):
    """A running gateway, or Envoy with a running picker."""

    peer: str
    port: int
    owned: Owned
    envoy: Owned | None = None
    picks: Path | None = None


@functools.cache
def envoy_first() -> bool:
    """Whether this user may put Envoy ahead of the other programs."""
    return bool(shutil.which(AHEAD[0])) and not subprocess.run([*AHEAD, "true"], capture_output=True).returncode


def quantiles(times: Sequence[float]) -> tuple[float, float]:
    """The median, and what 99 of 100 do not exceed; 0 for nothing."""
    ordered = sorted(times) or [0.0]
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def measured(plan: Plan, directory: Path) -> Iterator[Cost]:
    """In each round both under the same load."""
    with targets(plan, directory) as found:
        for target in found:
            _load(target, plan._replace(seconds=WARM_S), 0, directory)
        for number in range(1, plan.rounds + 1):
            for target in found:
                yield _load(target, plan, number, directory)


@contextlib.contextmanager
def targets(plan: Plan, directory: Path) -> Iterator[list[Target]]:
    """Both, running before the same canned engines."""
    with ExitStack() as stack:
        engines = free_ports(ENGINES)
        canned = [sys.executable, "-m", "loadtests.bench.load.canned", *map(str, engines)]
        owned = stack.enter_context(Owned(canned, LOAD_CORE, directory / "engines.log"))
        wait_until_ready(owned, f"http://{HOST}:{engines[0]}/health")
        port, picker_port, *others = free_ports(6)
        gateway = stack.enter_context(_turnout("serve", plan, directory, (port, others[0]), engines))
        picker = stack.enter_context(_turnout("epp", plan, directory, (picker_port, others[1]), engines))
        front, picks = others[2], directory / "picks.log"
        pods = [f"{HOST}:{engine}" for engine in engines]
        config = envoy_config(front, others[3], [f"{HOST}:{picker_port}"], pods, picks=picks)
        (directory / "envoy.json").write_text(json.dumps(config))
        first = AHEAD if envoy_first() else ()
        command = [*first, str(plan.envoy), "-c", str(directory / "envoy.json"), *FLAGS]
        envoy = stack.enter_context(Owned(command, LOAD_CORE, directory / "envoy.log"))
        body = request(CASE, 0).partition("\r\n\r\n")[2].encode()
        wait_until_serving(envoy, f"http://{HOST}:{front}/v1/chat/completions", body)
        yield [Target("gateway", port, gateway), Target("picker", front, picker, envoy, picks)]


def _turnout(command: str, plan: Plan, directory: Path, ports: tuple[int, int], engines: list[int]) -> Owned:
    given = turnout.settings("turnout", *ports, engines)
    line = serve(plan.python, given, directory / f"{command}.yaml")
    line[line.index("serve")] = command
    owned = Owned(line, ROUTER_CORE, directory / f"{command}.log")
    wait_until_ready(owned, f"http://{HOST}:{ports[1]}/readyz")
    return owned


def _load(target: Target, plan: Plan, number: int, directory: Path) -> Cost:
    """Load one of them. Raises LoadFailed."""
    calm(target.owned)
    first = number * REQUESTS
    sent = [request(CASE, each) for each in range(first, first + REQUESTS)]
    order = directory / "order.json"
    order.write_text(json.dumps(Order(HOST, target.port, sent, plan.rate, plan.seconds, number)._asdict()))
    seen = target.picks.stat().st_size if target.picks is not None else 0
    before, envoy_before = _cpu_s(target.owned), _cpu_s(target.envoy)
    command = [*pin(LOAD_CORE), sys.executable, "-m", "loadtests.bench.epp.paced", str(order)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=plan.seconds + 30)
    if done.returncode:
        raise LoadFailed(done.stderr[-2000:])
    cpu_s, envoy_s = _cpu_s(target.owned) - before, _cpu_s(target.envoy) - envoy_before
    tally = json.loads(done.stdout)
    time.sleep(4 * FLUSH_MS / 1e3)  # until Envoy's log is written
    answered = len(tally["times_ms"])
    return Cost(
        target.peer,
        number,
        answered,
        cpu_s / max(1, answered) * 1e6,
        envoy_s / max(1, answered) * 1e6,
        quantiles(tally["times_ms"]),
        quantiles(_picks_ms(target.picks, seen)),
        tally["wrong"] + tally["sent"] - answered,
    )


def _cpu_s(owned: Owned | None) -> float:
    return procfs.read(owned.pids()).cpu_s if owned is not None else 0.0


def _picks_ms(path: Path | None, seen: int) -> list[float]:
    """What Envoy wrote after this many bytes."""
    if path is None:
        return []
    with path.open() as file:
        file.seek(seen)
        return [int(line) / 1e3 for line in file if line.strip().isdigit()]
