"""Virtual time: a heap of events, the engines, and a router. It knows no policy and no report.

Engines may slow down, fail and be started while requests are open; `events.py` says when.

An engine that only decodes is left alone until one of its requests ends or it is asked for (`World.engine`). Then it
makes up for its steps at one go (`Engine.next_step(until=...)`), so that an hour of eight pods takes seconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from loadtests.sim.engine.model import Engine, EngineRequest, RequestTooLong, StepResult
from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.simulate.routing import HELD as HELD
from loadtests.sim.simulate.routing import Failure as Failure
from loadtests.sim.simulate.routing import Outcome as Outcome
from loadtests.sim.simulate.routing import Router as Router
from loadtests.sim.simulate.routing import Shed as Shed
from loadtests.sim.simulate.traces import Arrival, Trace

Act = Callable[[], None]

SHORTEST_S: Final = 1e-9
"""Less than any step takes."""


class _Open(NamedTuple):
    pod: int | None
    arrival: Arrival
    arrived: float


class _Lull(NamedTuple):
    """A time in which an engine only decodes and has not made up for its steps."""

    start: float
    end: float
    router: Router


class World:
    """The clock, the engines and the events."""

    def __init__(
        self, profiles: Sequence[EngineProfile], unit_tokens: int, *, later: int = 0, cached_in_usage: bool = True
    ) -> None:
        """`profiles` are the engines, of which the last `later` are started during the run. `unit_tokens` is what one
        of an arrival's `units` stands for: a multiple of each profile's block. `cached_in_usage`: whether answers
        report the cached tokens of their prompts."""
        pods = len(profiles)
        self.now = 0.0
        self.engines = [Engine(profile, unit_tokens=unit_tokens) for profile in profiles]
        """As of their last steps; `engine` returns one as of now."""
        self.serves = [at < pods - later for at in range(pods)]
        """Whether an engine's process is there, by pod."""
        self.started_at = [0.0] * pods
        self.lost = 0
        """Requests whose pod failed and whose client got an error; they have no outcome."""
        self.shed = 0
        """Requests that the router refused."""
        self.unserved: list[Arrival] = []
        """Those, and the lost ones."""
        self.retried = 0
        """Attempts after a request's first."""
        self._profiles = profiles
        self.step_ends = [0.0] * pods
        """When the step under way ends, by pod; in the past where a pod is idle."""
        self.on_end: Callable[[int], None] | None = None
        """Called with the number of each request that has ended or was refused: closed loops go on from here."""
        self._cached_in_usage = cached_in_usage
        self._outcomes: dict[int, Outcome] = {}
        self._rejected: set[int] = set()
        self._events: list[tuple[float, int, Act]] = []
        self._sequence = 0
        self._chores = 0
        """Repeating events in the heap; they do not keep a run from ending."""
        self._stepping = [False] * pods
        self._lulls: list[_Lull | None] = [None] * pods
        self._open: dict[int, _Open] = {}
        self._held: dict[int, _Open] = {}
        """Requests that wait at the router."""
        self._first: dict[int, float] = {}
        self._cached: dict[int, int] = {}

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    @property
    def open(self) -> int:
        """Requests that have arrived and not ended."""
        return len(self._open)

    @property
    def rejected(self) -> int:
        """Requests that no pod could ever hold; they have no outcome."""
        return len(self._rejected)

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """By number, of the requests that were served so far."""
        return self._outcomes

    def was_rejected(self, number: int) -> bool:
        """Whether the request is one of those."""
        return number in self._rejected

    def at(self, when: float, act: Act) -> None:
        """Call `act` at that time."""
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, act))

    def every(self, interval_s: float, first_s: float, act: Act) -> None:
        """Call `act` in every interval while other events are left."""

        def again() -> None:
            self._chores -= 1
            act()
            self.every(interval_s, self.now + interval_s, act)

        self._chores += 1
        self.at(first_s, again)

    def play(self, trace: Trace, router: Router, progress: Callable[[int], None] | None = None) -> list[Outcome]:
        """Let all requests of the trace arrive at their times, and end; the outcomes in order of arrival."""
        for number, arrival in enumerate(trace.arrivals):
            self._until(arrival.at_s)
            self.now = arrival.at_s
            self.arrive(number, arrival, router)
            if progress is not None:
                progress(number + 1)
        return self.settle()

    def settle(self) -> list[Outcome]:
        """Run until all requests have ended, including those that events add; the outcomes by number."""
        self._until(math.inf)
        return [self._outcomes[number] for number in sorted(self._outcomes)]

    def arrive(self, number: int, arrival: Arrival, router: Router) -> None:
        """A request arrives now, regardless of its own time: route it, queue it."""
        try:
            pod = router.route(number, arrival)
        except Shed:
            self.shed += 1
            self._give_up(number, arrival)
            return
        if pod == HELD:
            self._held[number] = _Open(None, arrival, self.now)
        else:
            self._send(number, _Open(pod, arrival, self.now), router)

    def release(self, number: int, pod: int, router: Router) -> None:
        """A request that the router held goes to a pod."""
        self._send(number, self._held.pop(number)._replace(pod=pod), router)

    def refuse(self, number: int) -> None:
        """The router refuses a request that it held."""
        self.shed += 1
        self._give_up(number, self._held.pop(number).arrival)

    def engine(self, pod: int) -> Engine:
        """The engine as it is now."""
        self._catch_up(pod)
        return self.engines[pod]

    def slow(self, pod: int, factor: float) -> None:
        """From its next step on the pod takes `factor` times its profile's durations."""
        self.engine(pod).profile = self._profiles[pod].slowed(factor)

    def fail(self, pod: int, router: Router) -> None:
        """The pod's process ends: nothing of it is left, and its requests go where the router sends them."""
        self.serves[pod] = self._stepping[pod] = False
        self._lulls[pod] = None
        self.engines[pod] = Engine(self._profiles[pod], unit_tokens=self.engines[pod].unit_tokens)
        self.step_ends[pod] = self.now
        for number in [number for number, request in self._open.items() if request.pod == pod]:
            request = self._open.pop(number)
            self._cached.pop(number, None)
            failure = Failure.RESET if self._first.pop(number, None) is None else Failure.CUT
            self._send_again(number, request, failure, router)

    def start(self, pod: int) -> None:
        """A new process, as empty as its engine."""
        self.serves[pod] = True
        self.started_at[pod] = self.now

    def _send(self, number: int, request: _Open, router: Router, *, transferred: int = 0) -> None:
        pod, arrival, arrived = request
        if pod is None:
            self.lost += 1
            self._give_up(number, arrival)
            return
        if not self.serves[pod]:
            self._send_again(number, request, Failure.REFUSED, router)
            return
        prompt, answer = arrival.prompt_tokens, arrival.output_tokens
        # Engines take a lower number first, clients of the gateway a higher one.
        sent = EngineRequest(number, prompt, arrival.units, answer, arrived, -arrival.priority, transferred)
        try:
            self.engine(pod).submit(sent)
        except RequestTooLong:
            self._rejected.add(number)
            router.finished(number, None)
            self._call_on_end(number)
            return
        self._open[number] = request
        self.wake(pod, router)

    def send(
        self,
        number: int,
        pod: int,
        arrival: Arrival,
        router: Router,
        *,
        arrived: float | None = None,
        transferred: int = 0,
    ) -> None:
        """Send a request that arrived at that time, by default now, to a pod that has `transferred` of its prompt."""
        at = self.now if arrived is None else arrived
        self._send(number, _Open(pod, arrival, at), router, transferred=transferred)

    def wake(self, pod: int, router: Router) -> None:
        """The pod has got work."""
        if not self._stepping[pod]:
            self._step(pod, router)

    def _send_again(self, number: int, request: _Open, failure: Failure, router: Router) -> None:
        pod = router.failed(number, failure)
        self.retried += pod is not None
        self._send(number, request._replace(pod=pod), router)

    def _until(self, when: float) -> None:
        """Process the events up to that time; with `inf`, until only repeating ones are left."""
        events = self._events
        while events and events[0][0] <= when and (when < math.inf or len(events) > self._chores):
            self.now, _, act = heapq.heappop(events)
            act()

    def _step(self, pod: int, router: Router) -> None:
        engine = self.engines[pod]
        lull_s = engine.only_decodes_s()
        if lull_s:
            lull = self._lulls[pod] = _Lull(self.now, self.now + lull_s, router)
            self._stepping[pod] = True
            self.at(lull.end, lambda: self._catch_up(pod) if self._lulls[pod] is lull else None)
            return
        step = engine.next_step(self.now)
        self._stepping[pod] = step is not None
        if step is not None:
            self._take(pod, self.now + step.duration_s, step, router)

    def _catch_up(self, pod: int) -> None:
        """Make up for the steps of a lull, up to the one under way."""
        lull = self._lulls[pod]
        if lull is None:
            return
        self._lulls[pod] = None
        # Not a step more than the lull has, whatever the rounding.
        step = self.engines[pod].next_step(lull.start, min(self.now, lull.end - SHORTEST_S))
        assert step is not None, "requests decode"
        self._take(pod, max(self.now, lull.start + step.duration_s), step, lull.router)

    def _take(self, pod: int, end: float, step: StepResult, router: Router) -> None:
        engine = self.engines[pod]
        self.step_ends[pod] = end
        self.at(end, lambda: self._stepped(pod, engine, step, router))

    def _stepped(self, pod: int, engine: Engine, step: StepResult, router: Router) -> None:
        if self.engines[pod] is not engine:
            return  # the process ended meanwhile
        for request, cached in step.admitted:
            self._cached[int(request)] = cached
        for request in step.first_tokens:
            number = int(request)
            self._first[number] = self.now
            router.first_token(number)
        for request in step.finished:
            cached = self._served(pod, int(request))
            router.finished(int(request), cached if self._cached_in_usage else None)
            self._call_on_end(int(request))
        # The end of a request may have caused an arrival at this pod; the next step includes it.
        self._step(pod, router)

    def _served(self, pod: int, number: int) -> int:
        """Note the outcome; returns the cached tokens of the prompt."""
        _, arrival, arrived = self._open.pop(number)
        cached = self._cached.pop(number)
        self._outcomes[number] = Outcome(
            pod,
            arrived,
            self._first.pop(number) - arrived,
            self.now - arrived,
            arrival.prompt_tokens,
            arrival.output_tokens,
            cached,
            arrival.priority,
            arrival.slo,
        )
        return cached

    def _give_up(self, number: int, arrival: Arrival) -> None:
        """The request gets no answer."""
        self.unserved.append(arrival)
        self._call_on_end(number)

    def _call_on_end(self, number: int) -> None:
        if self.on_end is not None:
            self.on_end(number)
