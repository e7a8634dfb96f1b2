"""Envoy's messages to HTTP/1.1 as the gateway reads it, and what the gateway writes to Envoy's messages. Pure.

The endpoint picker protocol is kubernetes-sigs/gateway-api-inference-extension, docs/proposals/004; the messages are
those of envoy/service/ext_proc/v3/external_processor.proto, which gives the numbers of fields. Only fields that are
used are read; all others are skipped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from router.dataplane.http.header_rules import REQUEST, is_forwarding
from router.epp.wire_format import Reader, entry, last, merged, part
from router.epp.wires import MARK
from router.protobuf import field, nested, varint
from statesync.discovery import address as addresses

REQUEST_HEADERS: Final = 2
RESPONSE_HEADERS: Final = 3
REQUEST_BODY: Final = 4
RESPONSE_BODY: Final = 5
REQUEST_TRAILERS: Final = 6
RESPONSE_TRAILERS: Final = 7
"""What a message of Envoy's is about. The reply to it has the number before."""

DESTINATION: Final = b"x-gateway-destination-endpoint"
SERVED: Final = b"x-gateway-destination-endpoint-served"
SUBSET: Final = b"x-gateway-destination-endpoint-subset"
LB: Final = b"envoy.lb"
SUBSET_HINT: Final = b"envoy.lb.subset_hint"

MAX_CHUNK_BYTES: Final = 62_000
"""Of a body in one message; some versions of Envoy take at most 64 KiB."""

MAX_KEPT_BYTES: Final = 65_536
"""Of metadata that are remembered: 16 MB of all."""

MAX_NAMES: Final = 1024
MAX_NAME_BYTES: Final = 64
"""Names of headers that are remembered, and the longest of them."""

_OVERWRITE: Final = b"\x18\x02"
"""Field 3 of a HeaderValueOption: OVERWRITE_IF_EXISTS_OR_ADD."""
_CLEAR_ROUTE: Final = b"\x28\x01"
"""Field 5 of a CommonResponse: the route may be another one with these headers."""
_END: Final = b"\x10\x01"
"""Field 2 of a StreamedBodyResponse: nothing follows."""

_MARK_NAME: Final = MARK[2:-2]
_ENVOYS: Final = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te", b"keep-alive")
) | {_MARK_NAME, DESTINATION, b"forwarded", b"x-real-ip"}
"""Headers between Envoy and its neighbours, or for the picker's own use: none of them is changed for the gateway's."""
_NOT_FED: Final = (_ENVOYS | {b"x-forwarded-proto"}) - {b"forwarded", b"x-real-ip"}
"""Those that the gateway does not get. From x-forwarded-for it may learn the client."""


class EnvoyMessage:
    """A ProcessingRequest: the headers, a piece of the body or the trailers of a request, or of its answer."""

    __slots__ = ("about", "content", "metadata", "modes", "observed")

    def __init__(self, data: bytes) -> None:
        """Raises NotAMessage."""
        self.about = 0
        self.content = b""
        self.metadata = b""
        self.modes: tuple[int, int] | None = None
        """How Envoy sends the bodies of requests and answers; None in versions that do not say."""
        self.observed = False
        """Envoy does not wait for replies."""
        reader, parts, metadata, config = Reader(data), list[bytes](), 0, 0
        while reader.next():
            if REQUEST_HEADERS <= reader.number <= RESPONSE_TRAILERS:
                if self.about == reader.number:
                    parts.append(reader.content)
                else:  # it is about one: the last
                    self.about, self.content = reader.number, reader.content
                    parts.clear()
            elif reader.number == 8:
                self.metadata = reader.content
                metadata += 1
            elif reader.number == 11:
                config += 1
            elif reader.scalar == 10:
                self.observed = bool(reader.value)
        if parts:
            self.content = b"".join([self.content, *parts])
        if metadata > 1:
            self.metadata = merged(data, 8)
        if config:
            modes = merged(data, 11)
            self.modes = last(modes, 0, 1)[1], last(modes, 0, 2)[1]

    def headers(self) -> tuple[list[tuple[bytes, bytes]], bool]:
        """The headers, and whether no body follows. Raises NotAMessage."""
        pairs = list[tuple[bytes, bytes]]()
        end, reader = last(self.content, 0, 3)[1], Reader(merged(self.content, 1))
        while reader.next():
            if reader.number == 1:
                pairs.append(_pair(reader.content))
        return pairs, bool(end)

    def body(self) -> tuple[bytes, bool]:
        """A piece of the body, and whether it is the last one. Raises NotAMessage."""
        body, end = last(self.content, 1, 2)
        return body, bool(end)


