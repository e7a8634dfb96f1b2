"""Virtual time: a heap of events, the engines, and a router. It knows no policy and no report.

Engines may slow down, fail and be started while requests are open; `events.py` says when.

Between two arrivals an engine takes its pure decode steps at one go (`Engine.next_step(until=...)`), so that an hour of
eight pods takes seconds.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from loadtests.sim.engine.model import Engine, EngineRequest, RequestTooLong, StepResult
from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.simulate.traces import Arrival, Trace
from schedulers.types import NO_SLO, Slo

Act = Callable[[], None]


class Failure(Enum):
    """How an attempt at a pod failed."""

    REFUSED = "refused"
    """No process was there."""
    RESET = "reset"
    """The process ended before the first token."""
    CUT = "cut"
    """The process ended after the first token, which the client has."""


class Shed(RuntimeError):
    """The router refuses a request: no pod gets it."""


class Router(Protocol):
    """Picks the pods: the real policies behind simulated replicas, or a peer's algorithm."""

    def route(self, number: int, arrival: Arrival, /) -> int | None:
        """The index of the pod that gets request `number`, which arrives now; None where no pod can take it.
        Raises Shed."""

    def first_token(self, number: int, /) -> None:
        """The first token of a request is back."""

    def finished(self, number: int, cached_tokens: int | None, /) -> None:
        """A request has ended, or is longer than the pod takes.

        `cached_tokens` of its prompt were in the pod's cache, says the usage at the answer's end; None if it does not.
        """

    def failed(self, number: int, failure: Failure, /) -> int | None:
        """An attempt failed: the pod of the next one; None if the client gets an error, and the request has ended."""

    def joined(self, pod: int, /) -> None:
        """Discovery has a new pod, or one that had failed serves again."""

    def left(self, pod: int, /) -> None:
        """Discovery has no more of this pod, which finishes its requests."""


class Outcome(NamedTuple):
    """One served request. Times are seconds from its arrival."""

    pod: int
    at_s: float
    """When it arrived."""
    ttft_s: float
    e2e_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    priority: int = 0
    slo: Slo = NO_SLO

    @property
    def met(self) -> bool:
        """Whether it kept what the request was promised."""
        return self.slo.met(self.ttft_s, self.itl_s)

    @property
    def itl_s(self) -> float:
        """Mean time between two of its tokens; 0 where there is only one."""
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else 0.0


class _Open(NamedTuple):
    pod: int | None
    arrival: Arrival
    arrived: float


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
        self._changes: list[float] = []
        """When the engines change, sorted."""
        self._events: list[tuple[float, int, Act]] = []
        self._sequence = 0
        self._chores = 0
        """Repeating events in the heap; they do not keep a run from ending."""
        self._stepping = [False] * pods
        self._next_arrival: float | None = None
        self._open: dict[int, _Open] = {}
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

    def was_rejected(self, number: int) -> bool:
        """Whether the request is one of those."""
        return number in self._rejected

    def at(self, when: float, act: Act) -> None:
        """Call `act` at that time."""
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, act))

    def change(self, when: float, act: Act) -> None:
        """Call `act` at that time; it changes an engine, so no engine steps past it in one go."""
        insort(self._changes, when)
        self.at(when, act)

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
        arrivals = trace.arrivals
        for number, arrival in enumerate(arrivals):
            self._next_arrival = arrival.at_s
            self._until(arrival.at_s)
            self.now = arrival.at_s
            self._next_arrival = arrivals[number + 1].at_s if number + 1 < len(arrivals) else math.inf
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
        self._send(number, _Open(pod, arrival, self.now), router)

    def slow(self, pod: int, factor: float) -> None:
        """From its next step on the pod takes `factor` times its profile's durations."""
        self.engines[pod].profile = self._profiles[pod].slowed(factor)

    def fail(self, pod: int, router: Router) -> None:
        """The pod's process ends: nothing of it is left, and its requests go where the router sends them."""
        self.serves[pod] = self._stepping[pod] = False
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

    def _send(self, number: int, request: _Open, router: Router) -> None:
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
        sent = EngineRequest(number, prompt, arrival.units, answer, arrived, -arrival.priority)
        try:
            self.engines[pod].submit(sent)
        except RequestTooLong:
            self._rejected.add(number)
            router.finished(number, None)
            self._call_on_end(number)
            return
        self._open[number] = request
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
        step = self.engines[pod].next_step(self.now, self._horizon())
        self._stepping[pod] = step is not None
        if step is not None:
            engine = self.engines[pod]
            self.step_ends[pod] = self.now + step.duration_s
            self.at(self.step_ends[pod], lambda: self._stepped(pod, engine, step, router))

    def _horizon(self) -> float:
        """The earliest time of another arrival or change: the trace's next one; in a closed loop, the next event."""
        if self._next_arrival is None:
            return self._events[0][0] if self._events else math.inf
        while self._changes and self._changes[0] <= self.now:
            del self._changes[0]
        return min(self._next_arrival, self._changes[0]) if self._changes else self._next_arrival

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
