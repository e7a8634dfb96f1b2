"""Parsing a --state URL for Redis, and the errors for an invalid one. No error shows the password."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statesync.errors import BadStoreUrl
from statesync.store.redis.url import FORMS, RedisUrl, parse
from tests.fakes.redis_server import certificates

SECRET = "s3cret"


def wrong(url: str) -> str:
    """Returns the error of a refused URL."""
    with pytest.raises(BadStoreUrl) as caught:
        parse(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://host", RedisUrl(FORMS["redis"], (("host", 6379),))),
        ("redis://host:1/3", RedisUrl(FORMS["redis"], (("host", 1),), db=3)),
        ("redis://host/?db=3", RedisUrl(FORMS["redis"], (("host", 6379),), db=3)),
        ("redis://[::1]:7", RedisUrl(FORMS["redis"], (("::1", 7),))),
        ("redis://:p%40s%2F%3A@h", RedisUrl(FORMS["redis"], (("h", 6379),), password="p@s/:")),
        ("redis://me%3A:a:b@h", RedisUrl(FORMS["redis"], (("h", 6379),), "me:", "a:b")),
        ("redis://:a@b@h", RedisUrl(FORMS["redis"], (("h", 6379),), password="a@b")),
        ("unix:///run/a%20b.sock?db=2", RedisUrl(FORMS["unix"], db=2, path="/run/a b.sock")),
        ("unix://me:pw@/run/s", RedisUrl(FORMS["unix"], (), "me", "pw", path="/run/s")),
        ("redis+cluster://a:1,[::1],c", RedisUrl(FORMS["redis+cluster"], (("a", 1), ("::1", 6379), ("c", 6379)))),
        (
            "redis+sentinel://me:pw@a,b:3/main/2?sentinel_username=w&sentinel_password=x%26y",
            RedisUrl(
                FORMS["redis+sentinel"],
                (("a", 26379), ("b", 3)),
                *("me", "pw", 2),
                service="main",
                sentinel_username="w",
                sentinel_password="x&y",
            ),
        ),
    ],
)
def test_a_url_is_parsed(url: str, meant: RedisUrl) -> None:
    assert parse(url) == meant


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("memory://", "not a URL for Redis; there are redis://, rediss://"),
        (f"redis:{SECRET}", "not a URL for Redis"),
        ("redis://", "needs host:port, with a port from 1 to 65535"),
        ("redis://h:0", "a port from 1 to 65535"),
        ("redis://h:65536", "a port from 1 to 65535"),
        (f"redis://h:{SECRET}", "a port from 1 to 65535"),
        ("redis://[::1", "brackets belong around an IPv6 address only"),
        (f"redis://:{SECRET}[@h", "brackets"),
        ("redis://::1:7", "IPv6 as [::1]:6379"),
        ("redis://a,b", "takes one host; several need redis+sentinel:// or redis+cluster://"),
        ("redis+cluster://a,,b", "needs host:port,host:port"),
        (f"redis://{SECRET}@h", "a login needs a password"),
        (f"redis://:a/{SECRET}@h", "in a name or password write / ? # @ % as %2F"),
        (f"redis://:1?{SECRET}@h", "in a name or password write"),
        (f"redis://:1#{SECRET}@h", "in a name or password write"),
        ("redis://h#x", "nothing may follow a #"),
        ("redis://h/zero", "a database is a number"),
        ("redis://h/-1", "a database is a number"),
        ("redis://h/0/1", "takes one database"),
        ("redis://h/1?db=2", "takes one database"),
        ("redis://h?db=1&db=2", "an option is given twice"),
        ("redis://h?socket_timeout=1", "unknown option socket_timeout; there are db"),
        ("redis://h?=1", "an option without a name"),
        ("redis://h?ssl_ca_certs=/x", "unknown option ssl_ca_certs"),
        ("redis+cluster://h/0", "has no databases"),
        ("redis+cluster://h?db=0", "unknown option db"),
        ("redis+sentinel://h", "needs the master's name: redis+sentinel://host:26379/mymaster"),
        ("unix://", "needs the path of a socket"),
        (f"unix://:{SECRET}@", "needs the path of a socket"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of none, optional, required"),
        ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs: No such file or directory"),
        (f"rediss://h?ssl_certfile=/nowhere/c.pem&ssl_password={SECRET}", "ssl_certfile: No such file or directory"),
        ("rediss://h?ssl_ca_data=x", "rediss://: ssl_ca_data: "),
    ],
)
def test_an_invalid_url_is_an_error_with_the_reason(url: str, why: str) -> None:
    assert why in wrong(url)


@given(st.text(alphabet="ab:/?#@%[],&=.0", max_size=12), st.text(alphabet="ab:/?#@%[],&=.0", max_size=12))
def test_no_text_breaks_the_parser_or_shows_a_password(before: str, after: str) -> None:
    for scheme in ("redis", "redis+sentinel", "redis+cluster", "unix"):
        try:
            parsed = parse(f"{scheme}://user:{before}{SECRET}{after}@host:1/name")
        except BadStoreUrl as error:
            assert SECRET not in str(error)
        else:
            assert SECRET not in repr(parsed)


def test_tls_is_checked_unless_the_url_turns_it_off() -> None:
    strict = parse("rediss://h").tls
    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    for scheme in ("rediss", "rediss+cluster"):
        lax = parse(f"{scheme}://h?ssl_cert_reqs=none").tls
        assert lax is not None
        assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    other_name = parse("rediss+sentinel://h/m?ssl_check_hostname=False").tls
    assert other_name is not None
    assert (other_name.verify_mode, other_name.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_a_configured_certificate_is_loaded(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    url = f"rediss://h?ssl_ca_certs={made.ca}&ssl_certfile={made.cert}&ssl_keyfile={made.key}"
    context = parse(url).tls
    assert context is not None
    assert [authority["subject"] for authority in context.get_ca_certs()] == [((("commonName", "authority"),),)]
    assert "ssl_keyfile" in wrong(url.replace(str(made.key), str(made.ca)))
