"""Requests whose end two parsers might find at two places."""

from __future__ import annotations

from collections.abc import Iterator

from tests.http_corpus.building import (
    BODY,
    CHUNKED,
    EITHER,
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


def cases() -> Iterator[Case]:
    """All cases of this file."""
    yield from lengths_and_codings()
    yield from lengths()
    yield from codings()
    yield from chunk_framing()
    yield from trailers()


def lengths_and_codings() -> Iterator[Case]:
    over = b"0\r\n\r\n" + SMUGGLED
    yield Case("CL.TE", post(b"Content-Length: %d" % len(over), CHUNKED, sized=False, body=over))
    yield Case("TE.CL", post(CHUNKED, b"Content-Length: 4", sized=False, body=b"5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"))
    yield Case(
        "CL.0 with a request for a body",
        post(b"Content-Length: 0", sized=False, body=SMUGGLED),
        EITHER,
        most=1,
        check=lambda seen: None if all(b"SMUGGLED" in each.line for each in seen) else "odd",
    )
    yield Case(
        "GET with a length and a request for a body",
        get(b"/v1/models", b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED,
        LOCAL,
    )


def lengths() -> Iterator[Case]:
    for name, value in {
        "a plus": b"+%d",
        "a minus": b"-%d",
        "an underscore": b"2_7",
        "a space within": b"2 7",
        "hex": b"0x1b",
        "a decimal": b"%d.0",
        "an exponent": b"27e0",
        "a letter behind": b"%dx",
        "a list": b"%d, 27",
        "a list of two": b"%d,5",
        "a semicolon": b"%d;",
        "nothing": b"",
        "a quote": b'"27"',
        "2^64 + 27": b"18446744073709551643",
        "2^32 + 27 digits": b"4294967323",
        "twenty nines": b"99999999999999999999",
        "full-width digits": "\uff12\uff17".encode(),
        "a vertical tab": b"\x0b27",
        "a form feed": b"27\x0c",
        "a NUL": b"27\x00",
        "a minus zero": b"-0",
        "an Arabic digit": b"\xd9\xa2",
    }.items():
        value = value % SIZE if b"%d" in value else value
        yield Case(f"CL: {name}", post(b"Content-Length: " + value, sized=False, body=BODY + SMUGGLED))
    for name, headers in {
        "twice, equal": (b"Content-Length: 27", b"Content-Length: 27"),
        "twice, not equal": (b"Content-Length: 27", b"Content-Length: 5"),
        "twice, other case": (b"content-length: 27", b"CONTENT-LENGTH: 3"),
        "twice, one without a blank": (b"Content-Length: 27", b"Content-Length:0"),
        "a blank before the colon": (b"Content-Length : 27",),
        "a tab before the colon": (b"Content-Length\t: 27",),
        "folded": (b"Content-Length:", b" 27"),
        "hidden in a fold": (b"X: y", b" Content-Length: 27"),
    }.items():
        yield Case(f"CL: {name}", post(*headers, sized=False, body=BODY + SMUGGLED))
    for name, value in {
        "leading zeros": b"0000027",
        "blanks around": b"  27  ",
        "tabs around": b"\t27\t",
        "no blank": b"27",
    }.items():
        glue = b"Content-Length:" if name == "no blank" else b"Content-Length: "
        yield Case(f"CL: {name}", post(glue + value, sized=False), SERVED, check=body_is(BODY))
    yield Case(
        "CL: the name with an underscore beside the true one", post(b"Content_Length: 5"), SERVED, check=body_is(BODY)
    )


def codings() -> Iterator[Case]:
    smuggle = b"0\r\n\r\n" + SMUGGLED
    length = b"Content-Length: %d" % len(smuggle)
    for name, line in {
        "xchunked": b"Transfer-Encoding: xchunked",
        "chunk": b"Transfer-Encoding: chunk",
        "identity": b"Transfer-Encoding: identity",
        "chunked, identity": b"Transfer-Encoding: chunked, identity",
        "identity, chunked": b"Transfer-Encoding: identity, chunked",
        "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
        "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
        "a comma before": b"Transfer-Encoding: , chunked",
        "a comma behind": b"Transfer-Encoding: chunked,",
        "a parameter": b"Transfer-Encoding: chunked;q=1",
        "quoted": b'Transfer-Encoding: "chunked"',
        "a blank before the colon": b"Transfer-Encoding : chunked",
        "a tab before the colon": b"Transfer-Encoding\t: chunked",
        "a vertical tab": b"Transfer-Encoding:\x0bchunked",
        "a form feed": b"Transfer-Encoding: chunked\x0c",
        "a NUL": b"Transfer-Encoding: chun\x00ked",
        "a byte over 127": b"Transfer-Encoding: chunked\xff",
        "a no-break space": b"Transfer-Encoding: \xa0chunked",
        "empty": b"Transfer-Encoding:",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
        "behind a bare LF": b"X: y\nTransfer-Encoding: chunked",
        "behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
        "a line end before the colon": b"Transfer-Encoding\n: chunked",
        "a blank before the name": b" Transfer-Encoding: chunked",
        "a NUL before the name": b"\x00Transfer-Encoding: chunked",
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "twice, the second odd": b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
        "twice, the first odd": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "a dotless K": "Transfer-Encoding: chun\u212aed".encode(),
    }.items():
        yield Case(f"TE with CL: {name}", post(length, line, sized=False, body=smuggle))
        if name not in ("a blank before the name", "a line end before the colon"):
            yield Case(f"TE alone: {name}", post(line, sized=False, body=smuggle))
    yield Case(
        "TE: CHUNKED",
        post(b"TRANSFER-ENCODING: CHUNKED", sized=False, body=b"1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
        SERVED,
        check=body_is(BODY),
    )
    yield Case(
        "TE: tabs around",
        post(b"Transfer-Encoding:\tchunked\t", sized=False, body=b"1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
        EITHER,
        check=body_is(BODY),
    )
    yield Case("TE: the name with an underscore", post(b"Transfer_Encoding: chunked"), SERVED, check=body_is(BODY))
    yield Case(
        "TE in HTTP/1.0",
        post(CHUNKED, sized=False, version=b"HTTP/1.0", body=b"1b\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED),
        EITHER,
        check=body_is(BODY),
    )
    yield Case("TE and CL in HTTP/1.0", post(CHUNKED, length, sized=False, version=b"HTTP/1.0", body=smuggle))


def chunk_framing() -> Iterator[Case]:
    for name, size in {
        "0x": b"0x1b",
        "a plus": b"+1b",
        "a minus": b"-1b",
        "an underscore": b"1_b",
        "a blank before": b" 1b",
        "2^64 + 27": b"1000000000000001b",
        "17 Fs": b"F" * 17,
        "16 Fs": b"F" * 16,
        "empty": b"",
        "a bare LF in an extension": b"1b;a\nb",
        "a bare CR in an extension": b"1b;a\rb",
        "a NUL in an extension": b"1b;a\x00",
        "a bare LF ends it": b"1b;\n",
        "a quoted line end": b'1b;a="\r\n"',
        "letters": b"zz",
        "a comma": b"1b,",
    }.items():
        yield Case(f"chunk size: {name}", chunks(first=size) + SMUGGLED)
    for name, size in {
        "leading zeros": b"000001b",
        "upper case": b"1B",
        "an extension": b"1b;name=value",
        "a quoted extension": b'1b;a="b c"',
        "an empty extension": b"1b;",
    }.items():
        yield Case(f"chunk size: {name}", chunks(first=size), EITHER, check=body_is(BODY))
    yield Case("chunk size: blanks behind", chunks(first=b"1b  "), EITHER, check=body_is(BODY))
    yield Case("chunk size: 40 leading zeros", chunks(first=b"0" * 40 + b"1b"), EITHER, check=body_is(BODY))
    head = post(CHUNKED, sized=False, body=b"")
    yield Case("chunk: longer than it says", head + b"5\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED)
    yield Case(
        "chunk: shorter than it says",
        head + b"3c\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED[:10] + b"\r\n0\r\n\r\n" + SMUGGLED,
    )
    yield Case("chunk: LF only line ends", head + b"1b\n" + BODY + b"\n0\n\n" + SMUGGLED)
    yield Case("chunk: LF only behind the data", head + b"1b\r\n" + BODY + b"\n0\r\n\r\n" + SMUGGLED)
    yield Case("chunk: CR only behind the data", head + b"1b\r\n" + BODY + b"\r0\r\n\r\n" + SMUGGLED)
    yield Case("chunk: two bytes that are no line end", head + b"1b\r\n" + BODY + b"XX0\r\n\r\n" + SMUGGLED)
    yield Case("chunk: the last without its line end", head + b"1b\r\n" + BODY + b"\r\n0\r\n" + SMUGGLED)
    yield Case("chunk: the last as 000", chunks(end=b"000\r\n\r\n"), SERVED, check=body_is(BODY))
    yield Case("chunk: an extension of 100 KB", chunks(first=b"1b;" + b"e" * 100_000) + SMUGGLED)
    yield Case(
        "chunk: one byte each",
        head + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
        SERVED,
        check=body_is(BODY),
    )


def trailers() -> Iterator[Case]:
    for name, lines in {
        "a length": b"Content-Length: 5\r\n",
        "a coding": b"Transfer-Encoding: chunked\r\n",
        "a host": b"Host: evil\r\n",
        "a key": b"Authorization: Bearer stolen\r\n",
        "a policy": b"X-Turnout-Policy: random\r\n",
        "plain": b"X-Trailer: 1\r\n",
        "a connection": b"Connection: x-foo\r\n",
    }.items():
        yield Case(
            f"trailer: {name}",
            chunks(end=b"0\r\n" + lines + b"\r\n"),
            EITHER,
            check=lambda seen: absent(b"x-trailer", b"authorization")(seen) or body_is(BODY)(seen),
        )
    for name, lines in {
        "a bare LF": b"X: y\n\n",
        "a bare CR": b"X: y\rZ: z\r\n",
        "a fold": b"X: y\r\n z\r\n",
        "no colon": b"rubbish\r\n",
        "a blank before the colon": b"X : y\r\n",
        "a NUL": b"X: \x00\r\n",
    }.items():
        yield Case(f"trailer: {name}", chunks(end=b"0\r\n" + lines + b"\r\n") + SMUGGLED)
