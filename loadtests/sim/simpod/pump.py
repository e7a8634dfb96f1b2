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
from loadtests.sim.simpod.script import Script

_MAX_LAG_S = 0.1


class Answer:
    """One request being answered: the script, its progress, and its outlet."""

    __slots__ = (
        "_cancel",
        "_outlet",
        "_sent",
        "admitted_at",
        "arrived_at",
        "cached",
        "first_at",
        "id",
        "made",
        "script",
    )

    def __init__(self, request_id: str, script: Script, outlet: Outlet, cancel: Callable[[Answer], None]) -> None:
        self.id, self.script = request_id, script
        self._outlet, self._cancel = outlet, cancel
        self.cached = self.made = self._sent = 0
        self.arrived_at = self.admitted_at = self.first_at = 0.0
        if script.stream is not None:
            outlet.open(b"text/event-stream; charset=utf-8")

    def token(self) -> None:
        """One more token was produced."""
        self.made += 1
        if self.script.stream is not None and not self._outlet.paused:
            self._flush()

    def finish(self) -> None:
        """All tokens were produced. A stream that is behind its engine ends when its client has caught up."""
        if self.script.stream is None:
            self._outlet.whole(200, b"application/json", self.script.whole(self.cached))

    def resume(self) -> None:
        """The client reads again."""
        if self.script.stream is not None:
            self._flush()

    def cancel(self) -> None:
        """The client is gone."""
        self._cancel(self)

    def _flush(self) -> None:
        stream, pieces, outlet = self.script.stream, self.script.pieces, self._outlet
        assert stream is not None
        if self._sent == 0 and self.made:
            for opening in stream.opening(self.cached):
                outlet.send(opening)
        while self._sent < self.made and not outlet.paused:
            piece = pieces[self._sent]
            self._sent += 1
            if self._sent < len(pieces):
                outlet.send(stream.before + piece + stream.after)
                continue
            outlet.send(stream.before + piece + stream.last_after)
            for closing in stream.closing(self.cached):
                outlet.send(closing)
            outlet.end()


class Pump:
    """Steps one engine as long as it has work."""

    def __init__(self, engine: Engine, meters: Meters, speed: float) -> None:
        """`speed` divides every duration."""
        self._engine, self._meters, self._speed = engine, meters, speed
        self._loop = asyncio.get_running_loop()
        self._answers: dict[RequestId, Answer] = {}
        self._timer: asyncio.Handle | None = None
        self._at = 0.0
        """When the step under way started, on the loop's clock."""
        self._ended_at = 0.0
        """When the last step was delivered; this and all that is measured is on `perf_counter`'s clock, because
        uvloop's counts milliseconds."""

    def submit(self, answer: Answer) -> None:
        """Hand a request to the engine. Requests of one turn of the loop start in one step."""
        answer.arrived_at = perf_counter()
        self._engine.submit(answer.script.request(answer.id, answer.arrived_at))
        self._answers[answer.id] = answer
        if self._timer is None:
            self._at, self._ended_at = self._loop.time(), answer.arrived_at
            self._timer = self._loop.call_soon(self._start)

    def cancel(self, answer: Answer) -> None:
        """The client is gone: the engine drops the request at once."""
        if self._answers.pop(answer.id, None) is not None:
            self._engine.cancel(answer.id)
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
            answer = self._answers[request_id]
            answer.cached, answer.admitted_at = cached, self._ended_at
        ends_at = self._at + step.duration_s / self._speed
        self._timer = self._loop.call_at(ends_at, self._deliver, step, ends_at)

    def _deliver(self, step: StepResult, ends_at: float) -> None:
        now, answers = perf_counter(), self._answers
        self._meters.step(len(step.tokens), step.prefill_tokens, now - self._ended_at)
        self._ended_at = now
        for request_id in step.tokens:
            answer = answers.get(request_id)
            if answer is not None:
                answer.token()
        for request_id in step.first_tokens:
            answer = answers.get(request_id)
            if answer is not None:
                answer.first_at = now
                self._meters.first_token(now - answer.arrived_at)
                answer.token()
        for request_id in step.finished:
            answer = answers.pop(request_id, None)
            if answer is not None:
                self._finish(answer, now)
        self._at = max(ends_at, self._loop.time() - _MAX_LAG_S)
        self._start()

    def _finish(self, answer: Answer, now: float) -> None:
        script = answer.script
        moments = (answer.arrived_at, answer.admitted_at, answer.first_at or now, now)
        tokens = (script.prompt_tokens, len(script.pieces), script.max_tokens)
        self._meters.request(Lifetime(*moments, *tokens, script.finish))
        answer.finish()
