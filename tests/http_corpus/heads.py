"""Requests whose lines, names, values or hosts two parsers might read differently."""

from __future__ import annotations

from collections.abc import Iterator

from tests.http_corpus.building import BODY, EITHER, HOST, LOCAL, REFUSED, SERVED, SMUGGLED, Case, absent, body_is, post


def cases() -> Iterator[Case]:
    """All cases of this file."""
    yield from line_ends()
    yield from header_names_and_values()
    yield from hosts()
    yield from start_lines()
    yield from targets()


def line_ends() -> Iterator[Case]:
    yield Case("LF only", post(eol=b"\n") + SMUGGLED)
    yield Case("LF at the end of the head", post().replace(b"\r\n\r\n", b"\n\n") + SMUGGLED)
    yield Case("LF CR", post(eol=b"\n\r") + SMUGGLED)
    yield Case("CR only", post(eol=b"\r") + SMUGGLED)
    yield Case("CR CR LF", post(b"X: y\r") + SMUGGLED)
    yield Case("LF after the start line", post().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n") + SMUGGLED)
    yield Case("a bare LF in a value", post(b"X: y\nX-Injected: 1") + SMUGGLED, check=absent(b"x-injected"))
    yield Case("a bare CR in a value", post(b"X: y\rX-Injected: 1") + SMUGGLED)
    yield Case("a bare LF ends one header", post(b"X: y").replace(b"X: y\r\n", b"X: y\n") + SMUGGLED)
    yield Case("LF CR LF ends the head", post().replace(b"\r\n\r\n", b"\r\n\n", 1) + SMUGGLED)
    yield Case("a fold", post(b"X: y\r\n z") + SMUGGLED)
    yield Case("a fold of nothing", post(b"X: y\r\n ") + SMUGGLED)
    yield Case("a fold on the first line", post().replace(b"Host: g", b" Host: g") + SMUGGLED)
    yield Case("blank lines before", b"\r\n\r\n" + post(), SERVED, check=body_is(BODY))
    yield Case("a LF before", b"\n" + post(), EITHER)
    yield Case("a blank before", b" " + post())
    yield Case("a NUL before", b"\x00" + post())
    yield Case("a byte order mark before", b"\xef\xbb\xbf" + post())


def header_names_and_values() -> Iterator[Case]:
    for char in b'"(),/;<=>?@[\\]{} \x00\x01\x7f\x80\xff\t':
        yield Case(f"a name with {bytes([char])!r}", post(b"X-%cA: y" % char) + SMUGGLED)
    yield Case("no name", post(b": y") + SMUGGLED)
    yield Case("no colon", post(b"rubbish") + SMUGGLED)
    for char in b"\x00\x01\x08\x0b\x0c\x1b\x7f":
        yield Case(f"a value with {bytes([char])!r}", post(b"X: a%cb" % char) + SMUGGLED)
    yield Case("a value with bytes over 127", post(b"X: \xc3\xa4\xff"), SERVED)
    yield Case("an empty value", post(b"X:"), SERVED)
    yield Case("all characters of a token", post(b"!#$%&'*+-.^_`|~0aZ: y"), SERVED)
    yield Case("a request id with a tab", post(b"X-Request-Id: a\tb"), SERVED)
    yield Case("a request id with an escape", post(b"X-Request-Id: a\x1b[31mb") + SMUGGLED)
    yield Case("two request ids", post(b"X-Request-Id: a", b"X-Request-Id: b"), SERVED)
    yield Case("an id beside", post(b"X_Request_Id: a"), SERVED)


def hosts() -> Iterator[Case]:
    yield Case("no host", post(host=False) + SMUGGLED)
    yield Case("no host in HTTP/1.0", post(host=False, version=b"HTTP/1.0"), SERVED)
    yield Case("two hosts", post(b"Host: evil") + SMUGGLED)
    yield Case("two equal hosts", post(HOST) + SMUGGLED)
    for name, value in {
        "a path": b"g/evil",
        "userinfo": b"a@g",
        "a blank": b"g evil",
        "a comma": b"g, evil",
        "a bad port": b"g:99x",
    }.items():
        yield Case(f"host: {name}", post(b"Host: " + value, host=False) + SMUGGLED)
    yield Case("host: empty", post(b"Host:", host=False), EITHER)


def start_lines() -> Iterator[Case]:
    for name, line in {
        "HTTP/0.9": b"POST /v1/completions",
        "HTTP/1.2": b"POST /v1/completions HTTP/1.2",
        "HTTP/2.0": b"POST /v1/completions HTTP/2.0",
        "HTTP/1.10": b"POST /v1/completions HTTP/1.10",
        "HTTP/01.1": b"POST /v1/completions HTTP/01.1",
        "HTTP/11": b"POST /v1/completions HTTP/11",
        "http/1.1": b"POST /v1/completions http/1.1",
        "HTTP/1.1x": b"POST /v1/completions HTTP/1.1x",
        "ICE/1.0": b"POST /v1/completions ICE/1.0",
        "RTSP/1.0": b"POST /v1/completions RTSP/1.0",
        "two blanks": b"POST  /v1/completions HTTP/1.1",
        "a tab": b"POST\t/v1/completions\tHTTP/1.1",
        "two blanks before the version": b"POST /v1/completions  HTTP/1.1",
        "a blank at the end": b"POST /v1/completions HTTP/1.1 ",
        "a blank in the target": b"POST /v1/comp letions HTTP/1.1",
        "two versions": b"POST /v1/completions HTTP/1.1 HTTP/1.1",
        "no target": b"POST HTTP/1.1",
        "no method": b"/v1/completions HTTP/1.1",
        "a method in lower case": b"post /v1/completions HTTP/1.1",
        "a method with a NUL": b"PO\x00ST /v1/completions HTTP/1.1",
        "an unknown method": b"SMUG /v1/completions HTTP/1.1",
        "a method and a colon": b"POST: /v1/completions HTTP/1.1",
    }.items():
        lenient = name.startswith("two blanks")  # allowed by RFC 9112, 3, and what crosses is put right
        yield Case(
            f"start line: {name}",
            post().replace(b"POST /v1/completions HTTP/1.1", line) + SMUGGLED,
            EITHER if lenient else REFUSED,
            most=2 if lenient else 1,
        )
    yield Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    yield Case("HTTP/0.9 GET", b"GET /v1/models\r\n\r\n")
    yield Case("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
    yield Case("PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + post())
    yield Case("PUT", post(method=b"PUT"), LOCAL, statuses=(404, 405))
    yield Case("TRACE", post(method=b"TRACE"), LOCAL, statuses=(404, 405))
    yield Case("HTTP/1.0", post(version=b"HTTP/1.0"), SERVED, check=body_is(BODY))


def targets() -> Iterator[Case]:
    for name, target in {
        "a fragment": b"/v1/completions#x",
        "a NUL": b"/v1/comp\x00letions",
        "a DEL": b"/v1/comp\x7fletions",
        "a byte over 127": b"/v1/\xff",
        "an escape": b"/v1/\x1b[2J",
        "a raw CR": b"/v1/x\ry",
        "a raw LF": b"/v1/x\ny",
        "a raw CRLF in the query": b"/v1/x?\r\nX-Injected: 1\r\n",
        "a tab": b"/v1/x\ty",
        "no slash": b"v1/completions",
        "a backslash": b"\\v1\\completions",
    }.items():
        yield Case(
            f"target: {name}",
            post(target=target) + SMUGGLED,
            check=absent(b"x-injected"),
            statuses=(400, 404),
            closes=name != "no slash" and name != "a backslash",
        )
    for name, target in {
        "//v1": b"//v1/completions",
        "/V1": b"/V1/completions",
        "*": b"*",
        "dots first": b"/./v1/completions",
        "encoded v1": b"/%76%31/completions",
        "up and down": b"/x/../v1/completions",
        "an encoded slash": b"/v1%2fcompletions",
        "the admin's": b"/admin/drain",
        "metrics": b"/metrics",
    }.items():
        yield Case(f"target: {name}", post(target=target), LOCAL, statuses=(400, 404, 405))
    for name, target in {
        "up out of /v1": b"/v1/../metrics",
        "encoded up out of /v1": b"/v1/%2e%2e/metrics",
        "half encoded": b"/v1/.%2E/metrics",
        "up with an encoded slash": b"/v1/..%2fmetrics",
        "up with a backslash": b"/v1/..\\metrics",
        "up with parameters": b"/v1/..;/metrics",
        "up further in": b"/v1/chat/../../metrics",
        "twice encoded": b"/v1/%252e%252e/metrics",
    }.items():
        yield Case(
            f"target: {name}",
            post(target=target),
            LOCAL if name != "twice encoded" else EITHER,
            statuses=(400, 404),
            closes=False,
        )
    for name, target in {
        "an encoded CRLF": b"/v1/x%0d%0aX-Injected:%201",
        "an encoded NUL": b"/v1/x%00",
        "a query": b"/v1/completions?a=b&c=%20",
    }.items():
        yield Case(f"target: {name}", post(target=target), EITHER, check=absent(b"x-injected"), closes=False)
    for name, target, want in (
        ("absolute", b"http://g/v1/completions", SERVED),
        ("absolute, another host", b"http://evil:1/v1/completions", EITHER),
        ("absolute, userinfo", b"http://a:b@g/v1/completions", EITHER),
        ("absolute, https", b"https://g/v1/completions", EITHER),
        ("absolute, no path", b"http://g", LOCAL),
        ("absolute, a query only", b"http://g?x=/v1/completions", LOCAL),
        ("absolute, another scheme", b"file:///v1/completions", EITHER),
        ("absolute, twice", b"http://g/http://evil/v1/completions", LOCAL),
        ("absolute, a query with a path", b"http://g?/v1/completions", LOCAL),
        ("authority", b"g:80", LOCAL),
    ):
        yield Case(
            f"target: {name}",
            post(target=target),
            want,
            closes=False,
            check=lambda seen: (
                None if all(each.line.startswith(b"POST /v1/completions") for each in seen) else "the target changed"
            ),
        )
    yield Case("CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n" + SMUGGLED)
    yield Case("CONNECT with a length", post(method=b"CONNECT", target=b"evil:443") + SMUGGLED)
    yield Case("CONNECT of a path", post(method=b"CONNECT") + SMUGGLED)
