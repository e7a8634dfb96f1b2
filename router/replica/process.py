"""The process around a replica: its event loop, its signals, its garbage collector, its exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import Protocol

import uvloop

from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Settings
from router.telemetry import logs
from statesync.tasks import spawn

_log = logging.getLogger("turnout.replica")


class ProcessHost(Protocol):
    """Decides when the replica of this process ends."""

    def attach(self, replica: Replica, /) -> None:
        """The replica is about to start, in the running loop."""

    def serving(self) -> None:
        """The replica accepts requests."""


class SignalHost:
    """Ends a replica by signals: SIGTERM or SIGINT drains it, a second one ends it at once."""

    def attach(self, replica: Replica, /) -> None:
        """Install the signal handlers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: replica.stop(hurry=replica.stop_asked.is_set()))
        loop.add_signal_handler(signal.SIGHUP, self._cannot_roll)

    def serving(self) -> None:
        """Nothing waits for it."""

    def _cannot_roll(self) -> None:
        _log.warning(
            "SIGHUP rolls the workers of `serve --workers 2` and more; this is one process, which stays as it is"
        )


def serve(settings: Settings) -> int:
    """Run one replica until a signal ends it; returns the exit status. Raises what a wrong setting raises."""
    logs.configure(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Replica(build(settings)), SignalHost()))
    return 0


async def run(replica: Replica, host: ProcessHost) -> None:
    """A replica's whole life, which `host` ends."""
    loop = asyncio.get_running_loop()
    _freeze_objects()
    host.attach(replica)
    starting = loop.create_task(replica.start(), name="start")
    stopping = spawn(_until(replica.stop_asked), "stop-asked")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        if starting.exception() is not None:
            stopping.cancel()
            await replica.close()  # a port that is open would keep the process from ending
        starting.result()
        host.serving()
        _freeze_objects()
        await stopping
    else:
        starting.cancel()
    await replica.drain()


def _freeze_objects() -> None:
    """Exclude the objects that exist now from garbage collection: they live as long as the process. Takes 60 ms after
    the imports, so it is done before anything is served, and 5 ms once more after the start.

    A collection stops the loop for up to 1 us an object made since the last one, so the youngest generation is
    collected often: at 20,000 objects it took 10 to 50 ms. The oldest generation is not collected: it holds the prefix
    index, whose walk takes 0.1 s, and the data plane breaks its own cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 5, 1_000_000)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
