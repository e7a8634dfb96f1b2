"""Envoy's messages, read, and what the gateway writes as messages to Envoy. Pure; `heads.py` knows their headers.

The endpoint picker protocol is kubernetes-sigs/gateway-api-inference-extension, docs/proposals/004; the messages are
those of envoy/service/ext_proc/v3/external_processor.proto, which gives the numbers of fields. Only fields that are
used are read; all others are skipped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from router.dataplane.http.header_rules import REQUEST
from router.epp.heads import DESTINATION, ENVOYS, MAX_BYTES, MAX_KNOWN, Pair, ProxyRequest
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

SERVED: Final = b"x-gateway-destination-endpoint-served"
SUBSET: Final = b"x-gateway-destination-endpoint-subset"
LB: Final = b"envoy.lb"
SUBSET_HINT: Final = b"envoy.lb.subset_hint"

MAX_CHUNK_BYTES: Final = 62_000
"""Of a body in one message; some versions of Envoy take at most 64 KiB."""

MAX_KEPT_BYTES: Final = 65_536
"""Of metadata that are remembered: 16 MB of all."""

_OVERWRITE: Final = b"\x18\x02"
"""Field 3 of a HeaderValueOption: OVERWRITE_IF_EXISTS_OR_ADD."""
_CLEAR_ROUTE: Final = b"\x28\x01"
"""Field 5 of a CommonResponse: the route may be another one with these headers."""
_END: Final = b"\x10\x01"
"""Field 2 of a StreamedBodyResponse: nothing follows."""


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

    def headers(self) -> tuple[list[Pair], bool]:
        """The headers, and whether no body follows. Raises NotAMessage."""
        pairs, end, content = list[Pair](), 0, Reader(self.content)
        while content.next():
            if content.number == 1:
                reader = Reader(content.content)
                while reader.next():
                    if reader.number == 1:
                        raw = reader.content
                        pairs.append(_pairs.get(raw) or _pair(raw))
            elif content.scalar == 3:
                end = content.value
        return pairs, bool(end)

    def body(self) -> tuple[bytes, bool]:
        """A piece of the body, and whether it is the last one. Raises NotAMessage."""
        body, end = last(self.content, 1, 2)
        return body, bool(end)


_pairs: Final[dict[bytes, Pair]] = {}
"""Headers that came before, by their message. A full one is emptied."""


def _pair(message: bytes) -> Pair:
    """A header; most versions of Envoy send bytes, some text."""
    pair = part(message, 1), part(message, 3) or part(message, 2)
    if len(message) <= MAX_BYTES:
        if len(_pairs) >= MAX_KNOWN:
            _pairs.clear()
        _pairs[message] = pair
    return pair


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
    known = set(given)
    made += [_set_line(line) for line in lines if line not in known]
    for name in {line[: line.find(b":")] for line in known.difference(lines)}:
        if name not in ENVOYS and name[:12] != b"x-forwarded-" and REQUEST.get(name) != 0:
            if not [line for line in lines if line.startswith(name + b":")]:
                made.append(field(2, name))
    return b"".join(made)


def _set(name: bytes, value: bytes) -> bytes:
    """In a HeaderMutation. An empty value stays empty."""
    of_name, of_value = varint(len(name)), varint(len(value))
    size = 2 + len(of_name) + len(name) + len(of_value) + len(value)
    of_pair = varint(size)
    of_all = varint(1 + len(of_pair) + size + len(_OVERWRITE))
    return b"".join([b"\n", of_all, b"\n", of_pair, b"\n", of_name, name, b"\x1a", of_value, value, _OVERWRITE])


def _set_line(line: bytes) -> bytes:
    """In a HeaderMutation, the header of a line; nothing for one that is Envoy's own."""
    name, _, value = line.partition(b": ")
    return b"" if not name or name in ENVOYS or name[:12] == b"x-forwarded-" else _set(name, value)


def _set_lines(lines: bytes) -> bytes:
    return b"".join([_set_line(line) for line in lines.split(b"\r\n")])


@lru_cache(1024)  # names of pods, pools and policies
def _set_named(lines: bytes) -> bytes:
    return _set_lines(lines)


def nothing(about: int) -> bytes:
    """The reply that changes nothing, to a message about this."""
    return field(about - 1, b"")


def with_headers(lines: bytes) -> bytes:
    """The reply to an answer's headers that adds those of these lines."""
    first, _, others = lines.partition(b"\r\n")  # the id of the request, which is always another, comes first
    return nested((2, 1, RESPONSE_HEADERS - 1), _set_line(first) + _set_named(others))


def streamed(about: int, body: bytes, *, end: bool) -> list[bytes]:
    """The replies with a body, for FULL_DUPLEX_STREAMED; more than one where it is long."""
    made, last = list[bytes](), len(body) - MAX_CHUNK_BYTES
    for at in range(0, len(body) or 1, MAX_CHUNK_BYTES):
        piece, after = body[at : at + MAX_CHUNK_BYTES], _END if end and at >= last else b""
        made.append(b"".join([_before(about, len(piece), after), piece, after]))
    return made


@lru_cache(4096)
def _before(about: int, size: int, after: bytes) -> bytes:
    """What stands in a reply before a body of this size, with this after it."""
    whole = nested((3, 3, 1, about - 1), field(1, bytes(size)) + after)
    return whole[: len(whole) - size - len(after)]


def immediate(answer: bytes) -> bytes:
    """An answer that the gateway gives itself, whole, as Envoy's own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, _, lines = head.partition(b"\r\n")
    status = field(1, b"\x08" + varint(int(first.split(b" ")[1])))
    return nested((7,), status + field(2, _set_lines(lines)) + field(3, body) + field(5, b"turnout"))
