"""The bytes of one head -> `RequestHead`, or the refusal of a head that two parsers could read differently. Pure.

httptools judges the header lines. What it lets pass and other servers read in another way is refused here: a start line
that is not three words, a path with dot segments, a missing or second Host, two lengths.
"""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

import httptools

from router.dataplane.http.header_rules import CHUNKED_LENGTH, REQUEST, HeaderFields
from router.errors import (
    BadFraming,
    BadRequest,
    GatewayError,
    HeadersTooLarge,
    InternalError,
    VersionNotSupported,
)
from router.settings import Limits

_log = logging.getLogger("turnout.edge")


class RequestHead(NamedTuple):
    """A request's parsed head. Shared between requests with the same bytes, so it is never changed."""

    method: bytes
    target: bytes
    """In origin form: path and query. `*` stays as it is."""
    http11: bool
    keep_alive: bool
    kept: list[bytes]
    """Headers to pass on, ready to be joined."""
    header_map: dict[bytes, bytes]
    """Headers the gateway reads itself, by lower-case name."""


NO_HEAD: Final = RequestHead(b"", b"", True, False, [], {})
"""The head of a request whose head is not whole yet."""

_START: Final = re.compile(rb"([A-Z][A-Z-]*) ([\x21-\x7e]+) HTTP/1\.([01])")
_OTHER_VERSION: Final = re.compile(rb"(?!PRI )[A-Z][A-Z-]* [\x21-\x7e]+ HTTP/[0-9]\.[0-9]")
_HAS_BODY: Final = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:", re.IGNORECASE)

_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!$&'()*+;=-]*)*|\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~%-]+)?\])(?::([0-9]{0,5}))?"
)
"""A name or address and perhaps a port (RFC 3986, 3.2.2), without the comma: it would join two hosts."""
_MAX_PORT: Final = 65535

_PLAIN: Final = re.compile(rb"/[A-Za-z0-9/_-]*")
"""The usual target: a path without anything to look into."""
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)

