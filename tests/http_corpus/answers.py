"""What a hostile or broken pod answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.http_corpus.strict import CRLF

OK = b"HTTP/1.1 200 OK\r\n"
EVIL = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-evil: 1\r\ncontent-length: 8\r\n\r\n"POISON"'
PASSED, BAD, ANY = "passed", "bad", "any"
"""The pod's status reaches the client; 502; either."""


@dataclass
class Hostile:
    """What a pod says, and what may become of it."""

    name: str
    parts: list[bytes]
    want: str = ANY
    close: bool = False
    request: bytes = b""
    head_only: bool = False
    absent: tuple[bytes, ...] = ()
    body: bytes | None = None
    late: bytes = b""
    """Said a moment after the answer is over, while the connection idles."""


def answered(
    *headers: bytes, body: bytes = b'{"ok":1}', sized: bool = True, status: bytes = b"HTTP/1.1 200 OK"
) -> bytes:
    lines = [status, b"content-type: application/json", *headers]
    if sized:
        lines.append(b"content-length: %d" % len(body))
    return CRLF.join(lines) + CRLF + CRLF + body


def hostile_answers() -> Iterator[Hostile]:
    """All answer cases."""
    te = b"transfer-encoding: chunked"
    sse = b"content-type: text/event-stream"
    # More than was asked for
    yield Hostile("an answer too many, same write", [answered() + EVIL], PASSED, body=b'{"ok":1}')
    yield Hostile("an answer too many, next write", [answered(), EVIL], PASSED, body=b'{"ok":1}')
    yield Hostile("an answer too many, later", [answered()], PASSED, late=EVIL, body=b'{"ok":1}')
    yield Hostile(
        "an answer too many behind chunks",
        [answered(te, sized=False, body=b'8\r\n{"ok":1}\r\n0\r\n\r\n') + EVIL],
        PASSED,
    )
    yield Hostile("an answer too many behind 204", [b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL], ANY)
    yield Hostile(
        "an answer too many behind 304", [b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n" + EVIL], ANY
    )
    yield Hostile("an answer too many behind a length of 0", [answered(body=b"") + EVIL], PASSED)
    yield Hostile("half an answer too many", [answered() + EVIL[:9]], PASSED, body=b'{"ok":1}')
    yield Hostile(
        "a body shorter than it says, then an answer", [answered(b"content-length: 20", sized=False) + EVIL], ANY
    )
    # Interim answers
    yield Hostile("100 first", [b"HTTP/1.1 100 Continue\r\n\r\n" + answered()], PASSED, body=b'{"ok":1}')
    yield Hostile(
        "103 with headers",
        [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\nset-cookie: a=b\r\n\r\n" + answered()],
        PASSED,
        body=b'{"ok":1}',
        absent=(b"link", b"set-cookie"),
    )
    yield Hostile("2,000 interim answers", [b"HTTP/1.1 100 Continue\r\n\r\n" * 2000 + answered()], ANY)
    yield Hostile("100 with a length", [b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nhello" + answered()], ANY)
    yield Hostile(
        "101", [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n" + answered()], ANY
    )
    # Status lines
    for line in (
        b"HTTP/1.1 200\r\n",
        b"HTTP/1.1 99 x\r\n",
        b"HTTP/1.1 1000 x\r\n",
        b"HTTP/1.1 600 x\r\n",
        b"HTTP/1.1 abc x\r\n",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/0.9 200 OK\r\n",
        b"ICY 200 OK\r\n",
        b"HTTP/1.1 200 O\rK\r\n",
        b"HTTP/1.1 200 O\x00K\r\n",
        b" HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1  200 OK\r\n",
    ):
        yield Hostile(f"status line {line!r}", [line + b'content-length: 8\r\n\r\n{"ok":1}'], ANY)
    # Headers
    for name, line in {
        "a bare CR": b"x: a\rset-cookie: evil=1",
        "a bare LF": b"x: a\nset-cookie: evil=1",
        "a NUL": b"x: a\x00b",
        "a fold": b"x: a\r\n b",
        "a blank before the colon": b"set-cookie : evil=1",
        "no colon": b"rubbish",
        "no name": b": a",
        "a name with a blank": b"x y: a",
        "an escape": b"x: \x1b[31m",
        "a DEL": b"x: a\x7f",
        "a name over 127": b"x\xff: a",
    }.items():
        yield Hostile(f"header with {name}", [answered(line)], ANY)
    yield Hostile(
        "hop-by-hop",
        [
            answered(
                b"connection: keep-alive, x-foo",
                b"x-foo: 1",
                b"keep-alive: timeout=5",
                b"proxy-authenticate: Basic",
                b"te: x",
                b"trailer: y",
                b"upgrade: h2c",
                b"proxy-connection: close",
            )
        ],
        PASSED,
        absent=(b"x-foo", b"keep-alive", b"proxy-authenticate", b"te", b"trailer", b"upgrade", b"proxy-connection"),
    )
    yield Hostile(
        "headers of ours",
        [
            answered(
                b"x-turnout-pod: evil",
                b"x-turnout-policy: evil",
                b"x-request-id: evil",
                b"x-turnout-fallback: evil",
                b"x-turnout-arm: evil",
                b"x-turnout-attempts: 99",
            )
        ],
        PASSED,
        absent=(b"x-turnout-fallback", b"x-turnout-arm"),
    )
    yield Hostile("a cookie", [answered(b"set-cookie: a=b", b"set-cookie: c=d")], PASSED)
    yield Hostile("headers without an end", [OK + b"x: " + b"a" * 200_000], ANY, close=True)
    yield Hostile(
        "10,000 headers",
        [OK + b"".join(b"x-%d: a\r\n" % at for at in range(10_000)) + b"content-length: 2\r\n\r\nok"],
        ANY,
    )
    # Length and coding
    both = b"0\r\n\r\n" + EVIL
    yield Hostile("CL and TE", [answered(te, b"content-length: %d" % len(both), sized=False, body=both)], ANY)
    yield Hostile("TE and CL", [answered(b"content-length: 3", te, sized=False, body=both)], ANY)
    for name, line in {
        "two lengths": b"content-length: 8\r\ncontent-length: 3",
        "equal lengths": b"content-length: 8\r\ncontent-length: 8",
        "a list": b"content-length: 8, 8",
        "a plus": b"content-length: +8",
        "a minus": b"content-length: -8",
        "an overflow": b"content-length: 18446744073709551624",
        "hex": b"content-length: 0x8",
        "xchunked": b"transfer-encoding: xchunked",
        "gzip, chunked": b"transfer-encoding: gzip, chunked",
        "two codings": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "a tab": b"transfer-encoding:\tchunked",
        "identity": b"transfer-encoding: identity",
    }.items():
        body = b'{"ok":1}' if b"length" in line else b'8\r\n{"ok":1}\r\n0\r\n\r\n'
        yield Hostile(f"framing: {name}", [answered(line, sized=False, body=body)], ANY)
    yield Hostile("no framing, then a close", [answered(sized=False)], PASSED, close=True, body=b'{"ok":1}')
    yield Hostile("a body too short, then a close", [answered(b"content-length: 100", sized=False)], ANY, close=True)
    yield Hostile(
        "HTTP/1.0 with TE",
        [answered(te, sized=False, status=b"HTTP/1.0 200 OK", body=b'8\r\n{"ok":1}\r\n0\r\n\r\n')],
        ANY,
    )
    # Chunks: what passes must read the same for a strict client
    for name, body in {
        "LF line ends": b'8\n{"ok":1}\n0\n\n',
        "LF behind the size": b'8\n{"ok":1}\r\n0\r\n\r\n',
        "LF behind the data": b'8\r\n{"ok":1}X\n0\r\n\r\n',
        "a LF in an extension": b'8;a\nb\r\n{"ok":1}\r\n0\r\n\r\n',
        "a CR in an extension": b'8;a\rb\r\n{"ok":1}\r\n0\r\n\r\n',
        "a LF ends the last": b'8\r\n{"ok":1}\r\n0\n\r\n',
        "a LF at the very end": b'8\r\n{"ok":1}\r\n0\r\n\n',
        "CR CR LF": b'8\r\r\n{"ok":1}\r\n0\r\n\r\n',
        "0x": b'0x8\r\n{"ok":1}\r\n0\r\n\r\n',
        "a plus": b'+8\r\n{"ok":1}\r\n0\r\n\r\n',
        "an overflow": b'10000000000000008\r\n{"ok":1}\r\n0\r\n\r\n',
        "15 digits": b'FFFFFFFFFFFFFFF\r\n{"ok":1}\r\n0\r\n\r\n',
        "a blank before": b' 8\r\n{"ok":1}\r\n0\r\n\r\n',
        "a NUL in an extension": b'8;\x00\r\n{"ok":1}\r\n0\r\n\r\n',
        "longer than it says": b'3\r\n{"ok":1}\r\n0\r\n\r\n',
        "a trailer": b'8\r\n{"ok":1}\r\n0\r\nx-t: 1\r\n\r\n',
        "a trailer that frames": b'8\r\n{"ok":1}\r\n0\r\ncontent-length: 5\r\n\r\n',
        "a trailer with a cookie": b'8\r\n{"ok":1}\r\n0\r\nset-cookie: a=b\r\n\r\n',
        "a trailer with a bare LF": b'8\r\n{"ok":1}\r\n0\r\nx: y\nz: a\r\n\r\n',
        "a trailer with a bare CR": b'8\r\n{"ok":1}\r\n0\r\nx: y\rz: a\r\n\r\n',
        "a trailer that is none": b'8\r\n{"ok":1}\r\n0\r\nrubbish\r\n\r\n',
        "an answer in an extension": b"8;\n" + b'{"ok":1}\r\n0\r\n\r\n',
    }.items():
        yield Hostile(f"chunks: {name}", [answered(te, sized=False, body=body)], ANY)
    # HEAD-like, early, wrong for the method
    yield Hostile(
        "SSE without a line end, 1 MB",
        [
            OK + sse + b"\r\ntransfer-encoding: chunked\r\n\r\n",
            *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 16,
            b"0\r\n\r\n",
        ],
        PASSED,
    )
    yield Hostile(
        "SSE with an error after it",
        [OK + sse + b"\r\ntransfer-encoding: chunked\r\n\r\n6\r\ndata:1\r\n"],
        ANY,
        close=True,
    )
    yield Hostile("nothing at all", [b""], BAD, close=True)
    yield Hostile("rubbish", [b"\x00\x01\x02\x03" * 10], BAD, close=True)
    yield Hostile("TLS alert", [b"\x15\x03\x01\x00\x02\x02\x28"], BAD, close=True)
