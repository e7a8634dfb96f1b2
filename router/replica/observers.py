"""What observes the requests of a replica, built from its settings: the recorder and traces. Their hooks are the data
plane's only knowledge of them, and None where neither is configured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from router import __version__
from router.dataplane.exchange import Exchange
from router.dataplane.http.upstream_connection import Receiver
from router.dataplane.relay import Relay
from router.dataplane.tracer import Tracer
from router.recording.recorder import Recorder
from router.settings import Settings
from statesync.load.view import LoadView

if TYPE_CHECKING:
    from router.telemetry.tracing import TraceExport

SERVICE = "turnout"


class Observers(NamedTuple):
    """The recorder is not started yet; the thread that exports traces, which sleeps, is."""

    recorder: Recorder | None
    tracer: Tracer | None
    export: TraceExport | None
    """Both None where nothing is traced."""

    @property
    def tap(self) -> Callable[[Exchange, Relay], Receiver] | None:
        """See `GatewayDeps.tap`."""
        if self.tracer is not None:
            return self.tracer.tap  # which passes the recorder's on
        return self.recorder.tap if self.recorder is not None else None

    def start(self) -> None:
        """Start the threads that are not started yet."""
        if self.recorder is not None:
            self.recorder.start()

    async def stop(self) -> None:
        """Write and send what they hold, within seconds."""
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.stop)
        if self.export is not None:
            await self.export.aclose()


def open_observers(
    settings: Settings, replica: str, clock: Callable[[], float], rng: Callable[[], int], view: LoadView
) -> Observers:
    """Those that the settings ask for. Raises ImportError without the packages of `turnout[otel]`; the checks of the
    configuration explain that."""
    recorder = Recorder(settings.recording) if settings.recording.path else None
    telemetry = settings.telemetry
    if not telemetry.otlp_endpoint:
        return Observers(recorder, None, None)
    # Only here: the library takes 0.2 s to import, and may not be installed.
    from router.telemetry.spans import SpanMaker
    from router.telemetry.tracing import open_export, state_of

    about = {"service.name": SERVICE, "service.instance.id": replica, "service.version": __version__}
    export = open_export(telemetry.otlp_endpoint, about, SpanMaker(state_of, rng, clock))
    tap = recorder.tap if recorder is not None else None
    return Observers(recorder, Tracer(export.take, telemetry.sample_ratio, clock, time.time, rng, view, tap), export)
