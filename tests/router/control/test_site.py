"""Which Host, Origin and Sec-Fetch-Site headers a request may have. Pure; test_guard.py sends the same over sockets."""

from __future__ import annotations

from collections.abc import Sequence

from router.control.site import site_problem
from tests.fakes.each_case import each_case


def code(
    host: str | Sequence[str], *origins: str, sites: Sequence[str] = (), own: str | None = None, pages: bool = False
) -> str | None:
    problem = site_problem([host] if isinstance(host, str) else host, origins, sites, own_name=own, pages=pages)
    return problem.code if problem is not None else None


@each_case(
    "hosts",
    [
        [],
        [""],
        ["a", "a"],
        ["127.0.0.1:9000", "evil.example"],
        ["[::1"],
        ["::1"],
        ["evil.example@127.0.0.1"],
        ["127.0.0.1@evil.example"],
        ["user:pass@127.0.0.1:9000"],
        ["127.0.0.1/evil.example"],
        ["127.0.0.1?evil.example"],
        ["127.0.0.1#evil.example"],
        ["127.0.0.1\\evil.example"],
        ["127.0.0.1, evil.example"],
        ["127.0.0.1 evil.example"],
        ["127.0.0.1:9000:9000"],
        ["127.0.0.1:"],
        ["127.0.0.1:port"],
        ["127.0.0.1:123456"],
        ["[::1]evil.example"],
        ["http://127.0.0.1"],
    ],
)
def test_a_request_has_one_host_of_a_strict_form(hosts: list[str]) -> None:
    assert code(hosts) == "invalid_host"
    assert code(hosts, "null", own="127.0.0.1") == "invalid_host"


@each_case(
    ("host", "origin"),
    [
        ("127.0.0.1:9000", "https://evil.example"),
        ("127.0.0.1:9000", "null"),
        ("127.0.0.1:9000", ""),
        ("127.0.0.1:9000", "http://127.0.0.1:1"),
        ("127.0.0.1:9000", "http://127.0.0.1"),
        ("127.0.0.1:9000", "http://user@127.0.0.1:9000"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000@evil.example"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000.evil.example"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000 http://evil.example"),
        ("127.0.0.1:9000", "chrome-extension://127.0.0.1:9000"),
        ("127.0.0.1:9000", "file://"),
        ("127.0.0.1:9000", "://127.0.0.1:9000"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("ops.example", "http://ops.example:8080"),
        ("ops.example:443", "http://ops.example"),
        ("ops.example.", "https://ops.example"),
        ("[fe80::1%25eth0]:9000", "http://[fe80::1]:9000"),
        ("[::1]:9000", "http://["),
    ],
)
def test_a_page_of_another_origin_is_refused(host: str, origin: str) -> None:
    assert code(host, origin) == "foreign_origin"
    assert code(host, origin, pages=True) == "foreign_origin"


@each_case(
    ("host", "origin"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("127.0.0.1:19000", "http://127.0.0.1:19000"),
        ("LocalHost:9000", "http://localhost:9000"),
        ("[::1]:9000", "HTTP://[::1]:9000"),
        ("ops.example", "https://ops.example"),
        ("ops.example:443", "https://ops.example"),
        ("ops.example", "http://ops.example:80"),
    ],
)
def test_the_port_s_own_page_is_not(host: str, origin: str) -> None:
    assert code(host, origin) is None
    assert code(host, origin, "https://evil.example") == "foreign_origin"


def test_a_browser_that_says_that_another_site_asks_is_refused_except_where_a_link_may_lead() -> None:
    for site in ("cross-site", "same-site", "Cross-Site", " cross-site "):
        assert code("127.0.0.1:9000", sites=[site]) == "foreign_origin", site
        assert code("127.0.0.1:9000", sites=["same-origin", site]) == "foreign_origin", site
        assert code("127.0.0.1:9000", sites=[site], pages=True) is None, site
    for site in ("same-origin", "none"):
        assert code("127.0.0.1:9000", sites=[site]) is None, site


REBINDABLE = (
    *("evil.example", "evil.example:9000", "127.0.0.1.evil.example", "127.0.0.1.", "localhost.", "localhost.evil.it"),
    *("2130706433", "0x7f.1", "127.1", "0177.0.0.1", "xlocalhost", "turnout.internal.evil.example", "[v1.evil]", "."),
)
"""Names, and ways to write an address that no browser leaves in a Host header."""


def test_without_a_token_only_what_others_cannot_point_here_is_a_host() -> None:
    for host in REBINDABLE:
        assert code(host, own="turnout.internal") == "foreign_host", host
        assert code(host, f"http://{host}", own="turnout.internal") in ("foreign_host", "foreign_origin"), host
        assert code(host) is None, host
    own = ("localhost", "LOCALHOST:9000", "127.0.0.1", "10.1.2.3", "[::1]:1", "[FE80::1%25eth0]", "Turnout.Internal:9")
    for host in own:
        assert code(host, own="turnout.internal") is None, host
    assert code("[::1]:9000", own="[::1]") is None
