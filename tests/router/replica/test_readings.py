"""The readings of a replica: each works on a replica that has just been built."""

from __future__ import annotations

import asyncio

from router.replica.build import build
from router.replica.readings import control_plane, readings
from tests.fakes.local_replica import settings


def test_every_reading_answers_before_the_replica_has_started() -> None:
    async def scene() -> None:
        shown = readings(build(settings("http://127.0.0.1:1")))
        for name in shown.__slots__:
            reading = getattr(shown, name)
            assert (reading() if callable(reading) else reading) is not None, name

    asyncio.run(scene())


def test_the_control_plane_belongs_to_this_replica() -> None:
    async def scene() -> None:
        drains: list[bool] = []
        plane = control_plane(build(settings("http://127.0.0.1:1")), drain=lambda: drains.append(True))
        plane.drain()
        assert drains == [True]
        assert (plane.replica, plane.active(), plane.connections()) == ("r1", 0, 0)
        text, _ = await plane.render_metrics("")
        assert b'replica="r1"' in text

    asyncio.run(scene())