def _pair(message: bytes) -> tuple[bytes, bytes]:
    """A header; most versions of Envoy send bytes, some text. First the usual form: a short name, and short bytes."""
    at = 2 + message[1] if len(message) > 1 and message[0] == 0x0A and message[1] < 0x80 else 0
    if 0 < at < len(message) - 1 and message[at] == 0x1A and message[at + 1] == len(message) - at - 2 < 0x80:
        return message[2:at], message[at + 2 :]
    return part(message, 1), part(message, 3) or part(message, 2)


class ProxyRequest(NamedTuple):
    """A request as Envoy has it."""

    head: bytes
    """As HTTP/1.1, for the gateway."""
    target: bytes
    lines: list[bytes]
    """Headers that the gateway reads, and may change."""
    others: list[bytes]
    """Headers that it passes on as they came."""
    block: bytes
    """Those, before the number of the stream. The gateway writes both as one piece where it drops none of them, and
    then they are not compared one by one."""


class BadMessage(Exception):
    """Headers that are no HTTP request."""


def read_request(pairs: list[tuple[bytes, bytes]], stream: int, *, end: bool) -> ProxyRequest:
    """The request of the stream with this number. `end`: it has no body; else its body comes in chunks, whatever length
    it says, since Envoy alone knows where it ends. Raises BadMessage."""
    given, lines, others = dict[bytes, bytes](), list[bytes](), list[bytes]()
    for name, value in pairs:
        kind = _kinds.get(name) or _kind(name)
        if kind == _KEPT_BACK:
            given[name] = value
        elif kind == _OTHER:
            others.append(name + b": " + value)
        else:
            lines.append(name + b": " + value)
    method, target = given.get(b":method", b""), given.get(b":path", b"")
    framing = b"content-length: 0" if end else b"transfer-encoding: chunked"
    first = b"%b %b HTTP/1.1" % (method, target)
    host = b"host: " + (given.get(b":authority") or given.get(b"host", b""))
    block = b"\r\n".join([b"", *others])
    head = b"\r\n".join([first, host, framing, *lines]) + block + MARK + b"%d\r\n\r\n" % stream
    if head.count(b"\n") != len(lines) + len(others) + 5 or not method or not target:
        raise BadMessage("these headers are no HTTP request")
    return ProxyRequest(head, target, lines, others, block)


_KEPT_BACK: Final = 1
_READ: Final = 2
_OTHER: Final = 3
_kinds: Final[dict[bytes, int]] = {}
"""How the gateway gets headers of names that came before. A full one is emptied."""


def _kind(name: bytes) -> int:
    if name[:1] == b":" or name in _NOT_FED:
        kind = _KEPT_BACK
    else:
        kind = _READ if name in REQUEST or is_forwarding(name) or name[:10] == b"x-turnout-" else _OTHER
    if len(name) <= MAX_NAME_BYTES:
        if len(_kinds) >= MAX_NAMES:
            _kinds.clear()
        _kinds[name] = kind
    return kind


def response_head(pairs: list[tuple[bytes, bytes]], *, end: bool, sized: bool) -> tuple[bytes, bool]:
    """A pod's answer as HTTP/1.1, and whether its body has to be put into chunks. `end`: it has no body. `sized` is
    false where Envoy shows no body: then the end of the stream is the end of the answer."""
    given = dict(pairs)
    status = given.get(b":status", b"502")
    parts = [b"HTTP/1.1 %b -" % status]
    parts += [name + b": " + value for name, value in pairs if (_kinds.get(name) or _kind(name)) != _KEPT_BACK]
    chunked = False
    if sized or end:
        length = b"0" if end else given.get(b"content-length")
        chunked = length is None
        parts.append(b"transfer-encoding: chunked" if length is None else b"content-length: " + length)
    return b"\r\n".join(parts) + b"\r\n\r\n", chunked


def subset_of(message: EnvoyMessage) -> frozenset[str] | None:
    """The endpoints that the pick is limited to; None where any will do. Raises NotAMessage."""
    if (value := _hint(message.metadata, SUBSET_HINT, SUBSET)) is None:
        return None
    texts = list[bytes]()
    reader = Reader(value)
    while reader.next():
        if reader.number == 3:
            texts = reader.content.split(b",")
        elif reader.number == 6:
            each = Reader(reader.content)
            while each.next():
                if each.number == 1:
                    texts.append(part(each.content, 3))
    return frozenset([text.strip().decode() for text in texts if text.strip()])


