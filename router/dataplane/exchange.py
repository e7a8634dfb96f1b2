"""A request and its answer: everything whose lifetime is one request. No behaviour beyond reading itself.

The stages fill it in, from the top down; `edge.py` makes it, `gateway.py` walks it through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from router.dataplane.request.openai import Call
from schedulers.types import Pod, PodId, RequestInfo

if TYPE_CHECKING:
    from router.dataplane.fallback import FallbackState
    from router.dataplane.http.edge import Edge
    from router.dataplane.http.request_parser import RequestHead
    from router.dataplane.relay import Relay
    from router.errors import GatewayError
    from router.settings import Timeouts
    from router.telemetry.metrics import PoolMetrics
    from router.trials.arm import Arm
    from statesync.types import Charge


class Exchange:
    """One request on its way, and what became of it."""

    __slots__ = (
        "arm",
        "arrived",
        "asked",
        "attempts",
        "body",
        "call",
        "chain",
        "charge",
        "deadline",
        "done",
        "edge",
        "fallback_state",
        "header_map",
        "http11",
        "info",
        "keep_alive",
        "kept",
        "method",
        "metrics",
        "path",
        "pod",
        "policy",
        "pool",
        "queued",
        "refusal",
        "relay",
        "request_id",
        "sent_at",
        "stale_tries",
        "target",
        "timeouts",
        "tried",
        "wait_until",
    )

    def __init__(self, edge: Edge, head: RequestHead, body: bytes, arrived: float) -> None:
        # 1 edge: what the client sent
        self.edge = edge
        self.method, self.target, self.http11, self.keep_alive, self.kept, self.header_map = head
        self.path = self.target.partition(b"?")[0]
        self.body = body
        self.arrived = arrived
        self.request_id = b""
        self.refusal: GatewayError | None = None
        # 2 openai: what it means
        self.call: Call | None = None
        self.asked = ""
        """The model as the client calls it; `call.model` is what the pods call it."""
        self.pool = "-"
        self.metrics: PoolMetrics | None = None
        self.timeouts: Timeouts | None = None
        self.fallback_state: FallbackState | None = None
        """Where else it was tried; None as long as its own pool serves it."""
        # 3 admission
        self.queued = False
        self.wait_until = 0.0
        self.deadline = 0.0
        # 4 dispatch: where it goes; anew with every attempt
        self.info: RequestInfo | None = None
        self.chain: Sequence[int] = ()
        self.pod: Pod | None = None
        self.policy = "-"
        self.charge: Charge | None = None
        self.arm: Arm | None = None
        """The arm of a canary that it was given to; None but while one runs."""
        self.tried: frozenset[PodId] = frozenset()
        self.attempts = 0
        self.stale_tries = 0
        # 5, 6 upstream and relay: the attempt under way
        self.relay: Relay | None = None
        self.sent_at = 0.0
        self.done = False

    def __repr__(self) -> str:
        where = self.pod.id if self.pod else "-"
        asked = b" ".join((self.request_id, self.method, self.path)).decode(errors="replace")
        return f"<Exchange {asked} pool={self.pool} pod={where} attempts={self.attempts}{' done' if self.done else ''}>"

    @property
    def speaks_anthropic(self) -> bool:
        """Whether the client expects Anthropic's error shape."""
        return self.path.startswith(b"/v1/messages")
