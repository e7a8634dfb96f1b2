"""Envoy's messages to HTTP/1.1 as the gateway reads it, and what the gateway writes to Envoy's messages. Pure.

The endpoint picker protocol is kubernetes-sigs/gateway-api-inference-extension, docs/proposals/004; the messages are
those of envoy.service.ext_proc.v3.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from router.dataplane.http.header_rules import REQUEST
from router.epp.ext_proc_pb2 import (
    BodyMutation,
    CommonResponse,
    HeaderMap,
    HeaderMutation,
    HttpStatus,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    StreamedBodyResponse,
)
from router.epp.wires import MARK
from statesync.discovery import address as addresses

DESTINATION: Final = "x-gateway-destination-endpoint"
SERVED: Final = "x-gateway-destination-endpoint-served"
SUBSET: Final = "x-gateway-destination-endpoint-subset"
LB: Final = "envoy.lb"
SUBSET_HINT: Final = "envoy.lb.subset_hint"

MAX_CHUNK_BYTES: Final = 62_000
"""Of a body in one message; some versions of Envoy take at most 64 KiB."""

OVERWRITE: Final = 2
"""HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD."""

_MARK_NAME: Final = MARK[2:-2]
_ENVOYS: Final = frozenset(
    (b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"te", b"keep-alive")
) | {_MARK_NAME, DESTINATION.encode(), b"forwarded", b"x-real-ip"}
"""Headers between Envoy and its neighbours, or for the picker's own use: none of them is changed for the gateway's."""
_NOT_FED: Final = _ENVOYS - {b"forwarded", b"x-real-ip"}


class ProxyRequest(NamedTuple):
    """A request as Envoy has it."""

    head: bytes
    """As HTTP/1.1, for the gateway."""
    lines: frozenset[bytes]
    names: frozenset[bytes]
    target: bytes


class BadMessage(Exception):
    """Headers that are no HTTP request."""


def read_request(headers: HeaderMap, number: int, *, end: bool) -> ProxyRequest:
    """The request of the stream with this number. `end`: it has no body; else its body comes in chunks, whatever length
    it says, since Envoy alone knows where it ends. Raises BadMessage."""
    pairs = [(each.key.encode(), each.raw_value or each.value.encode()) for each in headers.headers]
    given = dict(pairs)
    method, target = given.get(b":method", b""), given.get(b":path", b"")
    lines = [name + b": " + value for name, value in pairs if name[:1] != b":" and name not in _NOT_FED]
    framing = b"content-length: 0" if end else b"transfer-encoding: chunked"
    first = b"%b %b HTTP/1.1" % (method, target)
    host = b"host: " + (given.get(b":authority") or given.get(b"host", b""))
    head = b"\r\n".join((first, host, framing, *lines)) + MARK + b"%d\r\n\r\n" % number
    if head.count(b"\n") != len(lines) + 5 or not method or not target:
        raise BadMessage("these headers are no HTTP request")
    return ProxyRequest(head, frozenset(lines), frozenset(given), target)


def chunk(piece: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


LAST_CHUNK: Final = b"0\r\n\r\n"


def response_head(headers: HeaderMap, *, end: bool, sized: bool) -> tuple[bytes, bool]:
    """A pod's answer as HTTP/1.1, and whether its body has to be put into chunks. `end`: it has no body. `sized` is
    false where Envoy shows no body: then the end of the stream is the end of the answer."""
    pairs = [(each.key.encode(), each.raw_value or each.value.encode()) for each in headers.headers]
    given = dict(pairs)
    status = given.get(b":status", b"502")
    parts = [b"HTTP/1.1 %b -" % status]
    parts += [name + b": " + value for name, value in pairs if name[:1] != b":" and name not in _NOT_FED]
    chunked = False
    if sized or end:
        length = b"0" if end else given.get(b"content-length")
        chunked = length is None
        parts.append(b"transfer-encoding: chunked" if length is None else b"content-length: " + length)
    return b"\r\n".join(parts) + b"\r\n\r\n", chunked


def subset_of(message: ProcessingRequest) -> frozenset[str] | None:
    """The endpoints that the pick is limited to; None where any will do."""
    hint = message.metadata_context.filter_metadata
    if SUBSET_HINT not in hint or SUBSET not in hint[SUBSET_HINT].fields:
        return None
    value = hint[SUBSET_HINT].fields[SUBSET]
    texts = [each.string_value for each in value.list_value.values] or value.string_value.split(",")
    return frozenset(text.strip() for text in texts if text.strip())


def served_by(message: ProcessingRequest) -> str:
    """The endpoint that gave the answer; empty where Envoy does not say."""
    metadata = message.metadata_context.filter_metadata
    return metadata[LB].fields[SERVED].string_value if LB in metadata and SERVED in metadata[LB].fields else ""


@lru_cache(16384)
def endpoint(address: str) -> str:
    """A pod's address as `ip:port`."""
    at = addresses.of(address)
    return f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}"


def change_to(mutation: HeaderMutation, request: ProxyRequest, head: bytes, length: int, destination: str) -> None:
    """Fill in what changes Envoy's request into the one that the gateway wrote, with this head and a body of this
    length, and says where it goes."""
    first, *lines = head.split(b"\r\n")
    target = first.split(b" ")[1]
    _set(mutation, DESTINATION, destination.encode())
    if length:
        _set(mutation, "content-length", b"%d" % length)  # Envoy drops it where the body may be changed
    if target != request.target:
        _set(mutation, ":path", target)
    names = {b""}
    for line in lines:
        name, _, value = line.partition(b": ")
        names.add(name)
        if line not in request.lines and name not in _ENVOYS and name[:12] != b"x-forwarded-":
            _set(mutation, name.decode("latin-1"), value)
    for name in request.names - names:
        if name[:1] != b":" and name not in _ENVOYS and name[:12] != b"x-forwarded-" and REQUEST.get(name) != 0:
            mutation.remove_headers.append(name.decode("latin-1"))


def _set(mutation: HeaderMutation, name: str, value: bytes) -> None:
    option = mutation.set_headers.add(append_action=OVERWRITE)
    header = option.header
    header.key = name
    header.raw_value = value


def streamed(body: bytes, *, end: bool) -> Iterable[CommonResponse]:
    """A body in pieces, for FULL_DUPLEX_STREAMED."""
    for at in range(0, len(body) or 1, MAX_CHUNK_BYTES):
        last = end and at + MAX_CHUNK_BYTES >= len(body)
        piece = StreamedBodyResponse(body=body[at : at + MAX_CHUNK_BYTES], end_of_stream=last)
        yield CommonResponse(body_mutation=BodyMutation(streamed_response=piece))


def set_lines(mutation: HeaderMutation, lines: bytes) -> None:
    """Set the headers of these lines, but for those that are Envoy's own."""
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name and name not in _ENVOYS:
            _set(mutation, name.decode("latin-1"), value)


def immediate(answer: bytes) -> ProcessingResponse:
    """An answer that the gateway gives itself, whole, as Envoy's own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, _, lines = head.partition(b"\r\n")
    status = HttpStatus(code=int(first.split(b" ")[1]))
    response = ImmediateResponse(status=status, body=body, details="turnout")
    set_lines(response.headers, lines)
    return ProcessingResponse(immediate_response=response)
