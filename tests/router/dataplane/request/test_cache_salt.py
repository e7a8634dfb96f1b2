"""No two tenants send the same salt once one of them isolates its cache."""

from __future__ import annotations

import json

import pytest

from router.access.tenants import Tenant
from router.dataplane.request.cache_salt import salted
from tests.fakes.each_case import each_case

JSON = b"application/json"
CHAT = b"/v1/chat/completions"
APART = Tenant("a", isolate_cache=True, salted=True)
SHARED = Tenant("b", salted=True)


def salt(body: bytes, tenant: Tenant = APART, path: bytes = CHAT) -> object:
    sent = salted(path, JSON, body, tenant)
    assert salted(path, JSON, sent, tenant) == sent
    return json.loads(sent).get("cache_salt")


@each_case(
    "body, expected",
    [
        (b'{"model":"m","messages":[]}', "a:"),
        (b'{"cache_salt":null}', "a:"),
        (b'{"cache_salt":"mine"}', "a:mine"),
        (b'{"cache_salt":"b:"}', "a:b:"),
        (b'{"cache_salt":7}', "a:"),
        (b'{"cache_salt":[[],[]]}', "a:"),
        (rb'{"cache\u005fsalt":"mine"}', "a:mine"),
        (b'{"cache_salt":"x","cache_salt":"y","temperature":NaN}', "a:y"),
        ('{"cache_salt":"mine"}'.encode("utf-16"), "a:mine"),
        (b"{}", "a:"),
    ],
)
def test_an_isolated_tenants_salt_begins_with_its_name(body: bytes, expected: str) -> None:
    assert salt(body) == expected
    for path in (b"/v1/chat/%63ompletions", b"/v1//chat/completions", b"/v1/chat/completions/"):
        assert salt(body, path=path) == expected


def test_the_salt_of_another_tenants_client_is_never_that_of_an_isolated_one() -> None:
    assert salt(b'{"cache_salt":"a:"}', SHARED) == "b:a:"
    assert salt(rb'{"cache\u005fsalt":"a:"}', SHARED) == "b:a:"
    for body in (b'{"model":"m","messages":[]}', '{"x":"é"}'.encode(), rb'{"x":"\u00e9"}'):
        assert salted(CHAT, JSON, body, SHARED) is body


@pytest.mark.parametrize("body", [b"", b'{"cache_salt":', b"[1,2]", b"\xff\xfe{"])
def test_what_cannot_be_read_stays_as_it_is(body: bytes) -> None:
    assert salted(CHAT, JSON, body, APART) is body


def test_forms_and_other_paths_stay_as_they_are() -> None:
    body = b'{"a":1}'
    assert salted(CHAT, b"multipart/form-data; boundary=x", body, APART) is body
    assert salted(b"/v1/files", JSON, body, APART) is body
