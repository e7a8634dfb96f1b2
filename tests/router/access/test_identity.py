"""Whose a request is: by any of three headers, by one look-up, and with a reason where it is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.access.identity import MAX_KNOWN, AccessControl, ClientIdentity, KnownClient, credential
from router.access.tenants import Tenant
from router.errors import InvalidApiKey, PermissionDenied
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import KEY, access, record
from tests.fakes.virtual_time import Clock

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@each_case(
    "headers",
    [
        {b"authorization": b"Bearer k"},
        {b"authorization": b"bearer  k "},
        {b"x-api-key": b"k"},
        {b"api-key": b"k"},
        {b"authorization": b"Bearer k", b"x-api-key": b"k", b"api-key": b"k"},
    ],
)
def test_a_key_is_taken_from_any_of_the_headers(headers: dict[bytes, bytes]) -> None:
    assert credential(headers) == b"k"


@each_case(
    "headers, why",
    [
        ({}, "No API key was sent"),
        ({b"authorization": b"Bearer "}, "No API key was sent"),
        ({b"x-api-key": b""}, "No API key was sent"),
        ({b"authorization": b"Basic a2V5"}, "another scheme"),
        ({b"authorization": b"secret-without-a-scheme"}, "another scheme"),
        ({b"authorization": b"Bearer secret-1", b"x-api-key": b"secret-2"}, "Two different API keys"),
        ({b"x-api-key": b"secret-1", b"api-key": b"secret-2"}, "Two different API keys"),
    ],
)
def test_no_key_and_two_keys_are_refused_without_naming_them(headers: dict[bytes, bytes], why: str) -> None:
    with pytest.raises(InvalidApiKey) as caught:
        credential(headers)
    assert why in caught.value.message
    assert "secret" not in caught.value.message
    assert "a2V5" not in caught.value.message


def test_a_known_key_names_its_tenant_and_itself() -> None:
    known = access()
    found = known.identify({b"x-api-key": KEY.encode()})
    assert (found.tenant, found.key) == (known.tenants["search"], "of-search")


def test_several_keys_lead_to_one_tenant() -> None:
    known = access(record("tok-a"), record("tok-b"), record("tok-c", "chat"))
    tenants = [known.identify({b"x-api-key": key}).tenant.name for key in (b"tok-a", b"tok-b", b"tok-c")]
    assert tenants == ["search", "search", "chat"]


def test_an_unknown_key_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidApiKey) as caught:
        access().identify({b"x-api-key": b"tok-other"})
    assert "tok-other" not in caught.value.message


def test_a_key_is_accepted_until_it_expires() -> None:
    clock = Clock()
    clock.now = WHEN.timestamp() - 0.001
    known = access(record(expires=WHEN), wall=clock)
    assert known.identify({b"x-api-key": KEY.encode()}).key == "of-search"
    clock.now = WHEN.timestamp()
    with pytest.raises(InvalidApiKey, match="expired"):
        known.identify({b"x-api-key": KEY.encode()})


def test_a_revoked_key_is_refused() -> None:
    with pytest.raises(InvalidApiKey, match="revoked"):
        access(record(revoked=WHEN)).identify({b"x-api-key": KEY.encode()})


def test_a_key_of_a_tenant_that_is_not_there_may_do_nothing() -> None:
    with pytest.raises(PermissionDenied, match="'nowhere'"):
        access(record(tenant="nowhere")).identify({b"x-api-key": KEY.encode()})


def test_keys_that_are_gone_are_not_known_any_more() -> None:
    known = access()
    known.use([record("tok-new")])
    assert known.identify({b"x-api-key": b"tok-new"}).key == "new"
    with pytest.raises(InvalidApiKey):
        known.identify({b"x-api-key": KEY.encode()})


class Tokens:
    """Accepts every token for a minute."""

    def __init__(self, tenant: Tenant, clock: Clock) -> None:
        self.verified: list[bytes] = []
        self._known = ClientIdentity(tenant, "jwt:ada")
        self._clock = clock

    def verify(self, token: bytes) -> KnownClient:
        self.verified.append(token)
        return KnownClient(self._known, self._clock.now + 60)


def with_tokens() -> tuple[AccessControl, Tokens, Clock]:
    clock = Clock()
    known = access(wall=clock)
    tokens = known.tokens = Tokens(known.tenants["search"], clock)
    return known, tokens, clock


def test_a_token_is_verified_once_until_it_expires() -> None:
    known, tokens, clock = with_tokens()
    for _ in range(3):
        assert known.identify({b"authorization": b"Bearer a.b.c"}).key == "jwt:ada"
    assert tokens.verified == [b"a.b.c"]
    clock.now += 60
    known.identify({b"api-key": b"a.b.c"})
    assert tokens.verified == [b"a.b.c"] * 2
    known.look_up_again()
    known.identify({b"api-key": b"a.b.c"})
    assert tokens.verified == [b"a.b.c"] * 3


def test_what_has_not_the_form_of_a_token_is_an_unknown_key() -> None:
    known, tokens, _ = with_tokens()
    for sent in (b"tok-other", b"a.b", b"a.b.c.d"):
        with pytest.raises(InvalidApiKey, match="not known here"):
            known.identify({b"x-api-key": sent})
    assert tokens.verified == []
    assert known.identify({b"x-api-key": KEY.encode()}).key == "of-search"


def test_what_was_found_longest_ago_is_forgotten_first_where_there_is_too_much() -> None:
    known, tokens, _ = with_tokens()
    for number in range(MAX_KNOWN + 1):
        known.identify({b"x-api-key": b"%d.b.c" % number})
    known.identify({b"x-api-key": b"1.b.c"})
    assert len(tokens.verified) == MAX_KNOWN + 1
    known.identify({b"x-api-key": b"0.b.c"})
    assert len(tokens.verified) == MAX_KNOWN + 2


def test_a_key_with_many_blanks_before_it_takes_no_more_memory() -> None:
    known = access()
    for number in range(1, 100):
        known.identify({b"authorization": b"Bearer%b%b" % (b" " * number, KEY.encode())})
    assert list(known._bearers) == [b"Bearer " + KEY.encode()]


@pytest.mark.parametrize(("name", "before"), [(b"x-api-key", b""), (b"authorization", b"Bearer ")])
def test_a_key_that_was_found_before_is_refused_from_the_moment_of_its_revocation(name: bytes, before: bytes) -> None:
    known, sent = access(), {name: before + KEY.encode()}
    changes: list[Callable[[], None]] = [
        lambda: known.learn(record(revoked=WHEN)),
        lambda: known.forget(record()),
        lambda: known.use([]),
    ]
    for change in changes:
        known.learn(record())
        assert known.identify(sent).key == "of-search"
        change()
        with pytest.raises(InvalidApiKey):
            known.identify(sent)


def test_no_key_is_compared_byte_by_byte() -> None:
    """A key is found by hashed tables alone, so that no time depends on how much of it was right."""
    text = (Path(__file__).parents[3] / "router/access/identity.py").read_text()  # in a compiled build, too
    source = text[text.index("class AccessControl") : text.index("def is_token")]
    assert "self._known.get(sent)" in source
    assert "self._entries.get(sha256(sent).digest())" in source
    assert not re.search(r"[=!]=|startswith|compare", source)
