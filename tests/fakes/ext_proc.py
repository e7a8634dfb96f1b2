"""Envoy's messages to an endpoint picker, and a picker of real components between them and memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Self

from router.dataplane.http.upstream import Upstream
from router.epp.call import PickerCall, PickerParts
from router.epp.messages import EnvoyMessage, subset_of
from router.epp.stream import FULL_DUPLEX, ExtProcStream
from router.epp.wires import Picked, PodWires
from tests.fakes.ext_proc_pb2 import (
    HeaderMap,
    HeaderMutation,
    HeaderValue,
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from tests.fakes.memory_gateway import Rig

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
LB = "envoy.lb"
SUBSET_HINT = "envoy.lb.subset_hint"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}).encode()
CHAT = {":method": "POST", ":path": "/v1/chat/completions", ":authority": "llm", "content-type": "application/json"}
OK = {":status": "200", "content-type": "text/event-stream"}


def header_map(headers: dict[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in headers.items()])


def request_headers(
    headers: dict[str, str],
    *,
    mode: int | None = FULL_DUPLEX,
    answer_mode: int = FULL_DUPLEX,
    end: bool = False,
    subset: Sequence[str] | None = None,
) -> ProcessingRequest:
    """The first message of a stream; `mode` None: from an Envoy that does not say how it is configured."""
    message = ProcessingRequest(request_headers=HttpHeaders(headers=header_map(headers), end_of_stream=end))
    if mode is not None:
        config = ProtocolConfiguration(request_body_mode=mode, response_body_mode=answer_mode)
        message.protocol_config.CopyFrom(config)
    if subset is not None:
        message.metadata_context.filter_metadata[SUBSET_HINT].update({SUBSET: list(subset)})
    return message


def read(message: ProcessingRequest) -> EnvoyMessage:
    """As the picker reads it."""
    return EnvoyMessage(message.SerializeToString())


def request_body(body: bytes, *, end: bool = True) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=body, end_of_stream=end))


def request_trailers() -> ProcessingRequest:
    return ProcessingRequest(request_trailers=HttpTrailers())


def response_headers(headers: dict[str, str], *, end: bool = False, served: str = "") -> ProcessingRequest:
    message = ProcessingRequest(response_headers=HttpHeaders(headers=header_map(headers), end_of_stream=end))
    if served:
        message.metadata_context.filter_metadata[LB].update({SERVED: served})
    return message


def response_body(body: bytes, *, end: bool = False) -> ProcessingRequest:
    return ProcessingRequest(response_body=HttpBody(body=body, end_of_stream=end))


def response_trailers() -> ProcessingRequest:
    return ProcessingRequest(response_trailers=HttpTrailers())


def kinds(replies: Sequence[ProcessingResponse]) -> list[str | None]:
    return [reply.WhichOneof("response") for reply in replies]


def set_by(mutation: HeaderMutation) -> dict[str, str]:
    return {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}


def destination(reply: ProcessingResponse) -> str:
    """The pick in a reply, which has it twice."""
    kind = reply.WhichOneof("response")
    assert kind in ("request_headers", "request_body"), reply
    named = set_by(getattr(reply, kind).response.header_mutation)[DESTINATION]
    assert reply.dynamic_metadata.fields[LB].struct_value.fields[DESTINATION].string_value == named
    return named


class PickerRig:
    """A gateway of real components as a picker."""

    def __init__(self, rig: Rig, spare: int = 0) -> None:
        self.rig = rig
        self.streams: dict[int, Picked] = {}
        rig.upstream = Upstream(rig.deadlines, PodWires(self.streams).dial)
        rig.rebuild(rig.gateway.deps._replace(upstream=rig.upstream))
        self.parts = PickerParts(rig.gateway, rig.listener, rig.view, rig.wire.clock, spare)

    def opens(self) -> Conversation:
        return Conversation(self)

    def inflight(self) -> dict[str, int]:
        return {str(status.pod.id): status.load.inflight for status in self.rig.view.statuses() if status.load.inflight}


class Conversation:
    """One stream: what Envoy sends, and the replies."""

    def __init__(self, picker: PickerRig) -> None:
        self._picker = picker
        number = len(picker.streams) + 1
        self.replies: list[bytes] = []
        self.stream = ExtProcStream(
            number, lambda first: PickerCall(picker.parts, subset_of(first)), self.replies.append
        )
        picker.streams[number] = self.stream.picked

    def sends(self, *messages: ProcessingRequest) -> Self:
        for message in messages:
            self._picker.rig.wire.do(partial(self.stream.receive, read(message)))
        return self

    def closes(self, *, clean: bool = True) -> Self:
        self._picker.rig.wire.do(lambda: self.stream.close(clean=clean))
        return self

    def takes(self) -> list[ProcessingResponse]:
        """The replies since the last call."""
        taken, self.replies[:] = [ProcessingResponse.FromString(reply) for reply in self.replies], []
        return taken
