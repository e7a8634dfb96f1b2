"""One replica as a process: a view, an index and the real store, driven by orders on standard input, a JSON object a
line; each is answered by one on standard output. `fleet.py` writes and reads them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import uvloop

from loadtests.bench.state.traffic import POOL, Stamp, StateLoad, pods
from loadtests.processes import procfs
from schedulers.types import PodId
from statesync.load.view import LoadView
from statesync.prefix.index import PrefixIndex
from statesync.settings import Sync
from statesync.store.open import open_store
from statesync.store.protocol import PolicyRecord
from statesync.tasks import spawn
from statesync.types import EngineReport, InflightNumbers, KnownPod, PrefixPage

MAX_BYTES = 4 << 30
KV_TOKENS = 1 << 30
LINE_BYTES = 1 << 28
FILL_BLOCKS = 64
"""Blocks a chain when an index is filled."""


class Receiver:
    """The `StateListener`: applies updates as the router does, and records when they arrived."""

    def __init__(self, view: LoadView, index: PrefixIndex, places: Mapping[PodId, int]) -> None:
        self._view, self._index, self._places = view, index, places
        self.received: list[Stamp] = []

    def replica_inflight(self, replica: str, numbers: Mapping[PodId, InflightNumbers], full: bool, /) -> None:
        self._view.set_remote(replica, numbers, full)
        now = time.monotonic()  # from now on a decision sees it
        self.received += [Stamp(self._places[pod], each.dispatched, now) for pod, each in numbers.items()]

    def replica_gone(self, replica: str, /) -> None:
        self._view.drop_remote(replica)

    def placed_elsewhere(self, pod: PodId, blocks: Sequence[int], /) -> None:
        self._index.place(pod, blocks)

    def forgotten_elsewhere(self, pod: PodId, /) -> None:
        self._index.forget(pod)

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float, /) -> None:
        self._view.report(pod, report, age_s)

    def models_changed_elsewhere(self, pod: PodId, /) -> None:
        pass

    def served_elsewhere(self, replica: str, served: Mapping[str, int], /) -> None:
        pass

    def pods_elsewhere(self, known: Mapping[PodId, KnownPod], /) -> None:
        pass

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        pass

    def checkpoint(self) -> Iterable[PrefixPage]:
        return self._index.pages()

    def restored(self, page: PrefixPage, /) -> None:
        self._index.restore(page)


class LoopWatch:
    """The longest blocking of the event loop, in wall time and in CPU time, to within a millisecond."""

    def __init__(self) -> None:
        self.blocked_s = self.blocked_cpu_s = 0.0
        self._last, self._last_cpu = time.monotonic(), time.thread_time()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            now, cpu = time.monotonic(), time.thread_time()
            self.blocked_s = max(self.blocked_s, now - self._last - 0.001)
            self.blocked_cpu_s = max(self.blocked_cpu_s, cpu - self._last_cpu)
            self._last, self._last_cpu = now, cpu

    def take(self) -> dict[str, float]:
        """The longest since the last call."""
        found = {"blocked_s": self.blocked_s, "blocked_cpu_s": self.blocked_cpu_s}
        self.blocked_s = self.blocked_cpu_s = 0.0
        return found


class Replica:
    """Executes the orders."""

    def __init__(self, name: str, url: str, pod_count: int, checkpoint_s: float) -> None:
        self._name = name
        members = pods(pod_count)
        self._pods = [pod.id for pod in members]
        self.store = open_store(url, Sync(checkpoint_s=checkpoint_s))
        shared = self.store.shared
        announce, age_s = (self.store.announce, self.store.age_s) if shared else (None, None)
        self.view = LoadView(time.monotonic, announce, age_s)
        self.view.set_pods(POOL, members)
        self.index = PrefixIndex(MAX_BYTES, KV_TOKENS)
        self.receiver = Receiver(self.view, self.index, {pod: at for at, pod in enumerate(self._pods)})
        self.traffic = StateLoad(self.view, self.index, self.store if shared else None, members, os.getpid())
        self.watch = LoopWatch()

    async def start(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Become warm; returns the time and the cost."""
        rss_before = procfs.read([os.getpid()]).rss_bytes
        self.watch.take()
        began, cpu = time.monotonic(), time.process_time()
        await self.store.start(self._name, self.receiver)
        warm_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        return {
            **{"warm_s": warm_s, "cpu_s": cpu_s, "rss_bytes": procfs.read([os.getpid()]).rss_bytes - rss_before},
            **{"counted_bytes": self.index.bytes_used, "blocks": self.index.blocks},
            **self.watch.take(),
        }

    async def fill(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Place `blocks` blocks, evenly; only the last chain is sent to the store, so that it writes a checkpoint."""
        rng = random.Random(1)
        for number in range(order["blocks"] // FILL_BLOCKS):
            chain = [rng.getrandbits(64) for _ in range(FILL_BLOCKS)]
            self.index.place(self._pods[number % len(self._pods)], chain)
            if number % 100 == 0:
                await asyncio.sleep(0)
        self.store.placed(self._pods[0], chain)
        self.watch.take()
        return {"blocks": self.index.blocks, "counted_bytes": self.index.bytes_used}

    async def watched(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The longest blocking of the loop since the last order."""
        return self.watch.take()

    async def load(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Run traffic, then let it end unless its requests are to stay open."""
        traffic, seconds = self.traffic, order["seconds"]
        before, requests, traffic.late_s = self.store.health(), traffic.requests, 0.0
        began, cpu = time.monotonic(), time.process_time()
        await traffic.run(order["rate"], seconds)
        lasted, cpu_s, after = time.monotonic() - began, time.process_time() - cpu, self.store.health()
        if not order["leave_open"]:
            await traffic.drain()
        whole = self.store.health()
        sent, traffic.sent = traffic.sent, []
        received, self.receiver.received = self.receiver.received, []
        return {
            **{"requests": traffic.requests - requests, "seconds": lasted, "cpu_s": cpu_s, "late_s": traffic.late_s},
            "round_trips": after.round_trips - before.round_trips,
            "bytes_sent": after.bytes_sent - before.bytes_sent,
            "bytes_received": after.bytes_received - before.bytes_received,
            "all_round_trips": whole.round_trips - before.round_trips,
            "placements_dropped": whole.placements_dropped,
            "age_s": self.store.age_s(),
            **({"sent": sent, "received": received} if order["stamps"] else {}),
        }

    async def numbers(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """In flight by pod: this replica's own count, and its view of all replicas."""
        own = self.traffic.inflight
        view = {status.pod.id: status.load.inflight for status in self.view.statuses(POOL)}
        return {"own": [own[pod] for pod in self._pods], "view": [view[pod] for pod in self._pods]}


async def serve(replica: Replica) -> None:
    """Execute orders until standard input ends."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    watching = spawn(replica.watch.run(), "loop watch")
    verbs = {
        each.__name__: each for each in (replica.start, replica.fill, replica.watched, replica.load, replica.numbers)
    }
    try:
        while line := await orders.readline():
            order = json.loads(line)
            answer = await verbs[order["do"]](order)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        watching.cancel()
        await replica.store.aclose()


def main(argv: Sequence[str]) -> None:
    """`python -m loadtests.bench.state.replica NAME URL PODS CHECKPOINT_S`."""
    name, url, pod_count, checkpoint_s = argv

    async def run() -> None:
        await serve(Replica(name, url, int(pod_count), float(checkpoint_s)))

    uvloop.run(run())


if __name__ == "__main__":
    main(sys.argv[1:])
