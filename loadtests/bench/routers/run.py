"""A case from start to end: start engines and routers, warm them with a little load, then load each in turn.

A router that fails is reported and left out of the rest of its case; the others go on.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.load import stream_load, wrk
from loadtests.bench.load.cases import Case
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.result import LoadFailed
from loadtests.bench.load.scrape import scraped
from loadtests.bench.load.stream_load import Found, Pids
from loadtests.bench.routers.peers import PEERS, Place, Start
from loadtests.bench.routers.samples import Sample
from loadtests.bench.routers.turnout import VARIANTS
from loadtests.bench.routers.wheels import Missing
from loadtests.processes import procfs, redis_server
from loadtests.processes.owned import NotReady, Owned, pin, wait_until_ready, wait_until_serving
from loadtests.processes.redis_server import RedisServer
from loadtests.sim.ports import free_ports

ENGINES = 4
NUMBERS_A_RUN = 1_280_000
"""More than any run sends, so that no two runs send the same prompt; a multiple of every case's conversations."""
CALM_SHARE = 0.05
"""A router that uses less of its core than this has finished the work that the last run left."""
CALM_TIMEOUT_S = 3.0


class Target(NamedTuple):
    """A running router."""

    peer: str
    start: Start
    owned: Owned
    second: Owned | None = None


def say(text: str) -> None:
    """Print progress to stderr; stdout is for the report."""
    sys.stderr.write(text + "\n")


