"""One ext_proc stream, which is one request: Envoy's messages in, replies out. Synchronous; knows neither gRPC nor how
a pod is chosen: a `PickerCall` does, on the other side of two connections without sockets.

Envoy sends the headers and the body of a request; the gateway's choice becomes the reply. Then it sends the pod's
answer, which the gateway reads as if it came from the pod: so it knows when the first token came, what the usage was
and when the load is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from router.dataplane.http.chunked import LAST_CHUNK, chunk
from router.epp.call import PickerCall
from router.epp.heads import BadMessage, ProxyRequest, read_request, response_head
from router.epp.messages import (
    REQUEST_BODY,
    REQUEST_HEADERS,
    REQUEST_TRAILERS,
    RESPONSE_BODY,
    RESPONSE_HEADERS,
    RESPONSE_TRAILERS,
    EnvoyMessage,
    endpoint,
    immediate,
    nothing,
    pick,
    served_by,
    streamed,
    with_headers,
)
from router.epp.wires import EndWire
from router.errors import BadRequest, InternalError

_log = logging.getLogger("turnout.epp")

NONE: Final = 0
BUFFERED: Final = 2
FULL_DUPLEX: Final = 4
"""Of ProcessingMode.BodySendMode."""

_MODES: Final = frozenset((BUFFERED, FULL_DUPLEX))
_WRONG_MODE: Final = (
    "The endpoint picker has to read the request's body: set request_body_mode of Envoy's ext_proc filter to "
    "FULL_DUPLEX_STREAMED or BUFFERED."
)


class ExtProcStream:
    """The state of one stream."""

    def __init__(
        self,
        number: int,
        call: Callable[[EnvoyMessage], PickerCall],
        reply: Callable[[bytes], None],
        peer: str = "",
    ) -> None:
        """`call` begins the request that a first message announces. `reply` is called in `receive`, or later for a
        request that had to wait."""
        self._number = number
        self._begin = call
        self._reply = reply
        self._peer = peer
        self._call: PickerCall | None = None
        self._pod: EndWire | None = None
        """None until a pod was picked."""
        self._request: ProxyRequest | None = None
        self._mode = FULL_DUPLEX
        self._answer_mode = NONE
        self._bodiless = False
        self._trailers = False
        """The request ends with trailers."""
        self._chunked = False
        """The answer is put into chunks."""
        self._answered = False
        """The pod's answer is complete."""
        self._refused = False
        """The gateway answered itself: no message counts any more."""

    def receive(self, message: EnvoyMessage) -> None:
        """Take one message of Envoy's."""
        step = _STEPS.get(message.about)
        if step is not None and not self._refused:
            step(self, message)

    def close(self, *, clean: bool) -> None:
        """The stream is over; `clean`: Envoy ended it."""
        pod, unfinished = self._pod, self._pod is not None and not self._answered
        if pod is not None and unfinished and clean and self._answer_mode == NONE:
            pod.hang_up()  # the end of an answer whose body Envoy does not show
        if self._call is not None:
            self._call.close()
        if pod is not None and unfinished:
            pod.hang_up()
        self._call = self._pod = None  # no reference cycle is left to the garbage collector

    # The request

    def _request_headers(self, message: EnvoyMessage) -> None:
        headers, self._bodiless = message.headers()
        if message.modes is not None:  # versions without them know FULL_DUPLEX_STREAMED from their configuration
            self._mode, self._answer_mode = message.modes
        call = self._call = self._begin(message)
        try:
            request = self._request = read_request(headers, self._number, end=self._bodiless)
        except BadMessage as error:
            return self._refuse(call.refusal(BadRequest(f"This request cannot be routed: {error}.")))
        if not self._bodiless and self._mode not in _MODES:
            return self._refuse(call.refusal(InternalError(_WRONG_MODE)))
        call.connect(self._answer, self._peer)
        call.deliver(request, b"", end=self._bodiless)
        if self._mode == BUFFERED and not self._bodiless and not self._refused:
            self._reply(nothing(REQUEST_HEADERS))  # the body comes after it

    def _request_body(self, message: EnvoyMessage) -> None:
        if self._call is not None:
            body, end = message.body()
            self._call.deliver(None, body, end=end)

    def _request_trailers(self, message: EnvoyMessage) -> None:
        self._trailers = True
        if self._call is not None:
            self._call.deliver(None, b"", end=True)

    def _answer(self, data: bytes) -> None:
        """The gateway writes to the client: before a pod was picked that is its own answer."""
        if self._pod is None and not data.startswith(b"HTTP/1.1 100 "):
            self._refuse(data)

    def _refuse(self, answer: bytes) -> None:
        if not self._refused:
            self._refused = True
            self._reply(immediate(answer))

    def picked(self, address: str, pod: EndWire, data: bytes) -> None:
        """The gateway sends the request to the pod with this address. Only its first choice counts: what follows a
        failure is Envoy's to do, with the endpoints that it was given."""
        request, call = self._request, self._call
        if self._pod is not None or self._refused or request is None or call is None:
            return
        try:
            destination = ",".join((endpoint(address), *call.alternatives()))
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            _log.exception("no endpoint can be named for %s", address)
            return self._refuse(call.refusal(InternalError("The endpoint picker failed; its log says why.")))
        self._pod = pod
        head, _, body = data.partition(b"\r\n\r\n")
        if not self._bodiless and self._mode == BUFFERED:
            self._reply(pick(request, head, len(body), destination, about=REQUEST_BODY, body=body))
        else:
            self._reply(pick(request, head, len(body), destination, about=REQUEST_HEADERS))
        if not self._bodiless and self._mode == FULL_DUPLEX:
            for piece in streamed(REQUEST_BODY, body, end=not self._trailers):
                self._reply(piece)
        if self._trailers:
            self._reply(nothing(REQUEST_TRAILERS))

    # The answer

    def _response_headers(self, message: EnvoyMessage) -> None:
        if self._call is None or self._pod is None:
            return self._reply(nothing(RESPONSE_HEADERS))
        if by := served_by(message):
            self._call.served(by)
        reply = with_headers(self._call.response_lines())
        pairs, end = message.headers()
        head, self._chunked = response_head(pairs, end=end, sized=self._answer_mode != NONE)
        self._answered = end
        self._pod.deliver(head)
        self._reply(reply)

    def _response_body(self, message: EnvoyMessage) -> None:
        body, end = message.body()
        if self._answer_mode == FULL_DUPLEX:
            for piece in streamed(RESPONSE_BODY, body, end=end):
                self._reply(piece)
        else:
            self._reply(nothing(RESPONSE_BODY))
        if self._pod is not None:
            self._deliver_body(body, self._pod, end=end)

    def _response_trailers(self, message: EnvoyMessage) -> None:
        self._reply(nothing(RESPONSE_TRAILERS))
        if self._pod is not None and self._answer_mode != NONE:
            self._deliver_body(b"", self._pod, end=True)

    def _deliver_body(self, body: bytes, pod: EndWire, *, end: bool) -> None:
        if self._answered:
            return
        self._answered = end
        if self._chunked:
            body = framed(body, end=end)
        if body:
            pod.deliver(body)


_STEPS: Final = {
    REQUEST_HEADERS: ExtProcStream._request_headers,
    REQUEST_BODY: ExtProcStream._request_body,
    REQUEST_TRAILERS: ExtProcStream._request_trailers,
    RESPONSE_HEADERS: ExtProcStream._response_headers,
    RESPONSE_BODY: ExtProcStream._response_body,
    RESPONSE_TRAILERS: ExtProcStream._response_trailers,
}


def framed(body: bytes, *, end: bool) -> bytes:
    """A piece of a chunked body, which may be empty."""
    piece = chunk(body) if body else b""
    return piece + LAST_CHUNK if end else piece