def served_by(message: EnvoyMessage) -> str:
    """The endpoint that gave the answer; empty where Envoy does not say. Raises NotAMessage."""
    value = _hint(message.metadata, LB, SERVED)
    return part(value, 3).decode() if value is not None else ""


def _hint(metadata: bytes, namespace: bytes, name: bytes) -> bytes | None:
    """A google.protobuf.Value of the metadata, which are google.protobuf.Structs by namespace."""
    return _found(metadata, namespace, name) if len(metadata) > MAX_KEPT_BYTES else _kept(metadata, namespace, name)


def _found(metadata: bytes, namespace: bytes, name: bytes) -> bytes | None:
    struct = entry(metadata, namespace)
    return entry(struct, name) if struct is not None else None


_kept: Final = lru_cache(256)(_found)  # those of answers are the same for each pod


@lru_cache(16384)
def endpoint(address: str) -> str:
    """A pod's address as `ip:port`."""
    at = addresses.of(address)
    return f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}"


@lru_cache(4096)
def _named(destination: str) -> tuple[bytes, bytes]:
    """The pick twice, as the protocol has it: a header to set, and dynamic metadata."""
    to = destination.encode()
    there = nested((1, 5), field(1, DESTINATION) + field(2, field(3, to)))
    return _set(DESTINATION, to), nested((1, 8), field(1, LB) + field(2, there))


def pick(
    request: ProxyRequest, head: bytes, length: int, destination: str, *, about: int, body: bytes | None = None
) -> bytes:
    """The reply that names the pod, to a message about this. It changes Envoy's request into the one that the gateway
    wrote, with this head and a body of this length. `body`: the reply changes the body too."""
    header, metadata = _named(destination)
    common = field(2, header + _changes(request, head, length)) + _CLEAR_ROUTE
    if body is not None:
        common += nested((3,), field(1, body))
    return nested((1, about - 1), common) + metadata


def _changes(request: ProxyRequest, head: bytes, length: int) -> bytes:
    given, end = request.lines, head.rfind(MARK)
    begin = end - len(request.block)
    if begin >= 0 and head[begin:end] == request.block:
        head = head[:begin] + head[end:]
    else:
        given = given + request.others
    first, *lines = head.split(b"\r\n")
    target = first.split(b" ")[1]
    made = list[bytes]()
    if length:
        made.append(_set(b"content-length", b"%d" % length))  # Envoy drops it where the body may be changed
    if target != request.target:
        made.append(_set(b":path", target))
    known, now = set(given), set(lines)
    made += [_set_line(line) for line in lines if line not in known]
    if missing := known - now:
        for name in {line[: line.find(b":")] for line in missing} - {line[: line.find(b":")] for line in lines}:
            if name not in _ENVOYS and name[:12] != b"x-forwarded-" and REQUEST.get(name) != 0:
                made.append(field(2, name))
    return b"".join(made)


def _set(name: bytes, value: bytes) -> bytes:
    """In a HeaderMutation. An empty value stays empty."""
    return field(1, field(1, field(1, name) + field(3, value)) + _OVERWRITE)


@lru_cache(1024)  # names of pods, pools and policies
def _set_line(line: bytes) -> bytes:
    """In a HeaderMutation, the header of a line; nothing for one that is Envoy's own."""
    name, _, value = line.partition(b": ")
    return b"" if not name or name in _ENVOYS or name[:12] == b"x-forwarded-" else _set(name, value)


def _set_lines(lines: bytes) -> bytes:
    return b"".join([_set_line(line) for line in lines.split(b"\r\n")])


def nothing(about: int) -> bytes:
    """The reply that changes nothing, to a message about this."""
    return field(about - 1, b"")


def with_headers(lines: bytes) -> bytes:
    """The reply to an answer's headers that adds those of these lines."""
    return nested((2, 1, RESPONSE_HEADERS - 1), _set_lines(lines))


def streamed(about: int, body: bytes, *, end: bool) -> list[bytes]:
    """The replies with a body, for FULL_DUPLEX_STREAMED; more than one where it is long."""
    pieces = [body[at : at + MAX_CHUNK_BYTES] for at in range(0, len(body) or 1, MAX_CHUNK_BYTES)]
    made = [field(1, piece) for piece in pieces]
    if end:
        made[-1] += _END
    return [nested((3, 3, 1, about - 1), piece) for piece in made]


def immediate(answer: bytes) -> bytes:
    """An answer that the gateway gives itself, whole, as Envoy's own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, _, lines = head.partition(b"\r\n")
    status = field(1, b"\x08" + varint(int(first.split(b" ")[1])))
    return nested((7,), status + field(2, _set_lines(lines)) + field(3, body) + field(5, b"turnout"))
