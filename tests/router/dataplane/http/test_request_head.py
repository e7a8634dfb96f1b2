"""Heads that have one reading, and the refusal of those that have two."""

from __future__ import annotations

import pytest

from router.dataplane.http.header_rules import CHUNKED_LENGTH, NO_LENGTH
from router.dataplane.http.request_head import RequestHead, is_host, parse_head
from router.errors import BadFraming, BadRequest, HeadersTooLarge, InternalError, VersionNotSupported
from router.settings import Limits
from tests.fakes.each_case import each_case


def head(*lines: str, start: str = "POST /v1/completions HTTP/1.1", host: bool = True) -> bytes:
    return "\r\n".join([start, *(["host: g"] if host else []), *lines, "", ""]).encode("latin-1")


def parse(raw: bytes) -> RequestHead:
    return parse_head(raw, Limits())[0]


def target_of(target: str) -> bytes:
    return parse(head(start=f"POST {target} HTTP/1.1")).target


def test_a_head_is_read_into_what_the_gateway_needs() -> None:
    raw = head("Content-Type: a/b", "X-A:1", "connection: x-b", "x-b: 2", "content-length: 5")
    found, length = parse_head(raw, Limits())
    assert length == 5
    assert found[:4] == (b"POST", b"/v1/completions", True, True)
    assert b"".join(found.kept) == b"content-type: a/b\r\nx-a: 1\r\n"
    assert found.header_map[b"content-type"] == b"a/b"


@pytest.mark.parametrize(
    ("lines", "length"),
    [((), NO_LENGTH), (("content-length: 0",), 0), (("transfer-encoding: \tChunked ",), CHUNKED_LENGTH)],
)
def test_the_length_of_the_body_is_returned(lines: tuple[str, ...], length: int) -> None:
    assert parse_head(head(*lines), Limits())[1] == length


@pytest.mark.parametrize("kind", ["h2c", "websocket"])
def test_an_offer_to_upgrade_changes_nothing(kind: str) -> None:
    found, length = parse_head(head(f"upgrade: {kind}", "connection: upgrade", "content-length: 3"), Limits())
    assert (found.keep_alive, found.kept, length) == (True, [], 3)


# The start line


@each_case("version", ["0.9", "1.2", "1.9", "2.0", "3.0", "9.9"])
def test_another_version_is_a_505(version: str) -> None:
    """Case D 20."""
    with pytest.raises(VersionNotSupported) as caught:
        parse(head(start=f"GET /v1/models HTTP/{version}"))
    assert caught.value.shape.status == 505
    assert caught.value.shape.closes


@pytest.mark.parametrize("line", ["content-length: 2", "Transfer-Encoding : chunked", "CONTENT-LENGTH:2"])
def test_a_body_of_another_version_cannot_be_framed(line: str) -> None:
    with pytest.raises(BadFraming):
        parse(head(line, start="POST /v1/completions HTTP/2.0"))


@each_case(
    "start",
    [
        *("GET /v1/models", "GET  /v1/models HTTP/1.1", "GET /v1/models  HTTP/1.1", "GET /v1/models HTTP/1.1 "),
        *("GET\t/v1/models HTTP/1.1", "GET /v1 models HTTP/1.1", "GET /v1/models http/1.1", "GET /v1/models HTTP/1.10"),
        *("GET /v1/models HTTP/01.1", "GET /v1/models HTTP/11", "GET /v1/models RTSP/1.0", "SOURCE /v1/models ICE/1.0"),
        *("get /v1/models HTTP/1.1", "GET: /v1/models HTTP/1.1", "/v1/models HTTP/1.1", "GET HTTP/1.1", ""),
        *("SMUG /v1/models HTTP/1.1", "G\x00T /v1/models HTTP/1.1", "GET /v1/\xff HTTP/1.1", "GET /v1/\x7f HTTP/1.1"),
        *("PRI * HTTP/2.0", "CONNECT evil:443 HTTP/1.1", "CONNECT /v1/models HTTP/1.1"),
    ],
)
def test_a_start_line_that_is_not_three_words_is_refused(start: str) -> None:
    with pytest.raises(BadFraming):
        parse(head(start=start))


