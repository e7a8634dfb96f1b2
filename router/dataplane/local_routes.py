"""What the inference port answers itself: probes, the list of models, and that of targets. One table of paths; pure.

`/livez` answers 200 as long as the process runs. `/readyz` answers 200 when the replica takes new traffic and 503 while
it warms up or drains. `/health` is the name that engines use for `/readyz`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import msgspec

from router.dataplane.exchange import Exchange
from router.dataplane.http.cors import AllowedOrigins
from router.dataplane.http.responses import no_content, whole
from router.dataplane.http.websocket import is_offer
from router.dataplane.request.paths import (
    ANY_POST,
    INFERENCE_PATHS,
    ROOT_PATHS,
    UPGRADE_PATHS,
    ForwardedPaths,
    is_management,
    without_slash,
)
from router.dataplane.request.routes import Route, Routes
from router.dataplane.request.tenant_routes import VisibleRoutes
from router.dataplane.wire_headers import WireHeaders
from router.errors import GatewayError, MethodNotAllowed, ModelNotFound, UnknownPath
from router.lifecycle import Lifecycle

_READS: Final = (b"GET", b"HEAD")


_OPEN: Final = frozenset((b"/livez", b"/readyz", b"/health"))
"""Paths that need no key: load balancers and Kubernetes send none."""


class ReadOnly(MethodNotAllowed):
    """A method other than GET or HEAD on a path that only has these."""

    allow = "GET, HEAD"


class LocalRoutes:
    """Answers requests that need no pod."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        routes: Routes,
        identity: WireHeaders,
        started_at: int,
        forwarded: ForwardedPaths | None = None,
        cors: AllowedOrigins | None = None,
        targets: Callable[[Exchange], object] | None = None,
    ) -> None:
        """Without `forwarded`, a POST to any path below /v1/ goes to a pod. Without `cors` there are no preflights.
        `targets` makes the list of targets."""
        self._forwarded = forwarded or ForwardedPaths((ANY_POST,))
        self._cors = cors
        self._lifecycle = lifecycle
        self._visible = VisibleRoutes(routes)
        self._identity = identity
        self._started_at = started_at
        """Unix seconds: what /v1/models gives as `created`."""
        self._paths: dict[bytes, Callable[[Exchange], bytes]] = {
            b"/livez": self._alive,
            b"/readyz": self._ready,
            b"/health": self._ready,
            b"/v1/models": self._models,
        }
        if targets is not None:
            self._paths[b"/v1/targets"] = lambda exchange: self._json(exchange, 200, targets(exchange))

    def takes_upgrade(self, exchange: Exchange) -> bool:
        """Whether the request asks for a WebSocket under a path that has one."""
        if not exchange.http11 or not is_offer(exchange.method, exchange.header_map):
            return False
        return exchange.path in UPGRADE_PATHS or self._forwarded.takes(b"GET", exchange.path)

    def is_open(self, exchange: Exchange) -> bool:
        """Whether the request needs no key: it is a probe, or a preflight, with which browsers send no credentials.
        Both are answered here."""
        if exchange.path in _OPEN:
            return not self.takes_upgrade(exchange)  # a WebSocket goes to a pod, whatever its path
        if exchange.method != b"OPTIONS" or self._cors is None:
            return False
        return self._cors.preflight(exchange.header_map) is not None

    def answer(self, exchange: Exchange) -> bytes | None:
        """The answer's bytes, or None for a request that a pod answers. Raises UnknownPath, MethodNotAllowed or
        ModelNotFound."""
        if exchange.path.endswith(b"/"):
            exchange.serve_under(without_slash(exchange.path, self._paths))
        path, method = exchange.path, exchange.method
        if method == b"OPTIONS" and self._cors is not None:
            allowed = self._cors.preflight(exchange.header_map)
            if allowed is not None:
                return no_content(allowed, close=not exchange.keep_alive)
        found = self._paths.get(path)
        if found is None:
            if self._forwarded.takes(method, path):
                return None
            if path.startswith(b"/v1/models/"):
                found = self._model
        if found is not None:
            if method not in _READS:
                raise ReadOnly(f"{_name(path)} is only read: use GET.")
            return found(exchange)
        raise _refusal(method, path)

    def _alive(self, exchange: Exchange) -> bytes:
        return self._json(exchange, 200, {"status": "alive"})

    def _ready(self, exchange: Exchange) -> bytes:
        phase = self._lifecycle.phase.value
        return self._json(exchange, 200 if self._lifecycle.ready else 503, {"status": phase})

    def _models(self, exchange: Exchange) -> bytes:
        routes = self._visible.of(exchange.tenant)
        cards = [self._card(routes, name, route) for name, route in routes.by_model.items()]
        return self._json(exchange, 200, {"object": "list", "data": cards})

    def _model(self, exchange: Exchange) -> bytes:
        name = unquote(exchange.path[len(b"/v1/models/") :].rstrip(b"/").decode("latin-1"))
        routes = self._visible.of(exchange.tenant)
        route = routes.by_model.get(name)
        if route is None:
            raise ModelNotFound(f"The model {name[:200]!r} does not exist here.", param="model")
        return self._json(exchange, 200, self._card(routes, name, route))

    def _card(self, routes: Routes, name: str, route: Route) -> dict[str, object]:
        """What the pods say of the model, under the name that clients use. `root` is what `vllm bench serve` reads."""
        pool = route.pool
        card: dict[str, object] = {
            "id": name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "turnout",
            "root": route.model,
        }
        card |= routes.cards.merged(pool, route.model)
        card |= {"id": name, "pool": pool}
        if cluster := routes.clusters[pool]:
            card["cluster"] = cluster
        if fallback := [each for each in routes.pools[pool].fallback if each in routes.pools]:
            card["fallback"] = fallback
        return card

    def _json(self, exchange: Exchange, status: int, body: object) -> bytes:
        return whole(
            status,
            msgspec.json.encode(body),
            headers=self._identity.error_headers(exchange),
            connection=exchange.connection_line,
            head_only=exchange.method == b"HEAD",
        )


def _refusal(method: bytes, path: bytes) -> GatewayError:
    if path in INFERENCE_PATHS or path in ROOT_PATHS:
        return MethodNotAllowed(f"{_name(path)} takes POST, not {method.decode('latin-1')[:16]}.")
    if is_management(path):
        return UnknownPath(
            f"{_name(path)} manages an engine and is not public here. To open it, name it in full in `paths.forward`."
        )
    if b"/v1" + path in INFERENCE_PATHS:
        return UnknownPath(
            f"Nothing is served under {_name(path)}: it is /v1{_name(path)}. The base URL of clients ends in /v1."
        )
    return UnknownPath(
        f"Nothing is served under {_name(path)}: there are POST /v1/... and GET /v1/models. "
        "The setting `paths.forward` says what else goes to pods."
    )


def _name(path: bytes) -> str:
    return path[:200].decode("latin-1")
