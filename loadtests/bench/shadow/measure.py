"""One gateway process under the same load in many windows, each with another trial, switched over its control port.
Nothing but the trial differs between two windows. Figures only; `report.py` writes the text.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from loadtests.bench.load import wrk
from loadtests.bench.load.cases import CASES, Case
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.stream_load import request
from loadtests.bench.routers import turnout
from loadtests.bench.routers.run import ENGINES, NUMBERS_A_RUN, calm
from loadtests.processes import procfs
from loadtests.processes.owned import Owned, pin, wait_until_ready, wait_until_serving
from loadtests.sim.ports import free_ports

SHADOW: Final[Mapping[str, Any]] = {"policy": "p2c"}
CANARY: Final[Mapping[str, Any]] = {"policy": "prefix_aware", "percent": 10}
"""The same policy as the pool's, so that the trial is measured and not the candidate."""

MODES: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "none": {},
    "shadow": {"shadow": SHADOW},
    "canary": {"canary": CANARY},
    "both": {"shadow": SHADOW, "canary": CANARY},
}
"""By name in the report: the trials set at the control port. The others are compared with the first."""


class Window(NamedTuple):
    """One load with one trial."""

    mode: str
    round: int
    requests: int
    rate: float
    cpu_us: float
    """Of the gateway, a request."""
    p50_ms: float
    p99_ms: float
    wrong: int
    """Missing answers, and those that were not 2xx."""


class Plan(NamedTuple):
    """The size of a measurement."""

    rounds: int = 15
    seconds: int = 3
    python: str = sys.executable
    case: Case = CASES["1k"]


class Gateway:
    """A gateway before canned engines, and its control port."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.url, self._control, *_ = urls = [f"http://127.0.0.1:{port}" for port in free_ports(2 + ENGINES)]
        port, control, *engines = (int(url.rpartition(":")[2]) for url in urls)
        canned = [sys.executable, "-m", "loadtests.bench.load.canned", *map(str, engines)]
        self._engines = Owned(canned, LOAD_CORE, directory / "engines.log")
        command = turnout.command("turnout", plan.python, directory, port, control, engines)
        self.owned = Owned(command, ROUTER_CORE, directory / "turnout.log")
        try:
            wait_until_ready(self.owned, f"{self._control}/readyz")
            body = request(plan.case, 0).partition("\r\n\r\n")[2].encode()
            wait_until_serving(self.owned, self.url + wrk.PATH, body)
        except BaseException:
            self.stop()
            raise

    def use(self, mode: str) -> None:
        """Switch trials on and off."""
        with httpx.Client(base_url=f"{self._control}/admin/pools/default", trust_env=False) as control:
            for kind in ("shadow", "canary"):
                wanted = MODES[mode].get(kind)
                put = control.put(f"/{kind}", json=wanted) if wanted is not None else control.delete(f"/{kind}")
                put.raise_for_status()

    def trial(self) -> dict[str, Any]:
        """The report on the running trials."""
        shown: dict[str, Any] = httpx.get(f"{self._control}/admin/pools/default/trial", trust_env=False).json()
        return shown

    def stop(self) -> None:
        """End both processes."""
        self.owned.stop()
        self._engines.stop()


def windows(plan: Plan, directory: Path) -> Iterator[Window]:
    """In each round every mode once, each round starting with another mode."""
    gateway, runs = Gateway(plan, directory), 0
    modes = [*MODES]
    try:
        wrk.run(pin(LOAD_CORE), gateway.url, plan.case, plan.seconds, 0, directory)
        for number in range(1, plan.rounds + 1):
            for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
                gateway.use(mode)
                calm(gateway.owned)
                runs += 1
                yield _window(gateway, plan, mode, number, runs * NUMBERS_A_RUN, directory)
    finally:
        gateway.stop()


def _window(gateway: Gateway, plan: Plan, mode: str, number: int, first: int, directory: Path) -> Window:
    pids = gateway.owned.pids()
    before, began = procfs.read(pids), time.monotonic()
    load = wrk.run(pin(LOAD_CORE), gateway.url, plan.case, plan.seconds, first, directory)
    cpu_s = procfs.read(pids).since(before).cpu_s
    took_s = time.monotonic() - began
    wrong = load.failed + load.bad_status
    cpu_us = cpu_s / load.requests * 1e6
    return Window(mode, number, load.requests, load.requests / took_s, cpu_us, load.p50_ms, load.p99_ms, wrong)
