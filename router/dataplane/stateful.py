"""Stage 2b: requests about state on pods. Finds the pod that has what a request names, by its path or its body, and
pins the request to it; `dispatch.pin` reserves room there. Other requests pass through to the next stage.

The one place in the data plane where a request may wait for the shared store: it names an id that this replica has not
seen, and without an owner it could only be answered by luck. If no replica knows the id, the pods are asked in turn
until one does not answer 404.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from router.access.tenants import Tenant
from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, RoutedRequest
from router.dataplane.request import owned_state, state_refs
from router.dataplane.request.openai import Call
from router.dataplane.request.paths import METHODS, is_management
from router.dataplane.request.routes import Route
from router.dataplane.request.tenant_routes import check_batch
from router.dataplane.routing import Routing, check_encoding
from router.errors import GatewayError, MissingModel, NoPodAvailable, OwnerGone, StateNotFound
from schedulers.types import PodId
from statesync.errors import StoreUnavailable, UnknownPod
from statesync.tasks import spawn

MOST_ASKED: Final = 16
"""Pods that are asked for state of which nothing is known."""

_PREFIX: Final = b"/v1/"
_MODELS: Final = b"/v1/models"
_NO_CALL: Final = Call("", (), 1, 0, False, "")


class StatefulRequests:
    """Routes requests by the state that they name."""

    def __init__(
        self,
        deps: GatewayDeps,
        routing: Routing,
        attempts: Attempts,
        completion: Completion,
        go_on: Callable[[Exchange], None],
        place: Callable[[Exchange], None],
    ) -> None:
        """`go_on` takes an exchange through the stages of a request that names no state, `place` through those after
        routing. Both may raise GatewayError."""
        self._owners = deps.owners
        self._routes = deps.routes
        self._view = deps.view
        self._admission = deps.admission
        self._routing = routing
        self._budget = attempts.budget
        self._completion = completion
        self._go_on = go_on
        self._place = place

    def take(self, exchange: Exchange) -> bool:
        """Take a request over that names state. False for any other; if its answer may give ids out, these are
        learned. Raises GatewayError."""
        path = exchange.path if exchange.tenant is None else owned_state.plain(exchange.path)
        if exchange.method not in METHODS or not path.startswith(_PREFIX) or path.startswith(_MODELS):
            return False
        if is_management(path) or not self._routes.pools:
            return False
        if exchange.tenant is not None:
            return self._take_own(exchange, exchange.tenant, path)
        named = state_refs.in_body(exchange.header_map.get(b"content-type", b""), exchange.body)
        thing = state_refs.thing_in(path)
        ids = [thing, *named] if thing else [*state_refs.in_path(path), *named]
        if ids or not state_refs.keeps_nothing(exchange.body):
            _learn_ids(exchange, ids)
        if not ids:
            return False
        owner = self._owners.known(ids)
        if owner is None and self._owners.shared:
            self._admission.admit(exchange)  # a drain waits for it
            spawn(self._look_up(exchange, ids), "owner of an id")
            return True
        return self._routed(exchange, owner, asks=bool(named)) and self._send(exchange)

    def _take_own(self, exchange: Exchange, tenant: Tenant, path: bytes) -> bool:
        """As `take`, for a tenant: what it names must be its own. Nothing is asked for at the pods."""
        check_encoding(exchange.header_map)
        check_batch(exchange.method, path, tenant)
        kind = exchange.header_map.get(b"content-type", b"")
        ids = owned_state.named(exchange.method, path, kind, exchange.body)
        gives = owned_state.gives_ids_out(exchange.method, path)
        if gives and (ids or not state_refs.keeps_nothing(exchange.body)):
            _learn_ids(exchange, ids)
        if not ids:
            return False
        owners = self._owners.made_by(tenant.name, ids)
        if None in owners and self._owners.shared:
            self._admission.admit(exchange)  # a drain waits for it
            spawn(self._find_own(exchange, tenant, ids), "owner of a tenant's id")
            return True
        self._route_own(exchange, tenant, ids, owners)
        return self._send(exchange)

    async def _find_own(self, exchange: Exchange, tenant: Tenant, ids: list[str]) -> None:
        try:
            owners = await self._owners.find_made_by(tenant.name, ids)
            if exchange.done:
                return  # the client left
            self._route_own(exchange, tenant, ids, owners)
            self._budget.requests += 1
            self._place(exchange)
        except (TimeoutError, StoreUnavailable):
            message = "Whose the things are that the request names cannot be read now; try again."
            self._completion.refuse(exchange, NoPodAvailable(message, retry_after_s=1.0))
        except GatewayError as error:
            self._completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)

    def _route_own(self, exchange: Exchange, tenant: Tenant, ids: list[str], owners: Sequence[PodId | None]) -> None:
        """Route the exchange to the owner of the first id. Raises StateNotFound for an id of another tenant, and in the
        same words for one that no one made."""
        routes = self._routing.permitted(exchange, tenant)
        for id, owner in zip(ids, owners, strict=True):
            if owner is None or self._pool_of(owner) not in routes.pools:
                raise StateNotFound(f"Nothing is kept here under the id {id[:200]!r}.")
        self._routing.check_model(exchange, routes)
        owner = owners[0]
        assert owner is not None
        self._route(exchange, self._pool_of(owner))
        exchange.routed.pins = (owner,)

    async def _look_up(self, exchange: Exchange, ids: list[str]) -> None:
        try:
            owner = await self._owners.find(ids)
            if exchange.done:
                return  # the client left
            named = state_refs.in_body(exchange.header_map.get(b"content-type", b""), exchange.body)
            if self._routed(exchange, owner, asks=bool(named)):
                self._budget.requests += 1
                self._place(exchange)
            else:
                self._go_on(exchange)
        except GatewayError as error:
            self._completion.refuse(exchange, error)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)

    def _send(self, exchange: Exchange) -> bool:
        self._admission.admit(exchange)
        self._budget.requests += 1
        self._place(exchange)
        return True

    def _routed(self, exchange: Exchange, owner: PodId | None, *, asks: bool) -> bool:
        """Route the exchange to the owner, or to the pods to ask. False where nothing is to be asked for: the id in the
        path is none. `asks`: the body names state."""
        if owner is not None:
            self._route(exchange, self._pool_of(owner))
            exchange.routed.pins = (owner,)
            return True
        if not asks and (not state_refs.thing_in(exchange.path) or (exchange.body and exchange.method == b"POST")):
            return False
        self._route(exchange, "")
        pods = self._to_ask(exchange.routed)
        if not pods:
            raise NoPodAvailable("There is no pod that could have what this request names.", retry_after_s=1.0)
        exchange.routed.pins = tuple(pods[:MOST_ASKED])
        return True

    def _to_ask(self, routed: RoutedRequest) -> list[PodId]:
        """The pods that may have state of which nothing is known: those that may serve the model, if there is one."""
        pool, model = routed.pool, routed.call.model
        pools = [pool] if model else list(self._routes.pools)
        statuses = [each for name in pools if name in self._view.pools() for each in self._view.statuses(name)]
        pods = [status.pod.id for status in sorted(statuses, key=lambda status: not status.routable)]
        return [pod for pod in pods if not (model and self._routes.lacks(pool, pod, model))] or pods

    def _route(self, exchange: Exchange, pool: str) -> None:
        """Set `routed` to this pool, or to that of its model. The model, if it names one, is the client's matter."""
        if exchange.body and not state_refs.thing_in(exchange.path):
            try:
                self._routing.understand(exchange, looked=True)
            except MissingModel:
                if not self._routing.seen_by(exchange.tenant).may_use(""):
                    raise
                # It is a batch, for example: its file says where it goes.
            else:
                routed = exchange.routed
                if pool not in ("", routed.pool):
                    way = self._routes.within(pool, exchange.model, routed.call.model)
                    exchange.routed = self._routing.routed_to(exchange, way, routed.call, routed.body, routed.deadline)
                return
        way = Route(pool or next(iter(self._routes.pools)), "")
        exchange.routed = self._routing.routed_to(exchange, way, _NO_CALL, exchange.body, 0.0)
        exchange.body = b""

    def _pool_of(self, owner: PodId) -> str:
        try:
            return self._view.pool_of(owner)
        except UnknownPod:
            raise OwnerGone(
                f"What this request names was on pod {owner!r}, which is gone with all that it kept. "
                "Create it again; for a response, send the whole conversation."
            ) from None


def _learn_ids(exchange: Exchange, ids: list[str]) -> None:
    """Have the ids in the answer learned. The pod is not asked for compression: nothing could be read then."""
    exchange.refs = ids
    lines = b"".join(exchange.kept).split(b"\r\n")
    exchange.kept = [line + b"\r\n" for line in lines if line and not line.startswith(b"accept-encoding:")]
