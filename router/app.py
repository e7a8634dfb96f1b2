"""The process around a replica: its event loop, its signals, its garbage collector, its exit status."""

from __future__ import annotations

import asyncio
import gc
import signal

import uvloop

from router.replica import Replica
from router.settings import Settings
from router.telemetry import logs
from statesync.tasks import spawn


def serve(settings: Settings) -> int:
    """Run one replica until it is told to stop; the process's exit status. Raises what a wrong setting raises."""
    logs.configure(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(Replica(settings)))
    return 0


async def run(replica: Replica) -> None:
    """A replica's whole life, ended by SIGTERM or SIGINT; a second signal ends it at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replica.stop)
    starting = loop.create_task(replica.start(), name="start")
    stopping = spawn(_until(replica.stop_asked), "stop-asked")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        if starting.exception() is not None:
            stopping.cancel()
            await replica.close()  # what did open would keep the process from ending
        starting.result()
        gc.collect()
        gc.freeze()  # what start-up built lives as long as the process: a full collection need not walk it
        # The oldest generation is left alone: it holds the prefix index, whose walk stops the loop for 0.1 s, and the
        # data plane breaks its cycles by hand.
        gc.set_threshold(20_000, 20, 1_000_000)
        await stopping
    else:
        starting.cancel()
    await replica.drain()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
