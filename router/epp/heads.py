"""Heads of requests and answers: Envoy's headers to HTTP/1.1 as the gateway reads it. Pure; knows no message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from router.dataplane.http.header_rules import FORWARDING, KEEP, READ, REQUEST, is_forwarding
from router.dataplane.http.request_head import RequestHead, is_host
from router.epp.wires import MARK

DESTINATION: Final = b"x-gateway-destination-endpoint"

ENVOYS: Final = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te", b"keep-alive")
) | {MARK[2:-2], DESTINATION, b"forwarded", b"x-real-ip"}
"""Headers between Envoy and its neighbours, or for the picker's own use: none of them is changed for the gateway's."""
_NOT_FED: Final = (ENVOYS | {b"x-forwarded-proto"}) - {b"forwarded", b"x-real-ip"}
"""Those that the gateway does not get. It may learn the client from the others, and from x-forwarded-for."""

_UNREAD: Final = frozenset((b"date", b"server", b"x-envoy-upstream-service-time", b"x-request-id"))
"""Headers of an answer that nothing looks at; most change with each. Without them a head is one that came before."""

MAX_KNOWN: Final = 1024
MAX_BYTES: Final = 1024
"""Headers that are remembered, and the longest of them."""

_KEPT_BACK: Final = 1
_READ_HERE: Final = 2
_OTHER: Final = 3
"""Kinds: the gateway does not get it, or reads and may change it, or passes it on as it came."""

_NAME: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
_VALUE: Final = bytes(range(ord(" "), ord("~") + 1))
_BLANK: Final = 0x20
_TARGET: Final = re.compile(rb"/[A-Za-z0-9/_-]*(?:\?[A-Za-z0-9=&._-]*)?")
_METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))


Pair = tuple[bytes, ...]
"""A name and a value. Compiled code keeps one of any length as it is, and makes one of two anew at each step."""

# A named tuple's own constructor takes three times as long; see `head_cache.py`.
_new: Final = tuple.__new__


class _Header:
    """A name and a value."""

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.line = name + b": " + value
        self.forwards = is_forwarding(name)
        self.rule = READ if self.forwards else REQUEST.get(name, 0)
        """Of a header that the gateway reads: what it does with it."""
        self.kind = _OTHER
        if name[:1] == b":" or name in _NOT_FED:
            self.kind = _KEPT_BACK
        elif name in REQUEST or self.forwards or name[:10] == b"x-turnout-":
            self.kind = _READ_HERE
        self.clean = self._is_clean()
        """No reader of a request refuses it, or takes it for something else."""

    def _is_clean(self) -> bool:
        if self.name == b":method":
            return self.value in _METHODS
        if self.name == b":path":
            return _TARGET.fullmatch(self.value) is not None
        if self.name in (b":authority", b"host"):
            return is_host(self.value)
        if self.kind == _KEPT_BACK:
            return True
        name, value = self.name, self.value
        plain = bool(name and value) and not name.translate(None, _NAME) and not value.translate(None, _VALUE)
        return plain and value[0] != _BLANK and value[-1] != _BLANK


_known: Final[dict[Pair, _Header]] = {}
"""Headers that came before, by name and value. A full one is emptied."""


def _new_header(pair: Pair) -> _Header:
    """A header that is not among the known ones, and is from now on."""
    name, value = pair
    header = _Header(name, value)
    if len(header.line) <= MAX_BYTES:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[pair] = header
    return header


class ProxyRequest(NamedTuple):
    """A request as Envoy has it."""

    first: bytes
    """The request line, and the lines of its host and of how its body is framed."""
    target: bytes
    lines: list[bytes]
    """Headers that the gateway reads, and may change."""
    others: list[bytes]
    """Headers that it passes on as they came."""
    block: bytes
    """Those, before the number of the stream. The gateway writes both as one piece where it drops none of them, and
    then they are not compared one by one."""
    last: bytes
    """The line with the number of the stream, after an end of a line."""
    size: int
    """Bytes of `head`."""
    headers: int
    """Lines of `head` after the first."""
    parsed: RequestHead | None
    """What the gateway would read in `head`; None where it may refuse something, or read it in its own way."""

    @property
    def head(self) -> bytes:
        """As HTTP/1.1, for the gateway."""
        return b"\r\n".join([self.first, *self.lines]) + self.block + self.last + b"\r\n\r\n"


class BadMessage(Exception):
    """Headers that are no HTTP request."""


def read_request(pairs: Sequence[Pair], stream: int, *, end: bool) -> ProxyRequest:
    """The request of the stream with this number. `end`: it has no body; else its body comes in chunks, whatever length
    it says, since Envoy alone knows where it ends. Raises BadMessage."""
    given, lines, others, clean = dict[bytes, bytes](), list[bytes](), list[bytes](), True
    kept, header_map = [b""], {b"content-length": b"0"} if end else {b"transfer-encoding": b"chunked"}
    for pair in pairs:
        header = _known.get(pair) or _new_header(pair)
        clean = clean and header.clean
        if header.kind == _OTHER:
            others.append(header.line)
        elif header.kind == _KEPT_BACK:
            given[header.name] = header.value
        else:
            lines.append(header.line)
            if header.rule & KEEP:
                kept.append(header.line)
            if header.rule & READ:
                clean = clean and header.name not in header_map  # the parser knows which may come twice
                header_map[header.name] = header.value
            if header.forwards:
                header_map[FORWARDING] = b""
    method, target = given.get(b":method", b""), given.get(b":path", b"")
    host = given.get(b":authority") or given.get(b"host", b"")
    framing = b"\r\ncontent-length: 0" if end else b"\r\ntransfer-encoding: chunked"
    first = b"".join([method, b" ", target, b" HTTP/1.1\r\nhost: ", host, framing])
    block, last = b"\r\n".join([b"", *others]), MARK + b"%d" % stream
    parsed = None
    if clean and method and target and host:
        passed = b"".join([b"\r\n".join(kept), block, last, b"\r\n"])
        parsed = _new(RequestHead, (method, target, True, True, [passed[2:]], header_map))
    size = len(first) + sum([len(line) + 2 for line in lines]) + len(block) + len(last) + 4
    headers = len(lines) + len(others) + 3
    request = _new(ProxyRequest, (first, target, lines, others, block, last, size, headers, parsed))
    if parsed is None and (request.head.count(b"\n") != headers + 2 or not method or not target):
        raise BadMessage("these headers are no HTTP request")
    return request


def response_head(pairs: Sequence[Pair], *, end: bool, sized: bool) -> tuple[bytes, bool]:
    """A pod's answer as HTTP/1.1, and whether its body has to be put into chunks. `end`: it has no body. `sized` is
    false where Envoy shows no body: then the end of the stream is the end of the answer."""
    status, length, parts, chunked = b"502", b"0" if end else None, [b""], False
    for pair in pairs:
        header = _known.get(pair) or _new_header(pair)
        if header.kind != _KEPT_BACK:
            if header.name not in _UNREAD or not header.clean:
                parts.append(header.line)
        elif header.name == b":status":
            status = header.value
        elif header.name == b"content-length" and not end:
            length = header.value
    parts[0] = b"HTTP/1.1 %b -" % status
    if sized or end:
        chunked = length is None
        parts.append(b"transfer-encoding: chunked" if length is None else b"content-length: " + length)
    return b"\r\n".join(parts) + b"\r\n\r\n", chunked
