"""Replicas made of a store on a real Redis server and a listener, on a loop whose time a test may advance."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, NamedTuple

import redis as redis_py

from schedulers.types import PodId
from statesync.settings import Sync
from statesync.store.redis.session import RENEWALS
from statesync.store.redis.store import RedisStore
from statesync.types import InflightNumbers, PrefixPage
from tests.fakes.recording_listener import RecordingListener
from tests.fakes.redis_server import RedisServer
from tests.fakes.virtual_time import RunningClock, pass_time, real_moment, run_on

A, B = PodId("10.0.0.1:8000"), PodId("10.0.0.2:8000")

STEADY: Final = Sync(lease_s=60.0, timeout_s=60.0, checkpoint_s=0.2)
"""Leases and timeouts that no busy machine exceeds; a test advances the time to make them expire."""
RARE: Final = Sync(lease_s=60.0, timeout_s=60.0, checkpoint_s=1e6)
"""`STEADY` without checkpoints."""
VICTIM: Final = "victim"
VICTIM_SHARE: Final = {A: InflightNumbers(7, 70, 7, 7)}


@contextlib.contextmanager
def client(server: RedisServer) -> Iterator[Any]:
    """A connection of the official client."""
    with redis_py.Redis(port=server.port) as admin:
        yield admin


def open_at(server: RedisServer, config: Sync = STEADY) -> RedisStore:
    """A store that is not started."""
    return RedisStore.open(f"redis://127.0.0.1:{server.port}", config)


class Replica(NamedTuple):
    """A store and its listener."""

    store: RedisStore
    listener: RecordingListener


@contextlib.asynccontextmanager
async def replica(server: RedisServer, name: str, config: Sync = STEADY) -> AsyncIterator[Replica]:
    """A started replica for the block."""
    made = Replica(open_at(server, config), RecordingListener())
    await made.store.start(name, made.listener)
    try:
        yield made
    finally:
        await made.store.aclose()


Scene = Callable[[RedisStore, RecordingListener, RedisStore, RecordingListener], Coroutine[None, None, None]]


def play(server: RedisServer, scene: Scene, config: Sync = STEADY) -> None:
    """Run a scene with two replicas, `left` and `right`."""

    async def run() -> None:
        async with replica(server, "left", config) as left, replica(server, "right", config) as right:
            await scene(*left, *right)

    run_on(RunningClock(), run())


def pass_renewal(config: Sync = STEADY) -> None:
    """Advance the time until all renew their leases and look for expired ones."""
    pass_time(config.lease_s / RENEWALS)


async def lose_link(*stores: RedisStore) -> None:
    """Advance the time until no replica has a connection: the server does not answer."""
    while any(store.health().connected for store in stores):
        pass_renewal()
        await real_moment()


def page(pod: PodId, *hashes: int) -> PrefixPage:
    """A page of an index."""
    return PrefixPage(pod, array("Q", hashes).tobytes(), bytes(len(hashes)))


_VICTIM = f"""
import asyncio, sys
from statesync.store.redis.store import RedisStore
from statesync.settings import Sync
from statesync.types import InflightNumbers
from tests.fakes.recording_listener import RecordingListener

async def main():
    store = RedisStore.open(sys.argv[1], Sync(lease_s=0.5, timeout_s={STEADY.timeout_s}))
    await store.start({VICTIM!r}, RecordingListener())
    for pod, numbers in {VICTIM_SHARE!r}.items():
        store.announce(pod, numbers)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextlib.contextmanager
def victim(server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    """A replica in its own process, with a lease of half a second in real time, for tests that kill or pause it."""
    process = subprocess.Popen([sys.executable, "-c", _VICTIM, f"redis://127.0.0.1:{server.port}"])
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def has_lapsed(admin: Any, name: str) -> bool:
    """Whether the server holds no valid lease of this replica."""
    ends_ms, (seconds, microseconds) = admin.zscore("{turnout}:leases", name), admin.time()
    return ends_ms is None or ends_ms <= seconds * 1000 + microseconds / 1000