# Host


@each_case(
    "host",
    [
        *("g", "gateway.example.org", "turnout_gateway:8000", "1.2.3.4:80", "[::1]", "[fe80::1%25eth0]:8000", "", "g:"),
        *("xn--mnchen-3ya.de", "a%20b", "G:65535", "  g  "),
    ],
)
def test_a_host_is_a_name_or_an_address_and_perhaps_a_port(host: str) -> None:
    """Case D 20."""
    assert parse(head(f"Host: {host}", host=False)).http11


@each_case(
    "host",
    [
        *("g/evil", "a@g", "g evil", "g, evil", "g,evil", "g:99x", "g:65536", "g:-1", "g:80:80", "[::1", "::1", "[g]"),
        *("g?", "g#", "g\\evil", "http://g", "m\xfcnchen.de", "g%2", "<g>", '"g"'),
    ],
)
def test_a_malformed_host_is_refused(host: str) -> None:
    """Case D 20."""
    assert not is_host(host.encode("latin-1"))
    with pytest.raises(BadFraming, match="Host"):
        parse(head(f"Host: {host}", host=False))


def test_http_1_1_needs_one_host_and_http_1_0_none() -> None:
    """Case D 20."""
    with pytest.raises(BadFraming, match="Host"):
        parse(head(host=False))
    for second in ("Host: g", "hOST: evil", "host:"):
        for start in ("GET /v1/models HTTP/1.1", "GET /v1/models HTTP/1.0"):
            with pytest.raises(BadFraming, match="Host"):
                parse(head(second, start=start))
    assert not parse(head(start="GET /v1/models HTTP/1.0", host=False)).keep_alive


# The target

UP = [
    *(
        "/v1/../metrics",
        "/v1/..",
        "/v1/.",
        "/./v1/completions",
        "/v1/%2e%2e/metrics",
        "/v1/.%2E/metrics",
        "/..",
        "/v1/./x",
    ),
    *("/v1/%2e", "/v1/..%2fmetrics", "/v1%2f..%2Fmetrics", "/v1/..%5cmetrics", "/v1/..\\metrics", "/v1\\..\\metrics"),
    *("/v1/..;/metrics", "/v1/..;a=b/metrics", "/v1/..%3b/metrics", "/v1/.;/x", "/v1/%252e%252e/metrics", "/v1/..?x=1"),
    *("/v1/%25252e%25252e%25252fmetrics", "/v1/..%252fmetrics", "/v1/%c0%ae%c0%ae/metrics", "/v1/..%c0%afmetrics"),
    *("/v1/%ef%bc%8e%ef%bc%8e/metrics", "/v1/%e0%80%ae./metrics", "/v1/%u002e%u002e/metrics", "http://g/v1/../metrics"),
    *(
        "/v1/chat/../../metrics",
        "//../metrics",
        "/v1/..//metrics",
        "http://g/..",
        "/v1/..%c1%9cmetrics",
        "/v1/..%u2215metrics",
    ),
]


@each_case("target", UP)
def test_no_dot_segment_crosses_in_any_spelling(target: str) -> None:
    """Case D 19."""
    with pytest.raises(BadRequest, match="segment"):
        target_of(target)


@pytest.mark.parametrize("target", ["/v1/x%0d%0ay", "/v1/x%00", "/v1/a\\b", "/v1/%7F"])
def test_a_path_has_no_backslash_and_no_control_character(target: str) -> None:
    """Case D 19."""
    with pytest.raises(BadRequest, match="encoded"):
        target_of(target)


