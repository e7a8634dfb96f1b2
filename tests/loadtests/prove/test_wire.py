"""Two replicas read each other's state, or it is noticed that they do not. Real replicas, engines and Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests.bench.prove.regressions import ROOT, copy_with
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.sim_pods import SimPods
from loadtests.prove import wire
from loadtests.prove.installation import find
from loadtests.prove.load import Rotation
from loadtests.prove.replicas import Replicas, ready

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]


def kinds(new: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The faults of a replica of the tree beside one of `new`."""
    monkeypatch.setattr(wire, "WITHIN_S", 5.0)

    async def checked() -> set[str]:
        with (
            RedisServer(directory) as redis,
            SimPods(3, "paced", directory) as pods,
            Replicas(redis.url, "wire", pods.urls, directory) as fleet,
        ):
            old, newer = (fleet.start(name, find(str(each), directory)) for name, each in (("OLD", ROOT), ("NEW", new)))
            await ready(old, newer)
            load = Rotation()
            faults = [fault async for fault in wire.check(old, newer, load)]
            load.close()
            faults += [fault for each in (old, newer) for fault in await asyncio.to_thread(wire.unreadable, each)]
            return {fault.kind for fault in faults}

    return asyncio.run(checked())


def test_a_message_with_another_tag_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = kinds(copy_with("unreadable-message", tmp_path), tmp_path, monkeypatch)
    assert "messages are not readable" in found
