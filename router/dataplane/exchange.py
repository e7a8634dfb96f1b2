"""A request and its answer, as the stages pass it on. Holds state, grouped by lifetime; decides nothing.

`Exchange` lives as long as the request, `RoutedRequest` as long as one pool has it, `Placement` as long as one attempt
at a pod. A fall-back replaces the `RoutedRequest`, a retry the `Placement`; each is one reference.
Knows neither how bytes reach the client nor how they come from a pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from router.access.limits import LimitCharge
from router.access.tenants import Tenant
from router.dataplane.fair_share import ServiceCharge
from router.dataplane.http.edge import Edge
from router.dataplane.http.request_head import RequestHead
from router.dataplane.http.responses import CLOSE, KEEP_ALIVE
from router.dataplane.request.openai import Call
from router.dataplane.request.routes import Route
from router.dataplane.usage import Usage, usage_of
from router.errors import PodFailure
from router.settings import Timeouts
from router.telemetry.metrics import PoolMetrics
from router.telemetry.request_trace import RequestTrace
from router.trials.arm import Arm
from schedulers.types import Pod, PodId, RequestInfo, Slo
from statesync.load.pod_state import Charge

NO_POD: Final = "no_pod"
"""The pool has no pod that can be used, or its policy rejects the request."""
SATURATED: Final = "saturated"
"""Every pod is at its `max_inflight`."""
FAILED: Final = "failed"
"""The pool's pods failed the request before the first byte of an answer."""

POD_LINE: Final = "\n"
"""Stands between pool and pod in the name of a queue for one pod."""

REASON_WORDS: Final = {NO_POD: "has no pod for it", SATURATED: "is full", FAILED: "failed it"}


class Placement:
    """What one dispatch decided and reserved; never changed. No NamedTuple: its fields are read eight times a request,
    and when compiled each read of a NamedTuple costs 100 instructions more."""

    __slots__ = ("charge", "info", "pod", "policy")

    def __init__(self, pod: Pod, policy: str, charge: Charge, info: RequestInfo) -> None:
        self.pod = pod
        self.policy = policy
        self.charge = charge
        self.info = info
        """The request as the policy saw it."""


class RoutedRequest:
    """The request as one pool gets it."""

    __slots__ = (
        "arm",
        "attempts",
        "body",
        "call",
        "chain",
        "deadline",
        "info",
        "meter",
        "metrics",
        "movable",
        "pins",
        "pool",
        "slo",
        "timeouts",
        "waits",
    )

    def __init__(
        self, pool: str, call: Call, body: bytes, timeouts: Timeouts, metrics: PoolMetrics, deadline: float
    ) -> None:
        """`call` and `body` name the model as the pool's pods call it."""
        self.pool = pool
        self.call = call
        self.body = body
        self.timeouts = timeouts
        self.metrics = metrics
        self.deadline = deadline
        """When the request must be over, on the clock of `Exchange.arrived`; 0.0 for never."""
        self.info: RequestInfo | None = None
        """The request as policies see it; made by the first dispatch in this pool."""
        self.chain: Sequence[int] = ()
        """Block hashes of the prompt, from the same dispatch; empty for a prompt shorter than a block."""
        self.arm: Arm | None = None
        """The arm of the pool's canary that this request belongs to; None without a canary."""
        self.attempts = 0
        """Attempts in this pool."""
        self.pins: Sequence[PodId] | None = None
        """The only pods that may get the request, in this order: the one that has its state, or those to ask for it.
        None lets the policy choose."""
        self.waits = False
        """Whether it waits for its pod while that is not there, as `affinity: hold` says."""

        self.slo: Slo | None = None
        """The times that it was promised; None without any."""
        self.meter: AnswerMeter | None = None
        """Measures the answer of an attempt against them."""
        self.movable: MovableAnswer | None = None
        """What is kept of a stream so that it outlives its pod; None where the pool does not move streams."""

    @property
    def line(self) -> str:
        """The queue in which it waits: its pool's, or that of its own pod."""
        return self.pool if not self.pins else f"{self.pool}{POD_LINE}{self.pins[0]}"

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.call.stream


class MovableAnswer(Protocol):
    """A streamed answer that may go on on another pod: `failover/stream.py`."""

    @property
    def can_move(self) -> bool:
        """Whether another pod could go on with it, as far as is known."""
        ...

    @property
    def goes_on(self) -> bool:
        """Whether the client has the beginning of the answer."""
        ...

    def original(self) -> bytes:
        """The request as a pool gets it that does not move streams."""
        ...


class AnswerMeter(Protocol):
    """What is known of an answer's times."""

    def result(self, slo: Slo, /) -> str | None:
        """Which of the promised times were kept, as `SLO_RESULTS` names it; None where that cannot be said."""
        ...

    def tokens(self) -> int:
        """Tokens of the answer: those that its usage has, else an estimate."""
        ...


UNROUTED: Final = RoutedRequest("-", Call("", (), 0, 0, False, ""), b"", Timeouts(), PoolMetrics(), 0.0)
"""Stands for the pool of an exchange that has none yet. Shared, so nothing is written to it."""


