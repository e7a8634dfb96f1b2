"""Reads scripts as a client would: the whole answer, and the events of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.script import PodSpec, Script

SPEC = PodSpec("pod-1", ("tiny", "other"), PROFILES["tiny"]._replace(max_model_len=8192))
HI = [{"role": "user", "content": "hi"}]


def whole(script: Script, cached: int = 0) -> Any:
    """The answer in one piece."""
    return msgspec.json.decode(script.whole(cached))


def events(script: Script, cached: int = 0) -> list[bytes]:
    """The events of a streamed answer; choices one after the other."""
    stream = script.stream
    assert stream is not None
    made = []
    for choice in script.choices:
        assert choice.event is not None
        made += [event for event in map(choice.event, range(choice.tokens)) if event]
    return [*stream.opening(cached), *made, *stream.closing(cached)]


def fields(event: bytes) -> Any:
    """The object in an event without a name."""
    assert event.startswith(b"data: ") and event.endswith(b"\n\n")
    return msgspec.json.decode(event[6:])


def named(script: Script, cached: int = 0) -> list[tuple[str, Any]]:
    """The events of a stream whose events have names."""
    parsed = []
    for event in events(script, cached):
        name, _, data = event.removeprefix(b"event: ").partition(b"\ndata: ")
        parsed.append((name.decode(), msgspec.json.decode(data)))
    return parsed