@each_case(
    "target",
    [
        *("/v1/models/org%2Fname", "/v1/models/a..b", "/v1/...", "/v1/.well-known", "/v1/x?next=../y&z=%2e%2e%61"),
        *("/v1/models/%C3%BC", "/v1/files/file-1%20a", "/v1/..a", "/v1/models/v2%2E1", "*", "/", "/v1/x{y}|^`"),
    ],
)
def test_other_paths_and_every_query_pass_as_they_came(target: str) -> None:
    assert target_of(target) == target.encode()


@each_case(
    ("target", "origin"),
    [
        ("http://gateway:8000/v1/models?x=1", "/v1/models?x=1"),
        ("http://gateway", "/"),
        ("HTTPS://g/v1", "/v1"),
        ("http://g?x=/v1/completions", "/?x=/v1/completions"),
        ("http://g?/v1/completions", "/?/v1/completions"),
        ("http://[::1]:8000/v1", "/v1"),
        ("http://g/http://evil/v1/completions", "/http://evil/v1/completions"),
    ],
)
def test_a_target_in_absolute_form_is_taken_as_its_path(target: str, origin: str) -> None:
    """Case D 19."""
    assert target_of(target) == origin.encode()


@each_case(
    "target",
    [
        *(
            "/v1/completions#x",
            "http://g#/v1/completions",
            "http://g/v1#x",
            "v1/completions",
            "\\v1\\completions",
            "g:80",
        ),
        *("file:///v1/completions", "ftp://g/v1", "http:///v1/completions", "http://a:b@g/v1", "http://g:99999/v1"),
        *("http:/v1/completions", "http://g\\x/v1", "?x=/v1", "http://"),
    ],
)
def test_a_target_that_is_neither_a_path_nor_a_url_is_refused(target: str) -> None:
    """Case D 19."""
    with pytest.raises((BadRequest, BadFraming)):
        target_of(target)


# Headers


@each_case(
    "lines",
    [
        *(
            ("x : y",),
            ("x\t: y",),
            (": y",),
            ("rubbish",),
            (" x: y",),
            ("x: y", " z"),
            ("x: a\x00b",),
            ("x: a\rb",),
            ("x: a\nb",),
        ),
        *(("x\x00: a",), ("x(: a",), ("x\xff: a",), ("x: \x1b",), ("x: \x7f",), ("x y: z",)),
    ],
)
def test_a_header_line_that_is_none_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadFraming):
        parse(head(*lines))


@pytest.mark.parametrize(
    "lines",
    [
        ("content-length: 2", "transfer-encoding: chunked"),
        ("content-length: 2", "content-length: 2"),
        ("content-length: 2,2",),
        ("transfer-encoding: gzip, chunked",),
        ("transfer-encoding: chunked", "transfer-encoding: chunked"),
    ],
)
def test_a_body_with_two_framings_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(BadFraming):
        parse(head(*lines))
    with pytest.raises(BadFraming):
        parse(head(*lines, start="POST /v1/completions HTTP/1.0"))


def test_http_1_0_has_no_transfer_encoding() -> None:
    with pytest.raises(BadFraming, match="Transfer-Encoding"):
        parse(head("transfer-encoding: chunked", start="POST /v1/completions HTTP/1.0"))


@pytest.mark.parametrize("name", ["content-type", "authorization", "x-api-key"])
def test_a_header_of_which_engine_and_gateway_might_take_another_comes_once(name: str) -> None:
    with pytest.raises(BadFraming, match=name):
        parse(head(f"{name}: a", f"{name.upper()}: b"))


def test_the_number_of_headers_is_limited() -> None:
    """Case E 22."""
    limits = Limits(max_headers=16)
    parse_head(head(*["x: y"] * 15), limits)
    with pytest.raises(HeadersTooLarge, match="max_headers"):
        parse_head(head(*["x: y"] * 16), limits)


def test_a_defect_in_a_callback_is_not_the_clients_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("router.dataplane.http.header_rules.HeaderFields.on_header", fail)
    with pytest.raises(InternalError):
        parse(head())
