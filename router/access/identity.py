"""The identity of a request: its API key or token, looked up in memory. Reads headers; waits for nothing and logs no
key.

Every request of a deployment with `auth` passes here once. What was sent before is found by itself: a SHA-256 would be
two thirds of the cost, and the heads of recent requests are in memory in any case. No look-up's time depends on how
much of a key is right: the table's hash is keyed by a secret of the process, and compares no bytes before it agrees.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from router.access.keys import KeyRecord
from router.access.tenants import Tenant
from router.errors import GatewayError, InvalidApiKey, KeysUnread, PermissionDenied

MAX_KNOWN: Final = 10_000
"""Keys and tokens that are found without a SHA-256 or a signature; the one looked up first goes first."""

_BEARER: Final = b"bearer "
_HEADERS: Final = (b"x-api-key", b"api-key")
"""Where Anthropic's and Azure's clients send the key; all others use `Authorization: Bearer`."""


class ClientIdentity(NamedTuple):
    """Whose request it is."""

    tenant: Tenant
    key: str
    """The name of its key."""


class KeyEntry:
    """What is known of one key, ready for a request."""

    __slots__ = ("expires", "identity", "record")

    def __init__(self, record: KeyRecord, tenant: Tenant | None) -> None:
        self.record = record
        self.identity = None if tenant is None or record.revoked else ClientIdentity(tenant, record.name)
        """None where the key is not accepted, whatever the time."""
        self.expires = float("inf") if record.expires is None else record.expires.timestamp()


class KnownClient:
    """Who sent a key or token that was looked up before."""

    __slots__ = ("expires", "identity")

    def __init__(self, identity: ClientIdentity, expires: float) -> None:
        self.identity = identity
        self.expires = expires
        """Unix time from which on it must be looked up again."""


class TokenReader(Protocol):
    """What knows the tokens of an identity provider: `TokenVerifier`."""

    def verify(self, token: bytes, /) -> KnownClient:
        """See `TokenVerifier`."""
        ...


class CertificateReader(Protocol):
    """What knows the certificates of clients: `CertificateTenants`."""

    def find(self, transport: asyncio.BaseTransport, /) -> ClientIdentity | None:
        """See `CertificateTenants`."""
        ...


class AccessControl:
    """Knows the keys and says whose a request is."""

    def __init__(
        self, tenants: Mapping[str, Tenant], wall: Callable[[], float], unread: Callable[[], bool] = lambda: False
    ) -> None:
        """Knows no key yet; `wall` gives Unix seconds, `unread` says whether the keys are still to be read."""
        self.tenants = tenants
        self._wall = wall
        self._unread = unread
        self._entries: dict[bytes, KeyEntry] = {}
        """By the SHA-256 of the key."""
        self._known: dict[bytes, KnownClient] = {}
        """By the key or token."""
        self._bearers: dict[bytes, KnownClient] = {}
        """The same by the value of an `Authorization` header: most clients send that header and no other."""
        self.certificates: CertificateReader | None = None
        """Knows the connections whose client's certificate names a tenant; None where no tenant has certificates."""
        self.tokens: TokenReader | None = None
        """Takes what is no known key and has the form of a token; None where `auth.jwt` is not configured."""

    def use(self, keys: Iterable[KeyRecord]) -> None:
        """Know these keys from now on, and no others."""
        self._entries = dict(map(self._entry, keys))
        self.look_up_again()

    def look_up_again(self) -> None:
        """What was found before may be wrong now."""
        self._known.clear()
        self._bearers.clear()

    def learn(self, key: KeyRecord) -> None:
        """Know this key, too, or in place of what was known of it."""
        digest, entry = self._entry(key)
        self._entries[digest] = entry
        self.look_up_again()

    def forget(self, key: KeyRecord) -> None:
        """Know this key no more."""
        self._entries.pop(bytes.fromhex(key.sha256), None)
        self.look_up_again()

    def knows(self, sha256_hex: str) -> bool:
        """Whether there is a key of this hash."""
        return bytes.fromhex(sha256_hex) in self._entries

    def identify(
        self, header_map: dict[bytes, bytes], transport: asyncio.BaseTransport | None = None
    ) -> ClientIdentity:
        """Whose request has these headers and came by this connection. Raises InvalidApiKey, PermissionDenied and
        KeysUnread."""
        if self.certificates is not None and transport is not None:
            shown = self.certificates.find(transport)
            if shown is not None:
                return shown
        bearer = header_map.get(b"authorization")
        if bearer is None or b"x-api-key" in header_map or b"api-key" in header_map:
            return self._find(credential(header_map)).identity
        known = self._bearers.get(bearer)
        if known is None or known.expires <= self._wall():
            sent = credential(header_map)
            known = self._find(sent)
            if len(bearer) <= len(_BEARER) + len(sent):  # with more blanks, a key could be kept in any length
                if len(self._bearers) >= MAX_KNOWN:
                    del self._bearers[next(iter(self._bearers))]
                self._bearers[bearer] = known
        return known.identity

    def _find(self, sent: bytes) -> KnownClient:
        known = self._known.get(sent)
        if known is None or known.expires <= self._wall():
            known = self._look_up(sent)
        return known

    def _look_up(self, sent: bytes) -> KnownClient:
        entry = self._entries.get(sha256(sent).digest())
        if entry is not None and entry.identity is not None and entry.expires > self._wall():
            known = KnownClient(entry.identity, entry.expires)
        elif entry is None and self.tokens is not None and is_token(sent):
            known = self.tokens.verify(sent)
        else:
            raise self._refusal(entry)
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[sent] = known
        return known

    def _entry(self, key: KeyRecord) -> tuple[bytes, KeyEntry]:
        return bytes.fromhex(key.sha256), KeyEntry(key, self.tenants.get(key.tenant))

    def _refusal(self, entry: KeyEntry | None) -> GatewayError:
        if entry is None:
            if self._unread():
                return KeysUnread("The API keys are in the shared state, which is not read yet.", retry_after_s=1.0)
            return InvalidApiKey("This API key is not known here. Check that it is whole, or ask for a new one.")
        if refusal := entry.record.refusal(self._wall()):
            return InvalidApiKey(refusal)
        return PermissionDenied(
            f"The API key {entry.record.name!r} belongs to tenant {entry.record.tenant!r}, which is not there."
        )


def is_token(sent: bytes) -> bool:
    """Whether what a client sent has the form of a token, which no key has: three parts."""
    return sent.count(b".") == 2


def credential(header_map: Mapping[bytes, bytes]) -> bytes:
    """The key that a request sends. Raises InvalidApiKey where there is none, or two that differ."""
    found = b""
    authorization = header_map.get(b"authorization")
    if authorization is not None:
        if authorization[:7].lower() != _BEARER:
            raise InvalidApiKey("Send the API key as `Authorization: Bearer KEY`: another scheme is not accepted.")
        found = authorization[7:].strip()
    for name in _HEADERS:
        key = header_map.get(name)
        if key is not None and key != found:
            if found:
                raise InvalidApiKey(
                    f"Two different API keys were sent, one of them as {name.decode()}: send one of the two."
                )
            found = key
    if not found:
        raise InvalidApiKey("No API key was sent. Send it as `Authorization: Bearer KEY`, or as x-api-key or api-key.")
    return found
