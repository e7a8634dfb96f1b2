"""What is collected of a sampled request until it ends. Plain values: knows no span and no library. Times are on the
gateway's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from router.telemetry.trace_context import SAMPLED


class AttemptTrace:
    """One try at one pod, and the decision for that pod."""

    __slots__ = (
        "address",
        "candidates",
        "decided_at",
        "ended_at",
        "error",
        "expected_s",
        "hit_tokens",
        "model",
        "pod",
        "policy",
        "pool",
        "span_id",
        "started_at",
        "status",
    )

    def __init__(self, span_id: int, started_at: float, pod: str, address: str, pool: str, model: str) -> None:
        """`model` is the name that the pool's pods know."""
        self.span_id = span_id
        self.started_at = started_at
        self.pod = pod
        self.address = address
        self.pool = pool
        self.model = model
        self.status = 0
        """Of the pod's answer; 0 before one."""
        self.ended_at = 0.0
        self.policy = ""
        self.decided_at = 0.0
        """When room was reserved on the pod."""
        self.candidates = 0
        """Pods that could be picked then; 0 where that is not known."""
        self.hit_tokens = 0
        """Tokens of the prompt that the pod was expected to hold."""
        self.expected_s = 0.0
        """From its start to the first token; 0.0 where nothing was expected."""
        self.error = ""
        """The kind of the failure that ended it."""

    def end(self, now: float, error: str = "") -> None:
        """It is over; only the first call counts."""
        if not self.ended_at:
            self.ended_at, self.error = now, error


class RequestTrace:
    """The trace that a request belongs to, and what was collected of the request."""

    __slots__ = ("attempts", "flags", "kept", "parent_id", "sampled", "span_id", "state", "trace_id")

    def __init__(self, trace_id: int, parent_id: int, flags: int) -> None:
        """`parent_id` is the client's span, 0 where the trace begins here."""
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.flags = flags
        self.sampled = bool(flags & SAMPLED)
        self.span_id = 0
        """The request's own span."""
        self.state = b""
        """The client's `tracestate`."""
        self.kept: Sequence[bytes] = ()
        """The client's headers without the trace's own, to which each attempt adds its line."""
        self.attempts: list[AttemptTrace] = []

    @property
    def name(self) -> str:
        """The trace id as logs and exemplars have it."""
        return f"{self.trace_id:032x}"


NOT_TRACED: Final = RequestTrace(0, 0, 0)
"""Of requests that are not recorded and belong to no client's trace. Shared, so nothing is written to it."""


class RequestOutcome(NamedTuple):
    """How a request ended. `method`, `path` and `model` are the client's, cut to a bounded length."""

    method: str
    path: str
    known_path: bool
    """Whether the path is one of a known few, so that it can be part of a span's name."""
    model: str
    pool: str
    tenant: str
    status: int
    error: str
    """Empty where the client got a pod's answer."""
    stream: bool
    arrived_at: float
    ended_at: float
    waited: bool
    """Whether it was in a queue."""
    first_at: float
    """When the answer's first byte came; 0.0 without one."""
    last_at: float
    tokens: Mapping[str, int]
    """As far as the answer says: `prompt_tokens`, `completion_tokens`, `cached_tokens`."""


class PendingOutcome(Protocol):
    """An outcome that is not worked out yet: the loop only notes what it is made of. Fields are the outcome's."""

    @property
    def waited(self) -> bool: ...
    @property
    def first_at(self) -> float: ...

    def read(self) -> RequestOutcome:
        """Work it out, in the thread that exports it."""
