"""What bytes on a wire mean by the strictest reading: what is accepted here has no second one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

CRLF = b"\r\n"
HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings", b"expect"),
}
REQUEST_LINE = re.compile(rb"[A-Z][A-Z-]* /[\x21-\x7e]* HTTP/1\.1")
FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class Ambiguous(Exception):
    """Bytes that two parsers could read differently."""


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """A head's (lower-case name, value)s; raises Ambiguous."""
    found = []
    for line in head.split(CRLF)[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not FIELD_NAME.fullmatch(name) or not FIELD_VALUE.fullmatch(value):
            raise Ambiguous(f"header line {line[:80]!r}")
        found.append((name.lower(), value.strip(b" \t")))
    return found


def values(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for each, value in fields if each == name]


def length_of(fields: list[tuple[bytes, bytes]]) -> int | None:
    lengths = values(fields, b"content-length")
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise Ambiguous(f"content-length {lengths!r}")
    return int(lengths[0])


def chunked_end(data: bytes, at: int) -> tuple[bytes, int] | None:
    """(payload, index past the message) of strict chunked framing; None when incomplete."""
    payload = b""
    while True:
        eol = data.find(CRLF, at)
        line = data[at:eol] if eol >= 0 else data[at:]
        if b"\n" in line or b"\r" in line.rstrip(b"\r"):
            raise Ambiguous(f"bare line end in chunk line {line[:60]!r}")
        if eol < 0:
            return None
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", digits):
            raise Ambiguous(f"chunk size {line[:60]!r}")
        at, size = eol + 2, int(digits, 16)
        if size:
            if len(data) < at + size + 2:
                return None
            payload += data[at : at + size]
            if data[at + size : at + size + 2] != CRLF:
                raise Ambiguous(f"chunk data followed by {data[at + size : at + size + 2]!r}")
            at += size + 2
            continue
        while True:  # trailers
            eol = data.find(CRLF, at)
            line = data[at:eol] if eol >= 0 else data[at:]
            if b"\n" in line or b"\r" in line.rstrip(b"\r"):
                raise Ambiguous(f"bare line end in trailer {line[:60]!r}")
            if eol < 0:
                return None
            at = eol + 2
            if not line:
                return payload, at
            fields = fields_of(CRLF + line)
            if fields[0][0] in HOP_BY_HOP | {b"content-length", b"host", b"set-cookie", b"authorization"}:
                raise Ambiguous(f"forbidden trailer {line[:60]!r}")


@dataclass
class Answer:
    """What a strict client makes of one answer."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    raw: bytes
    complete: bool = True

    def names(self) -> set[bytes]:
        return {name for name, _ in self.fields}


def answers_in(data: bytes, closed: bool, head_only: bool = False) -> list[Answer]:
    """All answers in what a client got; raises Ambiguous."""
    found = []
    while data:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            raise Ambiguous(f"half a head {data[:60]!r}")
        head, at = data[:end], end + 4
        match = re.fullmatch(rb"HTTP/1\.1 ([1-9][0-9]{2})(?: [\t\x20-\x7e]*)?", head.split(CRLF)[0])
        if match is None:
            raise Ambiguous(f"status line {head.split(CRLF)[0][:80]!r}")
        status, fields = int(match[1]), fields_of(head)
        length, coding = length_of(fields), values(fields, b"transfer-encoding")
        if coding and (length is not None or coding != [b"chunked"]):
            raise Ambiguous(f"both framings: {coding!r}, {length!r}")
        complete = True
        if status < 200:
            data = data[at:]
            continue
        if head_only or status in (204, 304):
            body = b""
        elif coding:
            ended = chunked_end(data, at)
            complete = ended is not None
            body, at = ended if ended is not None else (data[at:], len(data))
        elif length is not None:
            body, complete = data[at : at + length], len(data) >= at + length
            at = min(len(data), at + length)
        else:
            body, complete, at = data[at:], closed, len(data)
        found.append(Answer(status, fields, body, data[:at], complete))
        data = data[at:]
    return found


@dataclass
class Seen:
    """One request as the pod got it."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> bytes:
        return self.head.split(CRLF)[0]

    def fields(self) -> list[tuple[bytes, bytes]]:
        return fields_of(self.head)
