"""Which clients may choose a pool or cluster by header, and which requests refuse a fall-back. Pure: headers and
settings in, answers out. A client is identified by the SHA-256 of its key; the key itself is not kept.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from router.dataplane.request.routes import Allowed, Route, Routes, cluster_of
from router.errors import BadRequest, TargetNotAllowed
from router.settings import Pool, TargetClient
from router.settings import Targets as TargetSettings

EVERYTHING = "*"

_WORDS: Mapping[bytes, bool] = {
    **dict.fromkeys((b"false", b"no", b"off", b"0"), False),
    **dict.fromkeys((b"true", b"yes", b"on", b"1"), True),
}

Headers = Mapping[bytes, bytes]


class ClientPermissions(NamedTuple):
    """The pools and clusters that a client may choose."""

    name: str
    """Empty for a client without a known key."""
    allow: frozenset[str]

    def may(self, pool: Pool) -> bool:
        """Whether the client may choose this pool."""
        return not self.allow.isdisjoint((EVERYTHING, pool.name, cluster_of(pool) or pool.name))


class TargetResolver:
    """Resolves the targets that requests name in headers."""

    def __init__(self, settings: TargetSettings) -> None:
        self._anyone = ClientPermissions("", frozenset(settings.allow))
        self._known = [(bytes.fromhex(each.key_sha256), _client(each)) for each in settings.clients]

    def route(self, routes: Routes, model: str, header_map: Headers) -> Route:
        """The route of a request with a header about its target.

        Raises what `Routes.resolve` raises; a TargetNotAllowed says what the client may choose.
        """
        may_fall_back(header_map)
        client = self.client(header_map)
        try:
            return routes.resolve(
                model, header_map.get(b"x-turnout-pool"), header_map.get(b"x-turnout-cluster"), client.may
            )
        except TargetNotAllowed as error:
            whose = f" (known as {client.name!r})" if client.name else ""
            what = ", ".join(sorted(client.allow)) or "none"
            raise TargetNotAllowed(
                f"{error.message[:-1]}{whose}; it may choose: {what}. Without the header the request goes where its "
                "model leads; the setting `targets` says who may choose what."
            ) from None

    def allowed(self, header_map: Headers) -> Allowed:
        """Which pools the client of a request may choose."""
        return self.client(header_map).may

    def client(self, header_map: Headers) -> ClientPermissions:
        """The permissions of the client, by its key. Takes equally long for a known and an unknown key."""
        found = self._anyone
        if self._known:
            digest = hashlib.sha256(_key(header_map)).digest()
            for known, client in self._known:
                if hmac.compare_digest(known, digest):
                    found = client
        return found


def may_fall_back(header_map: Headers) -> bool:
    """Whether a fall-back may serve the request. Raises BadRequest for a header that is neither true nor false."""
    said = header_map.get(b"x-turnout-fallback")
    if said is None:
        return True
    answer = _WORDS.get(said.strip().lower())
    if answer is None:
        raise BadRequest("The header x-turnout-fallback must be true or false.")
    return answer


def _key(header_map: Headers) -> bytes:
    """The value after `Bearer`, else Anthropic's `x-api-key`; empty without either."""
    scheme, _, credentials = header_map.get(b"authorization", b"").partition(b" ")
    return credentials.strip() if scheme.lower() == b"bearer" else header_map.get(b"x-api-key", b"")


def _client(each: TargetClient) -> ClientPermissions:
    return ClientPermissions(each.name or f"{each.key_sha256[:8]}...", frozenset(each.allow))
