from __future__ import annotations

import asyncio

import pytest

from router.access.certificates import CertificateTenants
from router.access.tenants import Tenant
from router.errors import InvalidApiKey
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import KEY, access

SEARCH = Tenant("search", certificates=frozenset(("URI:spiffe://a/search", "CN:search")))
CHAT = Tenant("chat", certificates=frozenset(("DNS:chat.example.com",)))


def connection(*names: tuple[str, str], common: str = "") -> asyncio.BaseTransport:
    """A connection whose client has shown a certificate, as `ssl` describes it."""
    subject = ((("organizationName", "search"),), (("commonName", common),)) if common else ()
    return asyncio.BaseTransport({"peercert": {"subject": subject, "subjectAltName": names}})


@each_case(
    "shown, tenant, key",
    [
        (connection(("URI", "spiffe://a/search")), "search", "cert:URI:spiffe://a/search"),
        (connection(common="search"), "search", "cert:CN:search"),
        (connection(("IP Address", "::1"), ("DNS", "chat.example.com"), common="search"), "chat", ""),
        (connection(("DNS", "search")), "", ""),
        (connection(("URI", "spiffe://a/search/more"), common="chat.example.com"), "", ""),
        (connection(("CN", "other"), common="CN:search"), "", ""),
        (asyncio.BaseTransport({"peercert": None}), "", ""),
        (asyncio.BaseTransport({"peercert": {}}), "", ""),
        (asyncio.BaseTransport(), "", ""),
    ],
)
def test_the_names_of_a_certificate_lead_to_its_tenant(shown: asyncio.BaseTransport, tenant: str, key: str) -> None:
    found = CertificateTenants([SEARCH, CHAT]).find(shown)
    assert (found.tenant.name if found else "") == tenant
    assert not key or (found and found.key == key)


def test_a_certificate_goes_before_a_key_and_who_shows_none_needs_one() -> None:
    known = access()
    known.certificates = CertificateTenants([CHAT])
    chat = connection(("DNS", "chat.example.com"))
    assert known.identify({b"x-api-key": KEY.encode()}, chat).tenant is CHAT
    assert known.identify({b"x-api-key": KEY.encode()}, connection()).tenant.name == "search"
    with pytest.raises(InvalidApiKey):
        known.identify({}, connection())


def test_tenants_without_certificates_make_nothing_to_look_up() -> None:
    assert not CertificateTenants([Tenant("a")])