_DOT: Final = rb"(?:\.|%(?:25)*(?:2e|u002e|u2024|uff0e|c0%(?:25)*[a2]e|e0%(?:25)*80%(?:25)*ae|ef%(?:25)*bc%(?:25)*8e))"
_SLASH: Final = rb"(?:[/\\]|%(?:25)*(?:2f|5c|u002f|u005c|u2215|u2216|c0%(?:25)*af|c1%(?:25)*9c|e0%(?:25)*80%(?:25)*af))"
_DOT_SEGMENT: Final = re.compile(
    b"(?:^|%b)%b{1,2}(?:$|%b|;|%%(?:25)*3b)" % (_SLASH, _DOT, _SLASH),
    re.IGNORECASE,
)
"""`.` or `..` as a segment of a path, in every spelling that some server takes for one: encoded once or more often, as
an overlong or full-width character, between encoded or reversed slashes, with parameters."""
_CONTROL: Final = re.compile(rb"\\|%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
"""A backslash, which some servers take for a slash, or an encoded control character."""


def parse_head(raw: bytes, limits: Limits) -> tuple[RequestHead, int]:
    """Read a head, blank line included. Returns it with the length of its body, which may be `NO_LENGTH` or
    `CHUNKED_LENGTH`. Raises a GatewayError."""
    if raw.count(b"\n") - 2 > limits.max_headers:
        raise too_many_headers(limits)
    line = raw[: raw.find(b"\r\n")]
    method, target, http11 = _start_line(line, raw)
    fields = HeaderFields(REQUEST)
    try:
        httptools.HttpRequestParser(fields).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer, such as h2c from Java's client, which the gateway does not take up
    except httptools.HttpParserError as error:
        raise _as_refusal(error) from None
    if not fields.whole:
        raise BadFraming("This is not HTTP/1.1: its headers have no end.")
    _check_host(fields, http11)
    if fields.repeated:
        raise BadFraming(f"The request has more than one {fields.repeated.decode()} header; send it once.")
    length = _length(fields, http11)
    keep_alive = fields.stays_open(http11)
    return RequestHead(method, _origin_form(target), http11, keep_alive, fields.lines(), fields.header_map), length


def _start_line(line: bytes, raw: bytes) -> tuple[bytes, bytes, bool]:
    """Method, target and whether it is HTTP/1.1. Raises BadFraming or VersionNotSupported."""
    found = _START.fullmatch(line)
    if found is None:
        # What follows a head of another version cannot be framed; only without a body is the version all that is wrong.
        if _OTHER_VERSION.fullmatch(line) and not _HAS_BODY.search(raw):
            raise VersionNotSupported("This gateway serves HTTP/1.1 and HTTP/1.0 only.")
        raise bad_start()
    method, target, minor = found.groups()
    if method == b"CONNECT":
        raise BadFraming("This gateway is no proxy: it serves no CONNECT.")
    return method, target, minor == b"1"


def bad_start() -> BadFraming:
    """The refusal of a first line that begins no request."""
    return BadFraming("This is not HTTP/1.1: its first line is not a method, a target and HTTP/1.1.")


def may_begin(line: bytes) -> bool:
    """Whether this can be the first line of a request, perhaps of one that is refused for its version."""
    return _START.fullmatch(line) is not None or _OTHER_VERSION.fullmatch(line) is not None


def too_many_headers(limits: Limits) -> HeadersTooLarge:
    """The refusal of a head with more headers than the limit."""
    return HeadersTooLarge(f"The request has more than {limits.max_headers} headers (limits.max_headers).")


def _check_host(fields: HeaderFields, http11: bool) -> None:
    host = fields.header_map.pop(b"host", None)
    if host is None:
        if http11:
            raise BadFraming("An HTTP/1.1 request needs a Host header (RFC 9112, 3.2).")
    elif fields.repeated == b"host":
        raise BadFraming("The request has more than one Host header; send it once.")
    elif not is_host(host):
        raise BadFraming("The Host header is not a name or address with an optional port.")


def _length(fields: HeaderFields, http11: bool) -> int:
    try:
        length = fields.length()
    except ValueError as error:
        raise BadFraming(f"The request's body cannot be framed: {error}.") from None
    if length == CHUNKED_LENGTH and not http11:
        raise BadFraming("HTTP/1.0 has no Transfer-Encoding: send a Content-Length.")
    return length


def is_host(host: bytes) -> bool:
    """Whether this can be the value of a Host header."""
    found = _HOST.fullmatch(host)
    return found is not None and int(found[1] or 0) <= _MAX_PORT


def _origin_form(target: bytes) -> bytes:
    """Path and query of a target, which may be in absolute form (RFC 9112, 3.2.2). Raises BadRequest."""
    if _PLAIN.fullmatch(target):
        return target
    if b"#" in target:
        raise BadRequest("The request's target has a fragment (`#`), which is never sent.")
    if not target.startswith(b"/") and target != b"*":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or not is_host(absolute[1]):
            raise BadRequest("The request's target is neither a path nor an http:// URL.")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    path = target.partition(b"?")[0]
    if b"." not in path and b"%" not in path and b"\\" not in path:
        return target
    if _DOT_SEGMENT.search(path):
        raise BadRequest("The request's path has a `.` or `..` segment; send the path that it stands for.")
    if _CONTROL.search(path):
        raise BadRequest("The request's path has a backslash or an encoded control character.")
    return target


def _as_refusal(error: httptools.HttpParserError) -> GatewayError:
    cause = error.__context__
    if cause is not None and isinstance(error, httptools.HttpParserCallbackError):
        _log.error("a request's head could not be taken in", exc_info=cause)
        return InternalError("The gateway failed to read this request; its log says why.")
    return BadFraming(f"This is not HTTP/1.1: {error}.")
