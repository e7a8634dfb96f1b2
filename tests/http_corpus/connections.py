"""Requests about their connection, several in a row, large ones, and forms."""

from __future__ import annotations

from collections.abc import Iterator

from tests.http_corpus.building import (
    BODY,
    CHUNKED,
    EITHER,
    JSON,
    LOCAL,
    SERVED,
    SIZE,
    SMUGGLED,
    Case,
    absent,
    body_is,
    chunks,
    get,
    post,
)
from tests.http_corpus.strict import CRLF


def cases() -> Iterator[Case]:
    """All cases of this file."""
    yield from upgrades()
    yield from hop_by_hop()
    yield from pipelines()
    yield from remembered_heads()
    yield from sizes()
    yield from forms()


def upgrades() -> Iterator[Case]:
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    yield Case("h2c with a body", post(*h2c), SERVED, check=body_is(BODY))
    yield Case("h2c, chunked", chunks(*h2c), SERVED, check=body_is(BODY))
    yield Case(
        "h2c with CL and TE", post(*h2c, CHUNKED, b"Content-Length: 4", sized=False, body=b"0\r\n\r\n" + SMUGGLED)
    )
    yield Case("h2c with two lengths", post(*h2c, b"Content-Length: 5", body=BODY + SMUGGLED))
    yield Case("h2c, then frames", post(*h2c) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", EITHER)
    yield Case("h2c in HTTP/1.0", post(*h2c, version=b"HTTP/1.0"), SERVED, check=body_is(BODY))
    yield Case(
        "h2c with another coding",
        post(*h2c, b"Transfer-Encoding: gzip, chunked", sized=False, body=b"0\r\n\r\n" + SMUGGLED),
    )
    yield Case(
        "websocket with a body", post(b"Connection: Upgrade", b"Upgrade: websocket"), SERVED, check=body_is(BODY)
    )
    yield Case(
        "websocket",
        get(b"/v1/realtime", b"Connection: Upgrade", b"Upgrade: websocket") + SMUGGLED,
        EITHER,
        most=1,
        closes=False,
        check=lambda seen: None if all(b"SMUGGLED" in each.line for each in seen) else "odd",
    )
    yield Case("an offer a hundred times in one write", post(*h2c) * 100, SERVED, most=100)
    yield Case(
        "an offer a thousand times in one write",
        post(*h2c) * 1000,
        SERVED,
        most=1000,
        check=lambda seen: None if seen else "nothing was served",
    )


def hop_by_hop() -> Iterator[Case]:
    yield Case("nominated header", post(b"Connection: close, X-Foo", b"X-Foo: 1"), SERVED, check=absent(b"x-foo"))
    yield Case(
        "nominated, two Connections",
        post(b"Connection: X-Foo", b"Connection: X-Bar", b"X-Foo: 1", b"X-Bar: 1"),
        SERVED,
        check=absent(b"x-foo", b"x-bar"),
    )
    yield Case("nominated length", post(b"Connection: content-length, host, x-request-id"), SERVED, check=body_is(BODY))
    yield Case(
        "nominated coding",
        post(b"Connection: transfer-encoding", CHUNKED, sized=False, body=b"1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
        EITHER,
        check=body_is(BODY),
    )
    for line in (
        b"TE: trailers, chunked",
        b"Trailer: X-Foo",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic eDp5",
        b"Upgrade: h2c",
        b"HTTP2-Settings: x",
        b"Expect: 100-continue",
    ):
        yield Case(f"hop-by-hop: {line.decode()}", post(line), SERVED)
    yield Case("an unknown Expect", post(b"Expect: 200-ok"), EITHER, closes=False, statuses=(400, 417))
    for name in (
        b"x-turnout-pod",
        b"x-turnout-replica",
        b"x-turnout-attempts",
        b"x-turnout-arm",
        b"x-turnout-policy",
        b"x-turnout-pool",
        b"x-turnout-priority",
        b"x-turnout-deadline-ms",
        b"x-turnout-slo-ttft-ms",
        b"x-turnout-slo-tpot-ms",
        b"x-turnout-anything",
    ):
        value = (
            b"1"
            if name in (b"x-turnout-priority", b"x-turnout-anything")
            else b"60000"
            if name.endswith(b"-ms")
            else b"spoofed"
        )
        yield Case(f"spoofed {name.decode()}", post(name + b": " + value), EITHER, closes=False, check=absent(name))
    yield Case("compressed body", post(b"Content-Encoding: gzip"), LOCAL, statuses=(415,), closes=False)
    yield Case(
        "twice encoded body",
        post(b"Content-Encoding: identity", b"Content-Encoding: gzip"),
        LOCAL,
        statuses=(415,),
        closes=False,
    )


def pipelines() -> Iterator[Case]:
    yield Case("two in one write", post() + post(), SERVED, most=2)
    yield Case("rubbish behind", post() + b"rubbish\r\n\r\n", EITHER)
    yield Case(
        "a close between",
        post(b"Connection: close") + SMUGGLED,
        SERVED,
        most=1,
        check=lambda seen: (
            None if not any(b"SMUGGLED" in each.line for each in seen) else "a request after `close` crossed"
        ),
    )
    yield Case(
        "HTTP/1.0 and another",
        post(version=b"HTTP/1.0") + SMUGGLED,
        SERVED,
        most=1,
        check=lambda seen: (
            None if not any(b"SMUGGLED" in each.line for each in seen) else "a request after HTTP/1.0 crossed"
        ),
    )
    yield Case("a refusal and another", post(b"X : y") + SMUGGLED)
    yield Case("twenty in one write", post() * 20, SERVED, most=20)


def remembered_heads() -> Iterator[Case]:
    good = post()
    line = b"Content-Length: %d" % SIZE
    for name, odd in {
        "a plus": b"Content-Length: +27",
        "a minus": b"Content-Length: -27",
        "a blank within": b"Content-Length: 2 7",
        "nothing": b"Content-Length: ",
        "a NUL": b"Content-Length: 27\x00",
        "a bare LF": b"Content-Length: 27\n",
        "a bare CR": b"Content-Length: 27\r",
        "twelve nines": b"Content-Length: 999999999999",
        "a second one": b"Content-Length: 27\r\nContent-Length: 27",
        "a coding too": b"Content-Length: 27\r\nTransfer-Encoding: chunked",
    }.items():
        yield Case(f"known head, {name}", good.replace(line, odd) + SMUGGLED, warm=good)
    yield Case(
        "known head, thirteen digits",
        good.replace(line, b"Content-Length: 0000000000027"),
        SERVED,
        warm=good,
        check=body_is(BODY),
    )
    yield Case("known head, longer body", post(body=BODY + b" " * 5), SERVED, warm=good, check=body_is(BODY + b" " * 5))
    yield Case("known head, no body", post(body=b""), LOCAL, warm=good, statuses=(400,), closes=False)
    other = post(b"X-Strength: 5")
    yield Case("a name that ends alike", other, SERVED, warm=other, check=body_is(BODY))


def sizes() -> Iterator[Case]:
    yield Case("a target of 100 KB", post(target=b"/v1/" + b"a" * 100_000), statuses=(414, 431, 400))
    yield Case("a query of 100 KB", post(target=b"/v1/completions?" + b"a" * 100_000), statuses=(414, 431, 400))
    yield Case("a header of 100 KB", post(b"X: " + b"a" * 100_000), statuses=(431,))
    yield Case("a name of 100 KB", post(b"X" * 100_000 + b": a"), statuses=(431,))
    yield Case("10,000 headers", post(*(b"X-%d: a" % at for at in range(10_000))), statuses=(431,))
    yield Case("a length of 1 TB", post(b"Content-Length: 1099511627776", sized=False), statuses=(413,))
    yield Case("endless blank lines, then a request", b"\r\n" * 40_000 + post(), EITHER)


def form(*parts: bytes, boundary: bytes = b"b", content_type: bytes = b"multipart/form-data") -> bytes:
    """A POST of a form made of these parts' heads and bodies."""
    body = b"".join(b"--" + boundary + CRLF + part + CRLF for part in parts) + b"--" + boundary + b"--" + CRLF
    plain_post = post(body=body, target=b"/v1/audio/transcriptions")
    return plain_post.replace(JSON, b"Content-Type: " + content_type + b"; boundary=" + boundary)


def form_field(name: bytes, value: bytes, *more: bytes) -> bytes:
    return b"".join((b'Content-Disposition: form-data; name="', name, b'"', *more, CRLF, CRLF, value))


def forms() -> Iterator[Case]:
    model, other = form_field(b"model", b"m"), form_field(b"model", b"other")
    yield Case("form: plain", form(form_field(b"file", b"RIFF", b'; filename="a.wav"'), model), SERVED)
    yield Case("form: type in capitals", form(model, content_type=b"Multipart/Form-Data"), SERVED)
    yield Case(
        "form: two models, of which engines take the last", form(model, other), LOCAL, statuses=(400, 404), closes=False
    )
    yield Case(
        "form: the model inside a file, another outside",
        form(form_field(b"file", b"x\r\n" + model + b"\r\ny", b'; filename="a"'), other),
        LOCAL,
        statuses=(400, 404),
        closes=False,
    )
    yield Case(
        "form: the model behind another boundary",
        form(other + b"\r\n--c\r\n" + model),
        LOCAL,
        statuses=(400, 404),
        closes=False,
    )
    yield Case(
        "two content types",
        post(b"Content-Type: multipart/form-data; boundary=b"),
        LOCAL,
        statuses=(400,),
        closes=False,
    )