class FallbackState:
    """The pools that were tried for a request which its own pool did not serve, and why each did not."""

    __slots__ = ("home", "refused", "tried")

    def __init__(self, home: Route, *, refused: bool) -> None:
        """`refused`: the client asked for no fall-back."""
        self.home = home
        """The route without a fall-back."""
        self.refused = refused
        self.tried: dict[str, str] = {}
        """Pool -> why it did not serve the request: `NO_POD`, `SATURATED`, `FAILED`. The home pool comes first."""

    def summary(self, pool: str) -> str:
        """Which pools were tried: the end of an error message about a request that is in `pool`; may be empty."""
        if self.refused:
            return f" The request belongs to pool {self.home.pool!r} and refuses fall-back (x-turnout-fallback)."
        tried = self.tried if pool in self.tried else {**self.tried, pool: FAILED}
        if tried.keys() <= {self.home.pool}:
            return ""
        return f" Pools tried: {', '.join(f'{name!r} {REASON_WORDS[why]}' for name, why in tried.items())}."


class AnswerRelay(Protocol):
    """The relay of an attempt, as the exchange knows it."""

    status: int
    """The pod's status; 0 before its answer began."""
    begun: bool
    """Whether the client has been sent anything."""
    sse: bool
    """Whether the answer is a stream of events."""
    first_at: float
    """When its first byte came, on the clock of `Exchange.arrived`; 0.0 before that."""
    tail: bytes
    """The end of the answer, as far as it has come."""

    def pause(self) -> None:
        """Read no more from the pod for now."""

    def resume(self) -> None:
        """Read from the pod again."""

    def cancel(self) -> None:
        """Close the pod's connection."""

    def conclude(self) -> bool:
        """The client left: whether it had what it waits for, so that the answer counts as complete."""

    def break_off(self, failure: PodFailure, /) -> None:
        """End a begun answer so that the client cannot take it for complete."""


class Exchange:
    """One request, from its first byte to the end of its answer."""

    __slots__ = (
        "_usage",
        "arrived",
        "attempts",
        "body",
        "charge",
        "done",
        "edge",
        "fallback_state",
        "header_map",
        "http11",
        "keep_alive",
        "kept",
        "key",
        "method",
        "model",
        "path",
        "placement",
        "queued",
        "refs",
        "relay",
        "request_id",
        "routed",
        "service",
        "stale_tries",
        "target",
        "tenant",
        "trace",
        "tried",
        "upgrade",
        "wait_until",
    )

    def __init__(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float) -> None:
        # the client's request
        self.edge = edge
        self.method, self.target, self.http11, self.keep_alive, self.kept, self.header_map = head
        self.path = self.target.partition(b"?")[0]
        self.body = body
        """As the client sent it; empty once `routed` has it."""
        self.arrived = arrived
        """When the request was complete, in seconds on the gateway's clock."""
        self.upgrade = False
        """Whether it asks for a WebSocket and its connection is given over to it: see `upgrade.py`."""
        self.request_id = b""
        self.tenant: Tenant | None = None
        """Whose request it is; None where `auth` is not configured, and before the client is known."""
        self.key = ""
        """The name of its key; empty without a tenant."""
        self.charge: LimitCharge | None = None
        """What it takes of its tenant's limits; None without any."""
        self.service: ServiceCharge | None = None
        """What it takes of its tenant's share of the pool, from its first dispatch to its end."""
        self.model = ""
        """The model as the client calls it."""
        self.refs: Sequence[str] | None = None
        """The ids of state on pods that it names; None where its path has no state, and its answer gives no ids out."""
        # the pool that has it
        self.routed = UNROUTED
        self.fallback_state: FallbackState | None = None
        """None until a fall-back is considered."""
        self.queued = False
        self.wait_until = 0.0
        """When a queued request is refused, on the clock of `arrived`."""
        # attempts
        self.attempts = 0
        self.stale_tries = 0
        """Attempts that failed because the pod had closed the kept-alive connection."""
        self.tried: frozenset[PodId] = frozenset()
        """Pods that failed the request."""
        self.placement: Placement | None = None
        """That of the last attempt."""
        self.relay: AnswerRelay | None = None
        """That of the attempt under way."""
        self.trace: RequestTrace | None = None
        """Its trace; None until the first decision, and where nothing is traced."""
        self.done = False
        """Whether the answer has ended; nothing is written or counted after that."""
        self._usage: Usage | None = None

    def __repr__(self) -> str:
        pod = self.placement.pod.id if self.placement is not None else "-"
        name = b" ".join((self.request_id, self.method, self.path)).decode(errors="replace")
        done = " done" if self.done else ""
        return f"<Exchange {name} pool={self.routed.pool} pod={pod} attempts={self.attempts}{done}>"

    def serve_under(self, path: bytes) -> None:
        """Go on as if the client had asked for this path; the query stays."""
        self.target = path + self.target[len(self.path) :]
        self.path = path

    @property
    def deadline(self) -> float:
        """When the request must be over, on the clock of `arrived`; 0.0 for never."""
        return self.routed.deadline

    @property
    def connection_line(self) -> bytes:
        """The answer's `Connection` header: what HTTP/1.1 does without one is keep-alive, and HTTP/1.0 close."""
        if not self.keep_alive:
            return CLOSE
        return b"" if self.http11 else KEEP_ALIVE

    def usage(self, relay: AnswerRelay) -> Usage:
        """What the end of the answer reports. It is read once for all who ask, and `relay` is that of its last
        attempt."""
        if self._usage is None:
            self._usage = usage_of(relay.tail)
        return self._usage

    def pause(self) -> None:
        """The client is slow: read no more from the pod for now."""
        self.edge.writable = False  # of a kept stream it is another object than the connection
        if self.relay is not None:
            self.relay.pause()

    def resume(self) -> None:
        """The client takes bytes again: read from the pod again."""
        self.edge.writable = True
        if self.queued:
            self.edge.expires_at = self.wait_until
        if self.relay is not None:
            self.relay.resume()
