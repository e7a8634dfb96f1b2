"""What the inference port answers itself: probes and the list of models. One table of paths; pure.

`/livez` answers 200 as long as the process runs. `/readyz` answers 200 when the replica takes new traffic and 503 while
it warms up or drains. `/health` is the name that engines use for `/readyz`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import msgspec

from router.dataplane.exchange import Exchange
from router.dataplane.http.responses import whole
from router.dataplane.request.routes import Routes
from router.dataplane.wire_headers import WireHeaders
from router.errors import MethodNotAllowed, ModelNotFound, UnknownPath
from router.lifecycle import Lifecycle

_READS: Final = (b"GET", b"HEAD")


class ReadOnly(MethodNotAllowed):
    """A method other than GET or HEAD on a path that only has these."""

    allow = "GET, HEAD"


class LocalRoutes:
    """Answers requests that need no pod."""

    def __init__(self, lifecycle: Lifecycle, routes: Routes, identity: WireHeaders, started_at: int) -> None:
        self._lifecycle = lifecycle
        self._routes = routes
        self._identity = identity
        self._started_at = started_at
        """Unix seconds: what /v1/models gives as `created`."""
        self._paths: dict[bytes, Callable[[Exchange], bytes]] = {
            b"/livez": self._alive,
            b"/readyz": self._ready,
            b"/health": self._ready,
            b"/v1/models": self._models,
        }

    def answer(self, exchange: Exchange) -> bytes | None:
        """The answer's bytes, or None for a request that a pod answers. Raises UnknownPath, MethodNotAllowed or
        ModelNotFound."""
        path = exchange.path
        if exchange.method == b"POST" and (path in _ROOT or (path.startswith(b"/v1/") and path not in self._paths)):
            return None
        found = self._paths.get(path)
        if found is None and path.startswith(b"/v1/models/"):
            found = self._model
        if found is not None:
            if exchange.method not in _READS:
                raise ReadOnly(f"{_name(path)} is only read: use GET.")
            return found(exchange)
        if path in INFERENCE_PATHS or path in _ROOT:
            raise MethodNotAllowed(f"{_name(path)} takes POST, not {exchange.method.decode('latin-1')[:16]}.")
        raise UnknownPath(f"Nothing is served under {_name(path)}: there are POST /v1/... and GET /v1/models.")

    def _alive(self, exchange: Exchange) -> bytes:
        return self._json(exchange, 200, {"status": "alive"})

    def _ready(self, exchange: Exchange) -> bytes:
        phase = self._lifecycle.phase.value
        return self._json(exchange, 200 if self._lifecycle.ready else 503, {"status": phase})

    def _models(self, exchange: Exchange) -> bytes:
        cards = [self._card(name, pool) for name, pool in self._routes.models().items()]
        return self._json(exchange, 200, {"object": "list", "data": cards})

    def _model(self, exchange: Exchange) -> bytes:
        name = unquote(exchange.path[len(b"/v1/models/") :].decode("latin-1"))
        pool = self._routes.models().get(name)
        if pool is None:
            raise ModelNotFound(f"The model {name[:200]!r} does not exist here.", param="model")
        return self._json(exchange, 200, self._card(name, pool))

    def _card(self, name: str, pool: str) -> dict[str, object]:
        card: dict[str, object] = {
            "id": name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "turnout",
            "pool": pool,
        }
        if cluster := self._routes.clusters[pool]:
            card["cluster"] = cluster
        if fallback := self._routes.pools[pool].fallback:
            card["fallback"] = fallback
        return card

    def _json(self, exchange: Exchange, status: int, body: object) -> bytes:
        return whole(
            status,
            msgspec.json.encode(body),
            headers=self._identity.error_headers(exchange),
            close=not exchange.keep_alive,
            head_only=exchange.method == b"HEAD",
        )


INFERENCE_PATHS: Final = frozenset(
    b"/v1/" + name
    for name in (
        *(b"chat/completions", b"completions", b"embeddings", b"responses", b"messages", b"rerank", b"score"),
        *(b"classify", b"tokenize", b"detokenize", b"pooling", b"moderations"),
        *(b"audio/transcriptions", b"audio/translations", b"audio/speech"),
        *(b"images/generations", b"images/edits", b"images/variations"),
    )
)
"""Paths that take POST. Any other POST below /v1/ goes to a pod too; the list decides between a wrong method and an
unknown path."""

_ROOT: Final = frozenset(
    (b"/tokenize", b"/detokenize", b"/pooling", b"/classify", b"/score", b"/rerank", b"/v2/rerank")
)
"""Paths that vLLM serves outside /v1. All take a model; tokenize and detokenize have no path below /v1 there."""


def _name(path: bytes) -> str:
    return path[:200].decode("latin-1")
