"""What the stages of the data plane are built from, as one value. `router/replica/build.py` makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from router.access.identity import AccessControl
from router.dataplane.admission import Admission
from router.dataplane.dispatch import Dispatch
from router.dataplane.exchange import AnswerRelay, Exchange, Placement
from router.dataplane.http.edge import RequestHandler
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.upstream_connection import Receiver
from router.dataplane.local_routes import LocalRoutes
from router.dataplane.relay import Relay
from router.dataplane.request.openai import Call
from router.dataplane.request.routes import Routes
from router.dataplane.request.targets import TargetResolver
from router.dataplane.session_homes import SessionHomes
from router.dataplane.state_owners import StateOwners
from router.dataplane.tenant_limits import TenantLimits
from router.dataplane.tenant_shares import TenantShares
from router.dataplane.wire_headers import WireHeaders
from router.errors import GatewayError
from router.lifecycle import Lifecycle
from router.settings import Settings
from router.settings import Targets as TargetSettings
from router.telemetry.metrics import Metrics
from schedulers.types import PodId
from statesync.engines.health import Outcome
from statesync.engines.model_reader import LookWaiter
from statesync.load.view import LoadView
from statesync.store.memory import MemoryStore


class ModelLists(Protocol):
    """What knows the pods' lists of models: `ModelReader`."""

    def look_again(self, waiter: LookWaiter, /, *, patient: bool) -> bool:
        """See `ModelReader`."""
        ...

    def had(self, model: str, /) -> bool:
        """See `ModelReader`."""
        ...

    def refused(self, pod: PodId, model: str, /) -> None:
        """See `ModelReader`."""


class PairSender(Protocol):
    """Sends requests that two pods serve; `PairStage` implements it."""

    def takes(self, exchange: Exchange, placement: Placement, /, *, fresh: bool) -> bool:
        """Whether the placement has two pods; then the exchange is under way."""
        ...

    def pods_gone(self, failing: AbstractSet[PodId], /) -> None:
        """Take back from these pods the prompts that they were to compute."""


class AnswerEnds(Protocol):
    """Ends exchanges: `Completion`."""

    def refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """See `Completion`."""

    def defect(self, exchange: Exchange) -> None:
        """See `Completion`."""

    def end(self, exchange: Exchange, status: int, error: GatewayError | None = None) -> None:
        """See `Completion`."""


class ResumableStreams(Protocol):
    """Keeps streams for clients that come back: `StreamFollower`."""

    def take(self, exchange: Exchange, /) -> bool:
        """See `StreamFollower`."""
        ...

    def hand_over(self, exchange: Exchange, /) -> bool:
        """See `StreamKeeper`."""
        ...


class ServeStreams(Protocol):
    """Makes the part of the gateway that keeps streams: `StreamFollower.serve`."""

    def __call__(
        self, handler: RequestHandler[Exchange], completion: AnswerEnds, place: Callable[[Exchange], None], /
    ) -> ResumableStreams:
        """See `StreamFollower`."""
        ...


class GatewayDeps(NamedTuple):
    """What the gateway and its stages are built from."""

    settings: Settings
    clock: Callable[[], float]
    """Monotonic seconds."""
    lifecycle: Lifecycle
    local: LocalRoutes
    routes: Routes
    admission: Admission
    dispatch: Dispatch
    upstream: Upstream
    view: LoadView
    identity: WireHeaders
    metrics: Metrics
    outcome: Callable[[PodId, Outcome, float], None]
    """Reports to the health tracker how an attempt ended."""
    unsettled: Collection[PodId]
    """Pods whose success is reported too: see `HealthTracker.unsettled`."""
    tap: Callable[[Exchange, Relay], Receiver] | None = None
    """Called when an attempt begins: wraps the relay in receivers that observe the answer; None without any."""
    ended: Callable[[Exchange, AnswerRelay | None, int, GatewayError | None], None] | None = None
    """Observes the end of every request: see `Tracer.ended`."""
    learn: Callable[[Call, Placement, bytes], None] | None = None
    """Takes the last bytes of each answer with status 200 to a prompt of at least one block."""
    targets: TargetResolver = TargetResolver(TargetSettings())
    """Which clients may choose where a request goes."""
    lists: ModelLists | None = None
    """The pods' lists of models; None where they are not read."""
    owners: StateOwners = StateOwners(MemoryStore())
    """Which pods have the state behind ids."""
    homes: SessionHomes | None = None
    """The pods that sessions wait for; None where no pool has `affinity: hold`."""
    shares: TenantShares | None = None
    """What each tenant got; None where there are no tenants."""
    access: AccessControl | None = None
    """Says whose a request is; None where `auth` is not configured."""
    limits: TenantLimits | None = None
    """Charges requests to their tenant's limits; None where `auth` is not configured."""
    pairs: Callable[..., PairSender] | None = None
    """Makes what sends requests to two pods: see `PairStage`; None where no pool has `disaggregation`."""
    streams: ServeStreams | None = None
    """See `StreamFollower.serve`; None where no pool has streams that are resumed."""
