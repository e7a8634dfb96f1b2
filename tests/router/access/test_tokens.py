"""A token is accepted if the provider signed it for this gateway, now, for a tenant; any other is refused with the
reason, and with nothing of the token."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from router.access.tenants import Tenant
from router.access.tokens import LEEWAY_S, MAX_BYTES, REREAD_S, BadKeySet, TokenVerifier, parse_key_set, read_key_set
from router.errors import InvalidApiKey, PermissionDenied
from router.settings import JwtAuth
from tests.fakes.each_case import each_case
from tests.fakes.identity_provider import AUDIENCE, ISSUER, IdentityProvider
from tests.fakes.virtual_time import Clock

SETTINGS = JwtAuth(issuer=ISSUER, audience=AUDIENCE, jwks_file="jwks.json")
HOUR = 3600


class World:
    """A provider and a verifier that knows its keys."""

    def __init__(self, settings: JwtAuth = SETTINGS) -> None:
        self.clock = Clock(time.time())
        self.provider = IdentityProvider()
        self.verifier = TokenVerifier(settings, {"search": Tenant("search")}, self.clock)
        self.use()

    def use(self) -> None:
        """Know the provider's keys of now."""
        self.verifier.use(parse_key_set(json.dumps(self.provider.key_set()).encode()))

    def accepts(self, token: str) -> tuple[str, str]:
        """The tenant and the key's name."""
        found = self.verifier.verify(token.encode()).identity
        return found.tenant.name, found.key

    def refuses(self, token: str) -> str:
        """The reason."""
        with pytest.raises(InvalidApiKey) as caught:
            self.accepts(token)
        for part in (each for each in token.split(".") if len(each) > 8):
            assert part not in caught.value.message
        return caught.value.message


