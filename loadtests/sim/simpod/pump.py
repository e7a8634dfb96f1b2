"""Runs an engine model on the event loop's clock and sends the scripted answers as its tokens are produced.

The model's virtual time is the loop's time divided by `speed`. A step starts at the end of the step before,
not when its timer fired, so that coarse timers do not slow an engine down; more lag than 0.1 s is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from loadtests.sim.engine.model import Engine, RequestId, StepResult
from loadtests.sim.simpod.faults import Outlet
from loadtests.sim.simpod.metrics import Lifetime, Meters
from loadtests.sim.simpod.script import Choice, Script

_MAX_LAG_S = 0.1


class Lane:
    """One choice of an answer: its request to the engine, and how far it got."""

    __slots__ = ("admitted_at", "answer", "choice", "event", "first_at", "id", "last", "made", "sent")

    def __init__(self, request_id: str, choice: Choice, answer: Answer) -> None:
        self.id, self.choice, self.answer = request_id, choice, answer
        self.event, self.last = choice.event, choice.tokens
        self.made = self.sent = 0
        self.admitted_at = self.first_at = 0.0


class Answer:
    """One request being answered: the script, its progress, and its outlet."""

    __slots__ = (
        "_cancel",
        "_outlet",
        "_running",
        "_stream",
        "_unsent",
        "arrived_at",
        "cached",
        "lanes",
        "opened",
        "script",
    )

    def __init__(self, request_id: str, script: Script, outlet: Outlet, cancel: Callable[[Answer], None]) -> None:
        self.script, self._stream = script, script.stream
        self._outlet, self._cancel = outlet, cancel
        self.cached: int | None = None
        """Prompt tokens found in the prefix cache, by the choice that was admitted first."""
        self.arrived_at = 0.0
        names = [request_id, *(f"{request_id}-{at}" for at in range(1, len(script.choices)))]
        self.lanes = [Lane(name, choice, self) for name, choice in zip(names, script.choices, strict=True)]
        self._running = self._unsent = len(self.lanes)
        self.opened = False
        if self._stream is not None:
            outlet.open(b"text/event-stream; charset=utf-8")

    def token(self, lane: Lane) -> None:
        """One more token was produced."""
        lane.made += 1
        if self._stream is not None and not self._outlet.paused:
            self._flush(lane)

    def finish(self) -> None:
        """A choice is complete. A stream that is behind its engine ends when its client has caught up."""
        self._running -= 1
        if self._running:
            return
        if self.script.kept is not None:
            self.script.kept(self.cached or 0)
        if self._stream is None:
            self._outlet.whole(200, b"application/json", self.script.whole(self.cached or 0))

    def resume(self) -> None:
        """The client reads again."""
        if self._stream is not None:
            for lane in self.lanes:
                self._flush(lane)

    def cancel(self) -> None:
        """The client is gone."""
        self._cancel(self)

    def _flush(self, lane: Lane) -> None:
        outlet, event = self._outlet, lane.event
        assert event is not None
        if not self.opened and lane.made:
            self._open()
        while lane.sent < lane.made and not outlet.paused:
            data = event(lane.sent)
            lane.sent += 1
            if data:
                outlet.send(data)
            if lane.sent == lane.last:
                self._close()

    def _open(self) -> None:
        assert self._stream is not None
        self.opened = True
        for opening in self._stream.opening(self.cached or 0):
            self._outlet.send(opening)

    def _close(self) -> None:
        """A choice was sent; the stream ends after the last of them."""
        assert self._stream is not None
        self._unsent -= 1
        if not self._unsent:
            for closing in self._stream.closing(self.cached or 0):
                self._outlet.send(closing)
            self._outlet.end()


class Pump:
    """Steps one engine as long as it has work."""

    def __init__(self, engine: Engine, meters: Meters, speed: float) -> None:
        """`speed` divides every duration."""
        self._engine, self._meters, self._speed = engine, meters, speed
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[RequestId, Lane] = {}
        self._timer: asyncio.Handle | None = None
        self._at = 0.0
        """When the step under way started, on the loop's clock."""
        self._ended_at = 0.0
        """When the last step was delivered; this and all that is measured is on `perf_counter`'s clock, because
        uvloop's counts milliseconds."""
        self.steps = 0
        self.late_s = 0.0
        """How late steps were delivered, added up: where this machine is too slow for the engine."""
        self.lost_s = 0.0
        """Time by which the engine fell behind for good, for lag of more than `_MAX_LAG_S`."""

    @property
    def load(self) -> int:
        """Requests under way: what the engine computes and what waits."""
        return self._engine.running + self._engine.waiting

    def submit(self, answer: Answer) -> None:
        """Hand a request to the engine. Requests of one turn of the loop start in one step."""
        answer.arrived_at = perf_counter()
        for lane in answer.lanes:
            self._engine.submit(lane.choice.request(lane.id, answer.arrived_at))
            self._lanes[lane.id] = lane
        if self._timer is None:
            self._at, self._ended_at = self._loop.time(), answer.arrived_at
            self._timer = self._loop.call_soon(self._start)

    def cancel(self, answer: Answer) -> None:
        """The client is gone: the engine drops the request at once."""
        for lane in answer.lanes:
            if self._lanes.pop(lane.id, None) is not None:
                self._engine.cancel(lane.id)
                self._meters.finished["abort"] += 1

    def stop(self) -> None:
        """No more steps."""
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        step = self._engine.next_step(self._at)
        if step is None:
            self._timer = None
            return
        for request_id, cached in step.admitted:
            lane = self._lanes[request_id]
            lane.admitted_at = self._ended_at
            if lane.answer.cached is None:
                lane.answer.cached = cached
        ends_at = self._at + step.duration_s / self._speed
        self._timer = self._loop.call_at(ends_at, self._deliver, step, ends_at)

    def _deliver(self, step: StepResult, ends_at: float) -> None:
        now, lanes = perf_counter(), self._lanes
        self._meters.step(len(step.tokens), step.prefill_tokens, now - self._ended_at)
        self._ended_at = now
        for request_id in step.tokens:
            lane = lanes.get(request_id)
            if lane is not None:
                lane.answer.token(lane)
        for request_id in step.first_tokens:
            lane = lanes.get(request_id)
            if lane is not None:
                lane.first_at = now
                self._meters.first_token(now - lane.answer.arrived_at)
                lane.answer.token(lane)
        for request_id in step.finished:
            lane = lanes.pop(request_id, None)
            if lane is not None:
                self._finish(lane, now)
        lag = self._loop.time() - ends_at
        self.steps += 1
        self.late_s += max(0.0, lag)
        if lag > _MAX_LAG_S:
            self.lost_s += lag - _MAX_LAG_S
            ends_at += lag - _MAX_LAG_S
        self._at = ends_at
        self._start()

    def _finish(self, lane: Lane, now: float) -> None:
        choice, answer = lane.choice, lane.answer
        moments = (answer.arrived_at, lane.admitted_at, lane.first_at or now, now)
        tokens = (choice.prompt_tokens, choice.tokens, choice.max_tokens)
        self._meters.request(Lifetime(*moments, *tokens, choice.finish))
        answer.finish()
