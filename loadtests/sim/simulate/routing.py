"""What the simulated world asks of a router, and what it says of each request. No behaviour."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple, Protocol

from loadtests.sim.simulate.traces import Arrival
from schedulers.types import NO_SLO, Slo

HELD: Final = -1
"""In place of a pod: the request waits at the router, which releases or refuses it later."""


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
        """The index of the pod that gets request `number`, which arrives now; HELD where it waits, None where no pod
        can take it. Raises Shed."""

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