def forged(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token made by hand."""

    def text(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{text(json.dumps(header).encode())}.{text(json.dumps(claims).encode())}"
    return f"{signed}.{text(sign(signed.encode()))}"


def test_a_token_names_its_tenant_and_its_subject() -> None:
    world = World()
    assert world.accepts(world.provider.token()) == ("search", "jwt:ada")
    assert world.accepts(world.provider.token(aud=["other", AUDIENCE])) == ("search", "jwt:ada")
    assert world.accepts(world.provider.token(sub="a\nb" + "x" * 200)) == ("search", "jwt:ab" + "x" * 98)
    assert world.accepts(world.provider.token(without="sub")) == ("search", "jwt:")


def test_the_claim_of_the_tenant_is_configured() -> None:
    world = World(JwtAuth(issuer=ISSUER, audience=AUDIENCE, jwks_file="x", tenant_claim="https://example.com/team"))
    team: dict[str, Any] = {"https://example.com/team": "search"}
    assert world.accepts(world.provider.token(**team))[0] == "search"
    assert "no claim 'https://example.com/team'" in world.refuses(world.provider.token())


@each_case(
    "claims, why",
    [
        ({"iss": "https://other.example.com"}, "issued by another issuer"),
        ({"iss": ISSUER + "/"}, "issued by another issuer"),
        ({"aud": "other"}, "for another audience"),
        ({"aud": []}, "no claim 'aud'"),
        ({"exp": time.time() - HOUR}, "it has expired"),
        ({"nbf": time.time() + HOUR}, "not valid yet"),
        ({"iat": time.time() + HOUR}, "not valid yet"),
        ({"exp": "soon"}, "not in the form"),
        ({"without": "exp"}, "no claim 'exp'"),
        ({"without": "iss"}, "no claim 'iss'"),
        ({"without": "aud"}, "no claim 'aud'"),
        ({"without": "tenant"}, "no claim 'tenant'"),
        ({"sub": 7}, "it cannot be used"),
        ({"headers": {}}, ""),
        ({"headers": {"kid": "two"}}, "not in the key set"),
    ],
)
def test_a_token_that_is_not_for_this_gateway_now_is_refused(claims: dict[str, Any], why: str) -> None:
    world = World()
    token = world.provider.token(**claims)
    if why:
        assert why in world.refuses(token)
    else:
        assert world.accepts(token)


def test_a_tenant_that_is_not_there_is_permission_denied() -> None:
    world = World()
    for claimed in ("other", ["search"], 1):
        with pytest.raises(PermissionDenied, match="no such tenant"):
            world.accepts(world.provider.token(tenant=claimed))


def test_a_token_without_a_signature_is_refused() -> None:
    world = World()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "tenant": "search", "exp": time.time() + HOUR}
    for name in ("none", "None", "NONE", ""):
        for kid in ({"kid": "one"}, {}):
            assert "its algorithm is not" in world.refuses(forged({"alg": name, **kid}, claims, lambda signed: b""))
    assert "its algorithm is not" in world.refuses(forged({"kid": "one"}, claims, lambda signed: b""))


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    world = World()
    claims = {"iss": ISSUER, "aud": AUDIENCE, "tenant": "search", "exp": time.time() + HOUR}
    for secret in (world.provider.public_pem(), json.dumps(world.provider.key_set()["keys"][0]).encode()):
        sign = lambda signed, secret=secret: hmac.digest(secret, signed, "sha256")  # noqa: E731
        token = forged({"alg": "HS256", "kid": "one"}, claims, sign)
        assert "its algorithm is not" in world.refuses(token)


def test_a_token_that_was_changed_or_signed_by_another_is_refused() -> None:
    world, other = World(), IdentityProvider()
    assert "its signature does not match" in world.refuses(other.token())
    head, body, signature = world.provider.token().split(".")
    assert "its signature does not match" in world.refuses(f"{head}.{body}.{other.token().rpartition('.')[2]}")
    longer = world.provider.token(tenant="search", more=1).split(".")[1]
    assert "its signature does not match" in world.refuses(f"{head}.{longer}.{signature}")


@each_case("token", ["..", "a.b.c", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30.", "é.é.é", "." * 2 + "x" * MAX_BYTES])
def test_what_is_no_token_is_refused(token: str) -> None:
    World().refuses(token)


def test_a_header_that_is_nested_too_deep_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 10_000).decode()
    assert len(deep) < MAX_BYTES
    assert "not accepted" in World().refuses(f"{deep}.e30.e30")


def test_a_token_of_rsa_is_accepted_and_one_of_a_short_key_is_not() -> None:
    world = World()
    world.provider.rotate("rsa", 2048)
    world.use()
    assert world.accepts(world.provider.token())
    world.provider.rotate("short", 1024)
    world.use()
    with pytest.warns(match="1024"):
        token = world.provider.token()
    assert "too short" in world.refuses(token)


def test_a_token_is_accepted_until_the_end_that_it_names() -> None:
    world = World()
    assert world.verifier.verify(world.provider.token(exp=4e9).encode()).expires == 4e9 + LEEWAY_S


def test_a_token_of_a_key_that_is_gone_is_refused() -> None:
    world = World()
    token = world.provider.token()
    assert world.accepts(token)
    world.provider.rotate("two")
    world.use()
    assert "not in the key set" in world.refuses(token)
    assert world.accepts(world.provider.token())


def test_an_unknown_key_makes_the_key_set_be_read_at_most_once_in_a_while() -> None:
    world = World()
    asked: list[float] = []
    world.verifier.reread = lambda: asked.append(world.clock.now)
    world.provider.rotate("two")
    began = world.clock.now
    for _ in range(50):
        world.refuses(world.provider.token())
        world.clock.now += REREAD_S / 20
    assert len(asked) == 3
    assert asked[0] == began


def test_keys_of_other_kinds_and_uses_are_left_out() -> None:
    provider = IdentityProvider()
    (public,) = provider.key_set()["keys"]
    odd = [{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}, {**public, "use": "enc", "kid": "e"}, {"kty": "EC", "kid": "x"}]
    assert list(parse_key_set(json.dumps({"keys": [*odd, public, {**public, "d": "AQ", "kid": "p"}]}).encode())) == [
        "one",
        "p",
    ]


@each_case(
    "text", ["", "{}", "[]", "null", '{"keys": 1}', '{"keys": [1]}', '{"keys": []}', '{"keys": [{"kty": "oct"}]}']
)
def test_what_is_no_key_set_is_said(text: str) -> None:
    with pytest.raises(BadKeySet):
        parse_key_set(text.encode())


def test_a_file_is_read_from_disk() -> None:
    with pytest.raises(FileNotFoundError):
        read_key_set("/nowhere/jwks.json")
