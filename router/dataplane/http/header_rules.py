"""Which headers are passed on, which are dropped and which the gateway reads. One table for each direction; pure.

Hop-by-hop headers are those of RFC 9110, 7.6.1. A header that is not in the table is passed on as it came, unless its
name begins with `x-turnout-`: those are between the gateway and its clients only.
"""

from __future__ import annotations

from typing import ClassVar

KEEP = 1
"""The header is passed on."""
READ = 2
"""The gateway reads its value. 0 in a table: the header is dropped."""
ONCE = 4
"""A message with two of them is refused: of two values, the gateway and the engine might each take another."""
_FORWARDS = 8
"""The header says through which proxies a request came: pods get it in the gateway's words, see `forwarded.py`."""

NO_LENGTH = -1
CHUNKED_LENGTH = -2
"""What `HeaderFields.length` says where there is no number."""
ENDLESS = 1 << 62
"""What it says of a number with more digits than any length has."""

_OWN_PREFIX = b"x-turnout-"
_MAX_DIGITS = 18
_MAX_NAMES = 1024
_MAX_NAME_BYTES = 64

Rule = tuple[bytes, bytes, int]
"""A header's name in lower case, how its line to the pod begins, and what is done with it."""

_HOP_BY_HOP = dict.fromkeys(
    (
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
    ),
    0,
)

REQUEST: dict[bytes, int] = _HOP_BY_HOP | {
    b"host": READ | ONCE,  # the pod's address goes out
    b"connection": READ,
    b"content-length": READ | ONCE,  # the body is sent whole, whatever its framing was
    b"transfer-encoding": READ | ONCE,
    b"expect": READ,
    b"content-type": KEEP | READ | ONCE,
    b"content-encoding": KEEP | READ,
    b"x-request-id": READ,
    b"x-session-id": KEEP | READ,
    b"x-turnout-policy": READ,
    b"x-turnout-pool": READ,
    b"x-turnout-cluster": READ,
    b"x-turnout-fallback": READ,
    b"authorization": KEEP | READ | ONCE,
    b"x-api-key": KEEP | READ | ONCE,
    b"api-key": KEEP | READ | ONCE,
    b"x-turnout-priority": READ,
    b"x-turnout-deadline-ms": READ,
    b"x-turnout-slo-ttft-ms": READ,
    b"x-turnout-slo-tpot-ms": READ,
    b"origin": KEEP | READ,
    b"upgrade": READ,
    b"sec-websocket-key": KEEP | READ,
    b"access-control-request-method": READ,
    b"access-control-request-headers": READ,
    b"access-control-request-private-network": READ,
    b"last-event-id": KEEP | READ,
    b"traceparent": KEEP | READ,
    b"tracestate": KEEP | READ,
}

RESPONSE: dict[bytes, int] = _HOP_BY_HOP | {
    b"connection": READ,
    b"content-length": READ | ONCE,
    b"transfer-encoding": READ | ONCE,
    b"content-type": KEEP | READ,
    b"content-encoding": KEEP | READ,
    b"retry-after": KEEP | READ,
    b"x-request-id": 0,  # the one the client knows goes out
}

FORWARDING = b":forwarding"
"""The key, which no header can have, that is in the `header_map` of a request with a header of `is_forwarding`."""

NO_TRAILERS = (REQUEST.keys() | RESPONSE.keys()) | {
    *(b"set-cookie", b"cookie", b"www-authenticate", b"content-range", b"range", b"location", b"vary", b"date", b"age"),
    *(b"cache-control", b"pragma", b"expires", b"warning", b"max-forwards", b"if-match", b"if-none-match", b"if-range"),
    *(b"if-modified-since", b"if-unmodified-since", b"x-turnout-pod"),
}
"""Names that no trailer may have (RFC 9110, 6.5.1): who merged them into the headers would change the message."""

_KEEP_ALIVE = (b"keep-alive", b"Keep-Alive")
_ORDINARY_CONNECTION = frozenset((b"keep-alive", b"close", b"upgrade", b"http2-settings", b"te", b""))


_request_rules: dict[bytes, Rule] = {}
_response_rules: dict[bytes, Rule] = {}
"""The rules of names that came before, by the name as it was written. A full one is emptied."""


