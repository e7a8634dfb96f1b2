"""The process around a replica: its event loop, its signals, its garbage collector, its exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from typing import Protocol

import uvloop

from router.replica.replica import Replica
from router.settings import Settings
from router.telemetry import logs
from statesync.tasks import spawn

_log = logging.getLogger("turnout.replica")


class ProcessHost(Protocol):
    """Who tells a replica to go, and hears that it came."""

    def attach(self, replica: Replica, /) -> None:
        """It is about to start, in the running loop."""

    def serving(self) -> None:
        """It accepts requests."""


class SignalHost:
    """A replica of its own: SIGTERM or SIGINT drain it, a second one ends it at once."""

    def attach(self, replica: Replica, /) -> None:
        """See Guide."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, replica.stop)
        loop.add_signal_handler(signal.SIGHUP, self._cannot_roll)

    def serving(self) -> None:
        """See Guide: nobody wants to know."""

    def _cannot_roll(self) -> None:
        _log.warning(
            "SIGHUP rolls the workers of `serve --workers 2` and more; this is one process, which stays as it is"
        )


def serve(settings: Settings) -> int:
    """Run one replica until it is told to stop; the process's exit status. Raises what a wrong setting raises."""
    logs.configure(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Replica(settings)))
    return 0


async def run(replica: Replica, guide: ProcessHost | None = None) -> None:
    """A replica's whole life, which its guide ends; without one the process's signals do."""
    loop = asyncio.get_running_loop()
    _spare_what_is_here()
    guide = guide or SignalHost()
    guide.attach(replica)
    starting = loop.create_task(replica.start(), name="start")
    stopping = spawn(_until(replica.stop_asked), "stop-asked")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        if starting.exception() is not None:
            stopping.cancel()
            await replica.close()  # what did open would keep the process from ending
        starting.result()
        guide.serving()
        _spare_what_is_here()
        await stopping
    else:
        starting.cancel()
    await replica.drain()


def _spare_what_is_here() -> None:
    """Let no collection walk what exists now: it lives as long as the process. Takes 60 ms after the imports, so it is
    done before anything is served, and 5 ms once more after the start.

    A collection stops the loop for up to 1 us an object that came since the last one, so it is called early: at 20,000
    objects it took 10 to 50 ms. The oldest generation is left alone: it holds the prefix index, whose walk takes
    0.1 s, and the data plane breaks its cycles by hand.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 5, 1_000_000)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
