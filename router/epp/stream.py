"""One ext_proc stream, which is one request: Envoy's messages in, replies out. Synchronous; knows neither gRPC nor how
a pod is chosen: a `InnerCall` does, on the other side of two connections without sockets.

Envoy sends the headers and the body of a request; the gateway's choice becomes the reply. Then it sends the pod's
answer, which the gateway reads as if it came from the pod: so it knows when the first token came, what the usage was
and when the load is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from router.epp.ext_proc_pb2 import (
    BodyResponse,
    CommonResponse,
    HeadersResponse,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
    TrailersResponse,
)
from router.epp.messages import (
    DESTINATION,
    LAST_CHUNK,
    LB,
    BadMessage,
    ProxyRequest,
    change_to,
    chunk,
    endpoint,
    immediate,
    read_request,
    response_head,
    served_by,
    set_lines,
    streamed,
)
from router.epp.wires import EndWire
from router.errors import BadRequest, GatewayError, InternalError

_log = logging.getLogger("turnout.epp")

NONE, BUFFERED, FULL_DUPLEX = 0, 2, 4
"""Of ProcessingMode.BodySendMode."""

_MODES: Final = frozenset((BUFFERED, FULL_DUPLEX))
_WRONG_MODE: Final = (
    "The endpoint picker has to read the request's body: set request_body_mode of Envoy's ext_proc filter to "
    "FULL_DUPLEX_STREAMED or BUFFERED."
)


class InnerCall(Protocol):
    """The request inside the gateway; see `PickerCall`."""

    def connect(self, take: Callable[[bytes], None], peer: str, /) -> EndWire:
        """See `PickerCall`."""
        ...

    def alternatives(self) -> list[str]:
        """See `PickerCall`."""
        ...

    def served(self, by: str, /) -> None:
        """See `PickerCall`."""

    def response_lines(self) -> bytes:
        """See `PickerCall`."""
        ...

    def refusal(self, error: GatewayError, /) -> bytes:
        """See `PickerCall`."""
        ...


class ExtProcStream:
    """The state of one stream."""

    def __init__(
        self,
        number: int,
        call: Callable[[ProcessingRequest], InnerCall],
        reply: Callable[[ProcessingResponse], None],
        peer: str = "",
    ) -> None:
        """`call` begins the request that a first message announces. `reply` is called in `receive`, or later for a
        request that had to wait."""
        self._number = number
        self._begin = call
        self._reply = reply
        self._peer = peer
        self._call: InnerCall | None = None
        self._client: EndWire | None = None
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

    def receive(self, message: ProcessingRequest) -> None:
        """Take one message of Envoy's."""
        kind = message.WhichOneof("request")
        if kind is not None and not self._refused:
            _STEPS[kind](self, message)

    def close(self, *, clean: bool) -> None:
        """The stream is over; `clean`: Envoy ended it."""
        pod, unfinished = self._pod, self._pod is not None and not self._answered
        if pod is not None and unfinished and clean and self._answer_mode == NONE:
            pod.hang_up()  # the end of an answer whose body Envoy does not show
        if self._client is not None:
            self._client.hang_up()
        if pod is not None and unfinished:
            pod.hang_up()

    # The request

    def _request_headers(self, message: ProcessingRequest) -> None:
        headers = message.request_headers
        self._bodiless = headers.end_of_stream
        if message.HasField(
            "protocol_config"
        ):  # versions without it know FULL_DUPLEX_STREAMED from their configuration
            self._mode = message.protocol_config.request_body_mode
            self._answer_mode = message.protocol_config.response_body_mode
        call = self._call = self._begin(message)
        try:
            request = self._request = read_request(headers.headers, self._number, end=self._bodiless)
        except BadMessage as error:
            return self._refuse(call.refusal(BadRequest(f"This request cannot be routed: {error}.")))
        if not self._bodiless and self._mode not in _MODES:
            return self._refuse(call.refusal(InternalError(_WRONG_MODE)))
        self._client = call.connect(self._answer, self._peer)
        self._client.deliver(request.head)
        if self._mode == BUFFERED and not self._bodiless and not self._refused:
            self._reply(ProcessingResponse(request_headers=HeadersResponse()))  # the body comes after it

    def _request_body(self, message: ProcessingRequest) -> None:
        if self._client is None:
            return
        body = message.request_body
        end = body.end_of_stream
        self._client.deliver(chunk(body.body) + LAST_CHUNK if end else chunk(body.body))

    def _request_trailers(self, message: ProcessingRequest) -> None:
        self._trailers = True
        if self._client is not None:
            self._client.deliver(LAST_CHUNK)

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
        first = ProcessingResponse()
        if not self._bodiless and self._mode == BUFFERED:
            change = first.request_body.response
            change.body_mutation.body = body
        else:
            change = first.request_headers.response
        change.clear_route_cache = True
        change_to(change.header_mutation, request, head, len(body), destination)
        first.dynamic_metadata.fields[LB].struct_value.fields[DESTINATION].string_value = destination
        self._reply(first)
        if not self._bodiless and self._mode == FULL_DUPLEX:
            for piece in streamed(body, end=not self._trailers):
                self._reply(ProcessingResponse(request_body=BodyResponse(response=piece)))
        if self._trailers:
            self._reply(ProcessingResponse(request_trailers=TrailersResponse()))

    # The answer

    def _response_headers(self, message: ProcessingRequest) -> None:
        reply = ProcessingResponse(response_headers=HeadersResponse())
        if self._call is not None and self._pod is not None:
            if by := served_by(message):
                self._call.served(by)
            set_lines(reply.response_headers.response.header_mutation, self._call.response_lines())
            self._deliver_head(message.response_headers, self._pod)
        self._reply(reply)

    def _deliver_head(self, headers: HttpHeaders, pod: EndWire) -> None:
        end = headers.end_of_stream
        head, self._chunked = response_head(headers.headers, end=end, sized=self._answer_mode != NONE)
        self._answered = end
        pod.deliver(head)

    def _response_body(self, message: ProcessingRequest) -> None:
        body, end = message.response_body.body, message.response_body.end_of_stream
        pieces: Iterable[CommonResponse] = (CommonResponse(),)
        if self._answer_mode == FULL_DUPLEX:
            pieces = streamed(body, end=end)
        for piece in pieces:
            self._reply(ProcessingResponse(response_body=BodyResponse(response=piece)))
        if self._pod is not None:
            self._deliver_body(body, self._pod, end=end)

    def _response_trailers(self, message: ProcessingRequest) -> None:
        self._reply(ProcessingResponse(response_trailers=TrailersResponse()))
        if self._pod is not None and self._answer_mode != NONE:
            self._deliver_body(b"", self._pod, end=True)

    def _deliver_body(self, body: bytes, pod: EndWire, *, end: bool) -> None:
        if self._answered:
            return
        self._answered = end
        if self._chunked:
            body = chunk(body) + LAST_CHUNK if end else chunk(body)
        if body:
            pod.deliver(body)


_STEPS: Final = {
    "request_headers": ExtProcStream._request_headers,
    "request_body": ExtProcStream._request_body,
    "request_trailers": ExtProcStream._request_trailers,
    "response_headers": ExtProcStream._response_headers,
    "response_body": ExtProcStream._response_body,
    "response_trailers": ExtProcStream._response_trailers,
}