class HeaderFields:
    """Headers of one message: those to pass on, in `kept`, ready to be joined into a head, and those to read, in
    `header_map`, by lower-case name."""

    __slots__ = ("_rules", "header_map", "kept", "repeated", "table", "whole")

    on_message_begin: ClassVar[None] = None
    on_url: ClassVar[None] = None
    on_status: ClassVar[None] = None
    on_body: ClassVar[None] = None
    on_message_complete: ClassVar[None] = None
    on_chunk_header: ClassVar[None] = None
    on_chunk_complete: ClassVar[None] = None
    """httptools' callbacks that are not needed: where a name is missing, each parser pays for the exception."""

    def __init__(self, table: dict[bytes, int]) -> None:
        self.table = table
        self._rules = _request_rules if table is REQUEST else _response_rules
        self.kept: list[bytes] = []
        """Three parts a header: its name with the colon, its value, the line's end."""
        self.header_map: dict[bytes, bytes] = {}
        self.repeated = b""
        """The name of a header that came twice and may come only once."""
        self.whole = False
        """Whether the end of the head was read."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Sort one header in; httptools calls it. Only heads that were not seen before come here."""
        name, begin, what = self._rules.get(name) or self._rule(name)
        if what & KEEP:
            kept = self.kept
            kept.append(begin)
            kept.append(value)
            kept.append(b"\r\n")
        if what & READ:
            self._read(name, value.strip(b" \t"), what)

    def _read(self, name: bytes, value: bytes, what: int) -> None:
        before = self.header_map.get(name)
        self.header_map[name] = value if before is None else before + b", " + value
        if before is not None and what & ONCE:
            self.repeated = name
        if what & _FORWARDS:
            self.header_map[FORWARDING] = b""

    def _rule(self, written: bytes) -> Rule:
        """How a header of this name is treated, remembered for the next one."""
        name = written.lower()
        what = self.table.get(name)
        if what is None:
            forwards = self.table is REQUEST and is_forwarding(name)
            what = READ | _FORWARDS if forwards else 0 if name.startswith(_OWN_PREFIX) else KEEP
        rules, rule = self._rules, (name, name + b": ", what)
        if len(written) <= _MAX_NAME_BYTES:
            if len(rules) >= _MAX_NAMES:
                rules.clear()
            rules[written] = rule
        return rule

    def on_headers_complete(self) -> None:
        """The blank line behind the headers was read; httptools calls it."""
        self.whole = True

    def stays_open(self, http11: bool) -> bool:
        """Whether the sender leaves the connection open after this message (RFC 9112, 9.3). Removes the headers that
        `Connection` names (RFC 9110, 7.6.1)."""
        connection = self.header_map.get(b"connection")
        if connection is None:
            return http11
        if connection in _KEEP_ALIVE:
            return True
        names = {token.strip(b" \t").lower() for token in connection.split(b",")}
        if dropped := names - _ORDINARY_CONNECTION:
            kept = self.kept
            self.kept = [
                part for at in range(0, len(kept), 3) if kept[at][:-2] not in dropped for part in kept[at : at + 3]
            ]
        return b"close" not in names and (http11 or b"keep-alive" in names)

    def lines(self) -> list[bytes]:
        """The headers to pass on, as one piece: it is all that is kept of them."""
        return [b"".join(self.kept)] if self.kept else []

    def length(self) -> int:
        """The length of the body, `NO_LENGTH` or `CHUNKED_LENGTH`. Raises ValueError for framing that
        two parsers could read differently."""
        coding, length = self.header_map.get(b"transfer-encoding"), self.header_map.get(b"content-length")
        if self.repeated in (b"transfer-encoding", b"content-length") or (coding is not None and length is not None):
            raise ValueError("it has more than one length")
        if coding is not None:
            if coding.lower() != b"chunked":
                raise ValueError(f"its Transfer-Encoding is {coding[:32]!r}; only 'chunked' is read")
            return CHUNKED_LENGTH
        if length is None:
            return NO_LENGTH
        if not length.isdigit():
            raise ValueError(f"its Content-Length is {length[:32]!r}")
        return int(length) if len(length) <= _MAX_DIGITS else ENDLESS


def is_forwarding(name: bytes) -> bool:
    """Whether a header says through which proxies a request came; `name` is in lower case."""
    return name.startswith(b"x-forwarded-") or name in (b"forwarded", b"x-real-ip")
