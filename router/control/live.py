"""The live state for the console: `GET /admin/live`, a stream of server-sent events. It is made only while it is
viewed, once for all viewers, and each gets the rows that changed since the frame that it had before.

A frame is a JSON object: `at`, `replica`, `pools`, `tenants`, `decisions` (those new since), `pods` (rows that changed,
in the order of `fields`) and `gone` (ids). The first one has `fields` and every pod.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Final

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from router.control import live_rows
from router.control.answers import ControlError
from router.control.decisions import explain
from router.control.plane import ControlPlane
from router.control.tokens import Caller
from router.lifecycle import Phase, PhaseChange
from router.plugins.samples import Samples
from statesync.tasks import spawn

EVERY_S: Final = 1.0
MOST_EVERY_S: Final = 10.0
SHARE: Final = 0.01
"""Of the event loop at most: where making a frame takes longer, frames come less often."""

MOST_VIEWERS: Final = 20
DECISIONS: Final = 3
"""Decisions explained in a frame."""

_SLICE: Final = 100
"""Pods between two turns of the event loop: 0.2 ms."""

_HEADERS: Final = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]

Pause = Callable[[float], Awaitable[None]]


class LiveState:
    """The last frame's parts, each pod's row with the number of the frame that changed it."""

    def __init__(self, plane: ControlPlane, sleep: Pause = asyncio.sleep) -> None:
        """Makes nothing before the first viewer comes."""
        self._plane = plane
        self._sleep = sleep
        self._viewers = 0
        self._making: asyncio.Task[None] | None = None
        self._made = asyncio.Event()
        self._closed = False
        self._samples: Samples | None = None
        self.number = 0
        """Of the last frame."""
        self._rows: dict[object, tuple[live_rows.Row, int]] = {}
        self._gone: dict[object, int] = {}
        self._same: dict[str, object] = {}
        """What every viewer gets of the last frame."""
        self._explained = 0
        self._encoded: dict[int, bytes] = {}
        """Frames made of the last one, by the frame that their viewers had before."""
        plane.lifecycle.listen(self._phase)

    @contextlib.contextmanager
    def viewer(self) -> Iterator[None]:
        """Keep the state made while the block runs. Raises ControlError for one viewer too many."""
        if self._viewers >= MOST_VIEWERS:
            raise ControlError(503, "too_many_viewers", f"{MOST_VIEWERS} viewers have the console open on this replica")
        self._viewers += 1
        if self._making is None or self._making.done():
            self._samples = self._plane.live.open_samples()
            self._making = spawn(self._make_all(), "console")
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers and self._making is not None:
                self._making.cancel()
                self._forget()

    async def after(self, number: int) -> bytes:
        """The changes since a frame, once there are any; empty if the replica ends. 0 is before the first one."""
        while self.number == number or not self.number:
            if self._closed or self._making is None or self._making.done():
                return b""
            await self._made.wait()
        if number not in self._encoded:
            self._encoded[number] = msgspec.json.encode(self._changes(number))
        return self._encoded[number]

    def _changes(self, number: int) -> dict[str, object]:
        first = live_rows.first_frame(self._plane) if not number else {}
        rows = [row for row, changed in self._rows.values() if changed > number]
        gone = [pod for pod, changed in self._gone.items() if changed > number] if number else []
        return {"frame": self.number, **first, **self._same, "pods": rows, "gone": gone}

    async def _make_all(self) -> None:
        try:
            while True:
                spent_s = await self._make()
                await self._sleep(min(MOST_EVERY_S, max(EVERY_S, spent_s / SHARE)))
        finally:
            self._wake()  # viewers do not wait for what does not come

    async def _make(self) -> float:
        """Make a frame; returns the seconds that it took of the event loop."""
        plane, began = self._plane, perf_counter()
        counts = live_rows.request_counts(plane.live.metrics)
        statuses = plane.view.statuses()
        spent_s = perf_counter() - began
        rows: list[live_rows.Row] = []
        for start in range(0, len(statuses), _SLICE):
            await asyncio.sleep(0)
            began = perf_counter()
            rows += live_rows.rows_of(statuses[start : start + _SLICE], plane.live.accuracy, counts)
            spent_s += perf_counter() - began
        await asyncio.sleep(0)
        began = perf_counter()
        self._keep(rows)
        self._same = {
            "at": plane.clock(),
            "replica": live_rows.replica(plane),
            "pools": live_rows.pools(plane, rows, counts),
            "tenants": live_rows.tenants(plane),
            "decisions": self._decisions(),
        }
        self._encoded.clear()
        self._wake()
        return spent_s + perf_counter() - began

    def _keep(self, rows: list[live_rows.Row]) -> None:
        """Number what differs from the frame before."""
        self.number += 1
        before, self._rows = self._rows, {}
        for row in rows:
            last = before.pop(row[0], None)
            self._rows[row[0]] = last if last is not None and last[0] == row else (row, self.number)
            self._gone.pop(row[0], None)
        self._gone.update(dict.fromkeys(before, self.number))
        if len(self._gone) > len(rows) + 1000:
            self._gone = {pod: changed for pod, changed in self._gone.items() if changed == self.number}

    def _decisions(self) -> list[dict[str, object]]:
        """The newest decisions since the frame before."""
        new = self._samples.after(self._explained)[-DECISIONS:] if self._samples is not None else ()
        if new:
            self._explained = new[-1].number
        found = self._plane.live.decider
        return [
            explain(each, found(each.example.snapshot.pool, str(getattr(each.answer, "policy", ""))), perf_counter)
            for each in new
        ]

    def _forget(self) -> None:
        """The last viewer left."""
        self._plane.live.close_samples()
        self._samples = self._making = None
        self.number = self._explained = 0
        self._rows, self._gone, self._same, self._encoded = {}, {}, {}, {}

    def _phase(self, change: PhaseChange) -> None:
        if change.after is Phase.CLOSED:
            self._closed = True
            self._wake()

    def _wake(self) -> None:
        """Let the viewers that wait look again."""
        self._made.set()
        self._made = asyncio.Event()


class LiveStream(Response):
    """The answer to one viewer."""

    def __init__(self, live: LiveState, caller: Caller) -> None:
        super().__init__()
        self._live = live
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the viewer leaves or the replica ends."""
        gone = spawn(_left(receive), "console-viewer")
        number, role = 0, msgspec.json.encode({"role": self._caller.role.word, "name": self._caller.name})
        try:
            with self._live.viewer():
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await send(_event(b"caller", role))
                while not gone.done() and (frame := await self._live.after(number)):
                    number = self._live.number
                    await send(_event(b"frame", frame))
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()


def _event(name: bytes, data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": b"event: %s\ndata: %s\n\n" % (name, data), "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def live_routes(plane: ControlPlane) -> APIRouter:
    """The stream."""
    router = APIRouter(prefix="/admin", tags=["console"])
    state = LiveState(plane)

    @router.get("/live", response_class=Response)
    async def live(request: Request) -> Response:
        """The live state for the console, as server-sent events: pods, pools, tenants, sampled decisions."""
        return LiveStream(state, request.state.caller)

    return router
