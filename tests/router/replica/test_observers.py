"""Observers exist only with their settings, and together they pass an answer on."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from router.replica.observers import Observers, open_observers
from router.settings import Recording, Settings, Telemetry
from statesync.load.view import LoadView
from tests.fakes.memory_client_and_pods import ok
from tests.fakes.memory_gateway import Rig
from tests.fakes.otlp_receiver import otlp_receiver


def opened(view: LoadView | None = None, **sections: Recording | Telemetry) -> Observers:
    bits = random.Random(1)
    settings = Settings(**sections)  # type: ignore[arg-type]
    return open_observers(
        settings, "r1", time.monotonic, lambda: bits.getrandbits(64), view or LoadView(time.monotonic)
    )


def test_without_their_settings_there_are_none() -> None:
    observers = opened()
    assert (observers, observers.tap) == ((None, None, None), None)
    observers.start()
    asyncio.run(observers.stop())


def test_a_recorder_alone_is_the_tap(tmp_path: Path) -> None:
    observers = opened(recording=Recording(path=str(tmp_path / "a.jsonl")))
    assert observers.recorder is not None
    assert observers.tap == observers.recorder.tap


def test_a_request_is_recorded_and_traced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with otlp_receiver() as receiver, Rig() as rig:
        observers = opened(
            rig.view,
            recording=Recording(path=str(path)),
            telemetry=Telemetry(otlp_endpoint=receiver.url, sample_ratio=1.0),
        )
        assert observers.tracer is not None
        observers.start()
        rig.rebuild(rig.gateway.deps._replace(tap=observers.tap, ended=observers.tracer.ended))
        client = rig.asks()
        rig.asked().sends(ok())
        assert client.answer().status == 200
        asyncio.run(observers.stop())
        assert len(path.read_text().splitlines()) == 1
        assert [span.name for span in receiver.spans] == ["POST /v1/chat/completions", "decision", "chat m", "relay"]
