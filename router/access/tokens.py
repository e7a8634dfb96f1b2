"""Tokens of an identity provider (JWT), verified by its public keys. Only imported where `auth.jwt` is configured:
PyJWT and cryptography come with the extra `jwt`.

The algorithm is that of the key, never what a token names: so `none`, and a public key used as an HMAC secret, are
refused before anything is computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import jwt
from jwt import PyJWK

from router.access.identity import ClientIdentity, KnownClient
from router.access.tenants import Tenant
from router.errors import InvalidApiKey, PermissionDenied
from router.settings import JwtAuth

LEEWAY_S: Final = 5.0
"""Seconds by which the provider's clock and this one may differ."""

MAX_BYTES: Final = 16_384
"""Longest token."""

REREAD_S: Final = 10.0
"""Seconds between two readings of the key set because a token names a key that is not in it."""

_KEY_TYPES: Final = ("RSA", "EC", "OKP")
"""Of public keys. A key set may hold secrets (`oct`), which verify nothing here."""

_PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth"))

_REASONS: Final[Mapping[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidIssuedAtError: "it was issued in the future",
    jwt.InvalidIssuerError: "it was issued by another issuer than the one that is accepted here",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidAlgorithmError: "its algorithm is not that of the key which it names",
    jwt.InvalidKeyError: "its key is too short to be safe",
    jwt.InvalidSignatureError: "its signature does not match",
    jwt.DecodeError: "it is not in the form of a token",
}

KeySet = Mapping[str, PyJWK]
"""Public keys by their `kid`; empty for a key without one."""


class BadKeySet(ValueError):
    """Text that is no JSON Web Key Set with a usable key; the message completes a sentence about the file."""


class TokenVerifier:
    """Knows the provider's keys and says whose a token is."""

    def __init__(self, settings: JwtAuth, tenants: Mapping[str, Tenant], wall: Callable[[], float]) -> None:
        """Knows no key yet; `wall` gives Unix seconds."""
        self._settings = settings
        self._tenants = tenants
        self._wall = wall
        self._keys: KeySet = {}
        self._reread_at = 0.0
        self.reread: Callable[[], None] | None = None
        """Called, not too often, when a token names a key that is not known."""

    def use(self, keys: KeySet) -> None:
        """Know these keys from now on, and no others."""
        self._keys = keys

    def verify(self, token: bytes) -> KnownClient:
        """Whose token it is, and until when. Raises InvalidApiKey and PermissionDenied."""
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(token),
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp", "iss", "aud", settings.tenant_claim],
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"it has no claim {error.claim!r}") from None
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            why = next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), "it cannot be used")
            raise _refused(why) from None
        return KnownClient(self._identity(claims), float(claims["exp"]) + LEEWAY_S)

    def _key(self, token: bytes) -> PyJWK:
        """The key that the token names; without a name, the only one."""
        if len(token) > MAX_BYTES:
            raise _refused(f"it has more than {MAX_BYTES} bytes")
        kid: str = jwt.get_unverified_header(token).get("kid", "")
        key = self._keys.get(kid)
        if key is None and not kid and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None:
            self._ask_for_keys()
            raise _refused("it is signed with a key that is not in the key set" if kid else "it names no key (`kid`)")
        return key

    def _ask_for_keys(self) -> None:
        now = self._wall()
        if self.reread is not None and now - self._reread_at >= REREAD_S:
            self._reread_at = now
            self.reread()

    def _identity(self, claims: Mapping[str, Any]) -> ClientIdentity:
        name, subject = claims[self._settings.tenant_claim], claims.get("sub", "")
        tenant = self._tenants.get(name) if isinstance(name, str) else None
        if tenant is None:
            given = repr(name)[:100]
            raise PermissionDenied(
                f"The token's claim {self._settings.tenant_claim!r} is {given}, and there is no such tenant here."
            )
        return ClientIdentity(tenant, f"jwt:{''.join(filter(str.isprintable, subject))[:100]}")


def parse_key_set(raw: bytes) -> KeySet:
    """The public keys of a JSON Web Key Set (RFC 7517). Keys that cannot verify a token are left out, as other uses of
    the set may need them. Raises BadKeySet."""
    try:
        listed = json.loads(raw)["keys"]
        usable = [each for each in listed if each.get("kty") in _KEY_TYPES and each.get("use", "sig") == "sig"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise BadKeySet('is no JSON Web Key Set, which is {"keys": [...]}') from None
    keys: dict[str, PyJWK] = {}
    for each in usable:
        try:
            keys[str(each.get("kid", ""))] = PyJWK({name: each[name] for name in each if name not in _PRIVATE})
        except jwt.PyJWTError:
            continue
    if not keys:
        raise BadKeySet("has no public key (RSA, EC or OKP) that signatures can be verified with")
    return keys


def read_key_set(path: str) -> KeySet:
    """The public keys in a file. Raises OSError and BadKeySet."""
    with open(path, "rb") as file:
        return parse_key_set(file.read())


def _refused(why: str) -> InvalidApiKey:
    return InvalidApiKey(f"The token is not accepted: {why}.")
