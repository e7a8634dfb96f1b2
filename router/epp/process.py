"""The process of `turnout epp`: a replica whose clients and pods are ext_proc streams. The composition root of the
picker; all else of it is a gateway's, built by `router/replica/build.py`.
"""

from __future__ import annotations

import asyncio

import msgspec
import uvloop

from router.epp.call import PickerParts
from router.epp.server import PickerServer
from router.epp.wires import Picked, PodWires
from router.replica.build import build
from router.replica.process import SignalHost, run
from router.replica.replica import Replica
from router.settings import Retries, Settings
from router.telemetry import logs

NO_RETRIES = Retries(attempts=0, budget_ratio=0.0, budget_min=0)


def as_picker(settings: Settings) -> Settings:
    """The settings of a gateway as a picker follows them: retries are the proxy's, and all streams are one client's."""
    limits = msgspec.structs.replace(settings.limits, max_connections_per_client=0)
    return msgspec.structs.replace(settings, retries=NO_RETRIES, limits=limits)


def create(settings: Settings, spare: int) -> Replica:
    """A picker that names `spare` endpoints after the first. Raises what a wrong setting raises."""
    settings = as_picker(settings)
    streams: dict[int, Picked] = {}
    parts = build(settings, dial=PodWires(streams).dial, picker=True)
    parts.network.write_batcher.active = ()  # no socket: what is written at once is read in the same turn
    gateway, listener = parts.dataplane.gateway, parts.dataplane.listener
    picker = PickerParts(gateway, listener, parts.state.view, parts.core.clock, spare)
    port = parts.ports.inference
    return Replica(parts, front=PickerServer(picker, port, settings.timeouts, parts.core.lifecycle, streams))


def serve(settings: Settings, spare: int) -> int:
    """Run one picker until a signal ends it; returns the exit status. Raises what a wrong setting raises."""
    logs.configure(settings.logging)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, spare))
    return 0


async def _serve(settings: Settings, spare: int) -> None:
    await run(create(settings, spare), SignalHost())