class Bench:
    """One run of the bench, and its samples so far."""

    def __init__(self, directory: Path, deadline: float, python: str) -> None:
        self._directory = directory
        self._python = python
        self._deadline = deadline
        self._runs = 0
        self._engines: list[int] = []
        self.samples: list[Sample] = []
        self.missing: dict[str, str] = {}
        """By peer, or by peer and case: why it is not in the tables."""

    def case(self, case: Case, names: Sequence[str]) -> None:
        """Measure one case; its samples are added."""
        if time.monotonic() > self._deadline:
            self.missing[case.name] = "no time was left"
            return
        directory = self._directory / case.name
        directory.mkdir()
        say(f"{case.name}: {case.title}")
        with self._targets(case, names, directory) as found:
            self._rounds(case, found, directory)

    @contextlib.contextmanager
    def _targets(self, case: Case, names: Sequence[str], directory: Path) -> Iterator[list[Target]]:
        """Engines and routers, running, all started at the same time and ended at the same time."""
        with contextlib.ExitStack() as stack:
            ports = free_ports(ENGINES)
            command = [sys.executable, "-m", "loadtests.bench.load.canned", *map(str, ports)]
            command += ["--stream", "--gap-ms", str(case.gap_s * 1000)] if case.stream else []
            engines = stack.enter_context(Owned(command, LOAD_CORE, directory / "engines.log"))
            self._engines = engines.pids()
            url = f"http://127.0.0.1:{ports[0]}"
            wait_until_ready(engines, f"{url}/health")
            sharing = any(VARIANTS[name].shared for name in VARIANTS.keys() & names) and redis_server.program()
            state = stack.enter_context(RedisServer(directory, LOAD_CORE)).url if sharing else ""
            started = []
            for name in names:
                target = self._start(name, Place(directory / name, free_ports(1)[0], ports, self._python, state))
                if target is not None:
                    stack.enter_context(target.owned)
                    if target.second is not None:
                        stack.enter_context(target.second)
                    started.append(target)
            found = [Target("direct", Start([], url, url), engines)]
            found += [target for target in started if self._ready(case, target)]
            try:
                yield found
            finally:
                for target in started:
                    target.owned.terminate()

    def _start(self, name: str, where: Place) -> Target | None:
        where.directory.mkdir()
        try:
            start = PEERS[name].start(where)
        except Missing as missing:
            if name not in self.missing:
                say(f"  without {name}: {missing}")
            self.missing[name] = str(missing)
            return None
        owned = Owned(start.command, ROUTER_CORE, where.directory / "output.log")
        beside = start.second
        second = Owned(beside.command, LOAD_CORE, where.directory / "second.log") if beside is not None else None
        return Target(name, start, owned, second)

    def _ready(self, case: Case, target: Target) -> bool:
        first = stream_load.request(case, 0).partition("\r\n\r\n")[2].encode()
        try:
            wait_until_ready(target.owned, target.start.ready)
            if target.second is not None and target.start.second is not None:
                wait_until_ready(target.second, target.start.second.ready)
            wait_until_serving(target.owned, target.start.url + wrk.PATH, first)
        except NotReady as why:
            self._leave_out(case, target, why)
            return False
        return True

    def _leave_out(self, case: Case, target: Target, why: Exception) -> None:
        say(f"  without {target.peer}: {why}")
        # Reports do not name this machine's directories.
        message = " ".join(str(why).split()).replace(f"{Path.cwd()}/", "")
        self.missing[f"{target.peer} ({case.name})"] = message[-300:]

    def _rounds(self, case: Case, found: list[Target], directory: Path) -> None:
        """Warm every target, then load them in turn, again and again."""
        idle = {target.peer: self._warm(case, target, directory) for target in found}
        for number in range(1, case.repeats + 1):
            for target in [*found]:
                if time.monotonic() > self._deadline:
                    self.missing.setdefault(case.name, f"cut off in repeat {number}: no time was left")
                    return
                try:
                    sample = self._load(case, number, target, idle[target.peer], directory)
                except LoadFailed as why:
                    self._leave_out(case, target, why)
                    found.remove(target)
                    continue
                self.samples.append(sample)
                say(f"  {number}/{case.repeats} {target.peer:>17}: {_line(case, sample)}")
                calm(target.owned)

    def _warm(self, case: Case, target: Target, directory: Path) -> int:
        """A little load; returns the memory after it, to which the case's is compared."""
        few = case._replace(connections=min(case.connections, 8), ramp_s=0.0)
        with contextlib.suppress(LoadFailed):
            self._load(few, 0, target, 0, directory, seconds=1)
        calm(target.owned)
        return procfs.read(target.owned.pids()).rss_bytes

    def _load(
        self, case: Case, number: int, target: Target, idle: int, directory: Path, seconds: int | None = None
    ) -> Sample:
        seconds = case.seconds if seconds is None else seconds
        pids, first = Pids(target.owned.pids(), self._engines), self._runs * NUMBERS_A_RUN
        self._runs += 1
        with scraped(target.start.scrape):
            if case.stream:
                found = stream_load.run(pin(LOAD_CORE), target.start.url, case, seconds, first, pids, directory)
            else:
                found = _whole(target.start.url, case, seconds, first, pids, directory)
        load, spent, load_cpu_s, held = found
        cores_s = spent.cores_s
        return Sample(
            case.name, target.peer, number, load, spent.cpu_s, spent.rss_bytes, idle, cores_s, load_cpu_s, held
        )


def _whole(url: str, case: Case, seconds: int, first: int, pids: Pids, directory: Path) -> Found:
    """Whole answers by wrk, with the readings that the stream load takes itself."""
    before, engines_before, ours_before = procfs.read(pids.router), procfs.read(pids.engines), _children_s()
    load = wrk.run(pin(LOAD_CORE), url, case, seconds, first, directory)
    spent, engines = procfs.read(pids.router).since(before), procfs.read(pids.engines).since(engines_before)
    return Found(load, spent, engines.cpu_s + _children_s() - ours_before, 0)


def _children_s() -> float:
    """CPU time of ended child processes: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def calm(owned: Owned) -> None:
    """Wait until the router has finished the work that the load left, such as thousands of closed streams."""
    step_s, deadline = 0.1, time.monotonic() + CALM_TIMEOUT_S
    before = procfs.read(owned.pids())
    while time.monotonic() < deadline:
        time.sleep(step_s)
        now = procfs.read(owned.pids())
        if now.since(before).cpu_s <= CALM_SHARE * step_s + procfs.TICK_S:
            return
        before = now


def _line(case: Case, sample: Sample) -> str:
    if case.stream:
        return f"{sample.load.chunk_rate:>9,.0f} chunks/s {sample.chunk_us:>8.1f} us/chunk"
    return f"{sample.load.rate:>9,.0f} req/s {sample.cpu_us:>8.1f} us/request"
