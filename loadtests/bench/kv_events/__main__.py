"""`python -m loadtests.bench.kv_events`: what a replica's reader takes of a core while a fleet publishes KV events, and
whether every batch is applied once all is quiet, counted at each step of its way.

Publishers are real sockets in processes of their own. `--stall-s` holds the reader up, as a process without a processor
is: what its queues do not hold is lost then, and has to be found and replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import uvloop

from loadtests.bench.kv_events.publishers import endpoints
from loadtests.sim.ports import HOST
from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.kv_events.precise_index import PreciseIndex
from statesync.kv_events.reader import KvEventReader, KvEventsConfig
from statesync.tasks import spawn

PROCESSES: Final = 4
FIRST_PORT: Final = 21_000
QUIET_S: Final = 60.0
"""Seconds within which all must have been applied after the last batch."""
LOOK_S: Final = 0.05


class Case(NamedTuple):
    """What is published."""

    pods: int
    rate: float
    """Batches of a pod a second."""
    events: int
    """Of a batch."""
    seconds: float
    stall_s: float


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.kv_events", description=__doc__)
    parser.add_argument("--pods", type=int, default=64, help=f"a multiple of {PROCESSES} (default %(default)s)")
    parser.add_argument("--rate", type=float, default=500.0, help="batches of a pod a second (default %(default)s)")
    parser.add_argument("--events", type=int, default=1, help="events a batch (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--stall-s", type=float, default=0.0, help="seconds for which the reader is held up")
    return parser


def start(case: Case, stack: ExitStack) -> list[subprocess.Popen[str]]:
    """The publishers, ready to begin."""
    each = case.pods // PROCESSES
    processes = []
    for number in range(PROCESSES):
        given = (FIRST_PORT + 2 * each * number, each, case.rate, case.seconds, case.events)
        command = [sys.executable, "-m", "loadtests.bench.kv_events.publishers", *map(str, given)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(process.kill)
        processes.append(process)
    for process in processes:
        _line(process)
    return processes


def follow(pods: int) -> KvEventReader:
    """A reader of all pods. Each is a pool, because all have one host."""
    configs = {str(pod): KvEventsConfig(*endpoints(FIRST_PORT, pod), "kv", 1) for pod in range(pods)}
    reader = KvEventReader(PreciseIndex(1 << 28, 1 << 20), configs)
    for pod in range(pods):
        reader.change_pods(str(pod), PodChange((Pod(PodId(str(pod)), f"{HOST}:{1 + pod}"),)))
    return reader


async def measure(case: Case) -> int:
    """Play the case and print what was found; 1 where a batch is missing in the end."""
    with ExitStack() as stack:
        processes = start(case, stack)
        reader = follow(case.pods)
        reading = spawn(reader.run(), "reader")
        await asyncio.sleep(2.0)  # all have subscribed
        for process in processes:
            _tell(process)
        began, cpu = time.monotonic(), time.process_time()
        if case.stall_s:
            await asyncio.sleep(1.0)
            time.sleep(case.stall_s)  # noqa: ASYNC251  the loop is what is to stand still
        await asyncio.sleep(began + case.seconds - time.monotonic())
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        sent = [(await asyncio.to_thread(_line, process)).split() for process in processes]
        published, late_s = sum(int(count) for count, _ in sent), max(float(late) for _, late in sent)
        at_once, quiet_s = applied(reader), await quiet(reader, published)
        sys.stdout.write(
            f"published {published}, the latest by {late_s:.2f} s; CPU {share:.3f} of a core, all threads\n"
            f"applied {at_once} at the last one, {applied(reader)} after {quiet_s:.1f} s; {losses(reader)}\n"
        )
        reading.cancel()
        return int(applied(reader) != published or bool(missing(reader)))


async def quiet(reader: KvEventReader, published: int) -> float:
    """Wait until all is applied; returns how long that took."""
    for waited in range(int(QUIET_S / LOOK_S)):
        if applied(reader) == published and not missing(reader):
            return waited * LOOK_S
        await asyncio.sleep(LOOK_S)
    return QUIET_S


def applied(reader: KvEventReader) -> int:
    """Batches that the index has, in their order."""
    return sum(max(0, publisher.feed.next) for pod in reader.index.publishing.values() for publisher in pod.publishers)


def missing(reader: KvEventReader) -> int:
    """Pods of which something is not known."""
    held = [publisher.held for pod in reader.index.publishing.values() for publisher in pod.publishers]
    return sum(not each.complete for each in held) + sum(not each.in_step for each in reader.counts().values())


def losses(reader: KvEventReader) -> str:
    """What was noticed on the way."""
    counts = reader.counts().values()
    live, gaps, lost = (sum(getattr(each, name) for each in counts) for name in ("batches", "gaps", "losses"))
    return f"{live} came live, {gaps} gaps, {lost} not filled, {missing(reader)} pods with unknown blocks"


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = parser().parse_args(argv)
    return uvloop.run(measure(Case(given.pods, given.rate, given.events, given.seconds, given.stall_s)))


if __name__ == "__main__":
    sys.exit(main())
