"""Envoy's messages and HTTP/1.1, one to the other."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from router.epp import messages
from router.epp.heads import BadMessage, ProxyRequest, read_request, response_head
from router.epp.messages import (
    MAX_KEPT_BYTES,
    REQUEST_BODY,
    REQUEST_HEADERS,
    RESPONSE_BODY,
    EnvoyMessage,
    endpoint,
    immediate,
    nothing,
    pick,
    served_by,
    streamed,
    subset_of,
    with_headers,
)
from router.epp.wire_format import NotAMessage
from router.protobuf import field, nested, varint
from tests.fakes.each_case import each_case
from tests.fakes.ext_proc import (
    CHAT,
    LB,
    SERVED,
    SUBSET,
    SUBSET_HINT,
    destination,
    read,
    request_headers,
    response_headers,
    set_by,
)
from tests.fakes.ext_proc_pb2 import (
    HeaderMutation,
    HeaderValue,
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
)

POD_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 10.0.0.1:8000\r\ncontent-type: application/json\r\n"


Pairs = list[tuple[bytes, bytes]]


def pairs(headers: dict[str, str]) -> Pairs:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def mutation_to(request: ProxyRequest, head: bytes, length: int, destination: str) -> HeaderMutation:
    reply = ProcessingResponse.FromString(pick(request, head, length, destination, about=REQUEST_HEADERS))
    return reply.request_headers.response.header_mutation


def test_the_wire_format_is_that_of_envoys_published_messages() -> None:
    request = ProcessingRequest.FromString(
        bytes.fromhex("12100a0c0a0a0a033a616b1a0376616c1801") + b"\x5a\x04\x08\x04\x10\x02"
    )
    assert request.request_headers.headers.headers[0] == HeaderValue(key=":ak", raw_value=b"val")
    assert request.request_headers.end_of_stream
    assert (request.protocol_config.request_body_mode, request.protocol_config.response_body_mode) == (4, 2)
    reply = ProcessingResponse()
    reply.immediate_response.status.code = 429
    reply.immediate_response.body = b"x"
    assert reply.SerializeToString().hex() == "3a080a0308ad031a0178"


def test_a_request_becomes_http_1_1_without_what_is_between_envoy_and_its_neighbours() -> None:
    given = CHAT | {"te": "trailers", "content-length": "5", "x-endpoint-picker-stream": "9", "x-mine": "1"}
    given |= {"x-forwarded-proto": "https"}
    request = read_request(pairs(given), 7, end=False)
    assert request.head == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: llm\r\ntransfer-encoding: chunked\r\n"
        b"content-type: application/json\r\nx-mine: 1\r\nx-endpoint-picker-stream: 7\r\n\r\n"
    )
    assert b"content-length: 0\r\n" in read_request(pairs(CHAT), 7, end=True).head


def test_headers_of_an_envoy_that_sends_text_are_read_too() -> None:
    message = ProcessingRequest()
    message.request_headers.headers.headers.extend(HeaderValue(key=name, value=value) for name, value in CHAT.items())
    assert read(message).headers() == (pairs(CHAT), False)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {":path": ""}, {":method": ""}, {":authority": "a\r\nb: c"}])
def test_headers_that_are_no_request_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadMessage):
        read_request(pairs(CHAT | headers), 1, end=False)


def test_only_what_the_gateway_changed_is_changed() -> None:
    given = CHAT | {"authorization": "Bearer client", "x-turnout-policy": "p", "x-forwarded-for": "1.1.1.1", "te": "x"}
    given |= {"x-real-ip": "1.1.1.1", "forwarded": "for=1.1.1.1", "trailer": "x"}
    request = read_request(pairs(given), 1, end=False)
    assert request.others == [], "what the gateway drops is in no block that it passes on"
    head = POD_HEAD + b"authorization: Bearer pool\r\nx-request-id: 1"
    mutation = mutation_to(request, head, 3, "10.0.0.1:8000")
    assert set_by(mutation) == {
        "x-gateway-destination-endpoint": "10.0.0.1:8000",
        "content-length": "3",
        "authorization": "Bearer pool",
        "x-request-id": "1",
    }
    assert list(mutation.remove_headers) == ["x-turnout-policy"]


OWN = b"host: 10.0.0.1:8000\r\ncontent-length: 3\r\nx-request-id: 1\r\ncontent-type: application/json"
PASSED = b"\r\naccept: */*\r\nx-mine: 1\r\nuser-agent: a"


@each_case(
    "passed, changed, removed",
    [
        (PASSED, {}, []),
        (b"\r\nx-added: 2" + PASSED, {"x-added": "2"}, []),
        (PASSED + b"\r\nx-added: 2", {"x-added": "2"}, []),
        (PASSED.replace(b"x-mine: 1", b"x-mine: 2"), {"x-mine": "2"}, []),
        (PASSED.replace(b"x-mine: 1\r\n", b""), {}, ["x-mine"]),
        (b"", {}, ["accept", "user-agent", "x-mine"]),
    ],
)
def test_headers_are_compared_one_by_one_where_the_gateway_did_not_pass_on_all(
    passed: bytes, changed: dict[str, str], removed: list[str]
) -> None:
    given = {"content-type": "application/json", "x-turnout-pool": "p"}
    given |= {"accept": "*/*", "x-mine": "1", "user-agent": "a"}
    request = read_request(pairs(CHAT | given), 7, end=False)
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + OWN + passed + b"\r\nx-endpoint-picker-stream: 7"
    usual = {"x-gateway-destination-endpoint": "a:1", "content-length": "3", "x-request-id": "1"}
    for each in (request, request._replace(block=b"\0\0")):
        mutation = mutation_to(each, head, 3, "a:1")
        assert set_by(mutation) == usual | changed
        assert sorted(mutation.remove_headers) == [*removed, "x-turnout-pool"]


def test_a_path_that_the_gateway_changed_is_changed() -> None:
    request = read_request(pairs(CHAT), 1, end=False)
    mutation = mutation_to(request, POD_HEAD.replace(b"/v1/", b"/base/v1/"), 0, "a:1")
    assert set_by(mutation)[":path"] == "/base/v1/chat/completions"
    assert "content-length" not in set_by(mutation)


def test_a_key_that_no_pod_may_see_is_removed() -> None:
    request = read_request(pairs(CHAT | {"authorization": "Bearer client"}), 1, end=False)
    assert list(mutation_to(request, POD_HEAD, 3, "a:1").remove_headers) == ["authorization"]


def test_an_answer_without_a_length_is_put_into_chunks() -> None:
    head, chunked = response_head(pairs({":status": "200", "x": "1"}), end=False, sized=True)
    assert (head, chunked) == (b"HTTP/1.1 200 -\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n", True)
    sized, chunked = response_head(pairs({":status": "200", "content-length": "4"}), end=False, sized=True)
    assert (sized, chunked) == (b"HTTP/1.1 200 -\r\ncontent-length: 4\r\n\r\n", False)
    bare, _ = response_head(pairs({":status": "204"}), end=True, sized=True)
    assert bare == b"HTTP/1.1 204 -\r\ncontent-length: 0\r\n\r\n"
    unseen, chunked = response_head(pairs({":status": "200", "content-length": "4"}), end=False, sized=False)
    assert (unseen, chunked) == (b"HTTP/1.1 200 -\r\n\r\n", False)


def test_a_subset_may_be_a_list_or_text() -> None:
    assert subset_of(read(request_headers(CHAT))) is None
    assert subset_of(read(request_headers(CHAT, subset=["a:1", " b:2"]))) == frozenset(("a:1", "b:2"))
    assert subset_of(read(request_headers(CHAT, subset=[]))) == frozenset()
    text = ProcessingRequest()
    text.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(
        {"x-gateway-destination-endpoint-subset": "a:1,b:2"}
    )
    assert subset_of(read(text)) == frozenset(("a:1", "b:2"))


def test_who_served_is_read_where_envoy_says_so() -> None:
    assert served_by(read(response_headers({":status": "200"}))) == ""
    assert served_by(read(response_headers({":status": "200"}, served="a:1"))) == "a:1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1:80", "10.0.0.1:80"), ("https://10.0.0.1:443/base", "10.0.0.1:443"), ("[::1]:80", "[::1]:80")],
)
def test_an_endpoint_is_address_and_port(address: str, expected: str) -> None:
    assert endpoint(address) == expected


def test_a_body_without_bytes_is_one_piece() -> None:
    (piece,) = [ProcessingResponse.FromString(each) for each in streamed(RESPONSE_BODY, b"", end=True)]
    assert piece.response_body.response.body_mutation.streamed_response.end_of_stream


def test_an_answer_of_the_gateways_loses_its_framing() -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\nconnection: close\r\nretry-after: 3\r\n\r\n{}"
    sent = ProcessingResponse.FromString(immediate(answer)).immediate_response
    assert (sent.status.code, sent.body, set_by(sent.headers)) == (429, b"{}", {"retry-after": "3"})
    assert sent.details == "turnout"


def test_lines_become_a_mutation() -> None:
    reply = ProcessingResponse.FromString(with_headers(b"a: 1\r\nb: x: y\r\nconnection: close\r\n"))
    assert set_by(reply.response_headers.response.header_mutation) == {"a": "1", "b": "x: y"}


def test_a_pick_may_change_the_body_too() -> None:
    request = read_request(pairs(CHAT), 1, end=False)
    reply = ProcessingResponse.FromString(pick(request, POD_HEAD, 3, "a:1", about=REQUEST_BODY, body=b"{ }"))
    assert reply.request_body.response.body_mutation.body == b"{ }"
    assert reply.request_body.response.clear_route_cache
    assert destination(reply) == "a:1"


@pytest.mark.parametrize("about", range(2, 8))
def test_a_reply_is_about_what_its_message_is_about(about: int) -> None:
    asked, answered = ProcessingRequest.DESCRIPTOR, ProcessingResponse.DESCRIPTOR
    (field,) = [descriptor for descriptor, _ in ProcessingResponse.FromString(nothing(about)).ListFields()]
    assert field.name == asked.fields_by_number[about].name
    assert field is answered.fields_by_number[about - 1]


HEADERS = st.lists(
    st.builds(HeaderValue, key=st.text(max_size=200), value=st.text(max_size=200), raw_value=st.binary(max_size=200))
)


@given(
    HEADERS, st.booleans(), st.binary(max_size=9), st.none() | st.tuples(*[st.integers(0, 1 << 20)] * 2), st.booleans()
)
def test_headers_are_read_as_protobuf_reads_them(
    headers: list[HeaderValue], end: bool, unknown: bytes, modes: tuple[int, int] | None, observed: bool
) -> None:
    message = ProcessingRequest(observability_mode=observed)
    message.response_headers.headers.headers.extend(headers)
    message.response_headers.end_of_stream = end
    if modes is not None:
        message.protocol_config.request_body_mode, message.protocol_config.response_body_mode = modes
    attributes = b"\x4a%c%b" % (len(unknown), unknown)  # field 9, which is not read
    found = EnvoyMessage(attributes + message.SerializeToString() + b"\xf9\x01" + bytes(8) + b"\xfd\x01" + bytes(4))
    assert (found.about, found.modes, found.observed) == (3, modes, observed)
    assert found.headers() == ([(each.key.encode(), each.raw_value or each.value.encode()) for each in headers], end)


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 300))
def test_a_body_is_read_as_protobuf_reads_it(body: bytes, end: bool, cut: int) -> None:
    message = ProcessingRequest()
    message.request_body.body, message.request_body.end_of_stream = body, end
    data = message.SerializeToString()
    assert EnvoyMessage(data).body() == (body, end)
    if 0 < cut < len(data):
        with pytest.raises(NotAMessage):
            EnvoyMessage(data[:cut])


TEXT = st.text(max_size=200)


@given(
    st.dictionaries(TEXT, st.dictionaries(TEXT, TEXT, max_size=3), max_size=3),
    TEXT,
    st.lists(st.from_regex(r"[a-z]+", fullmatch=True)),
)
def test_metadata_are_read_as_protobuf_reads_them(
    others: dict[str, dict[str, str]], served: str, subset: list[str]
) -> None:
    message = response_headers({":status": "200"}, served=served)
    for namespace, values in others.items():
        message.metadata_context.filter_metadata[namespace].update(values)
    message.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(
        {"x-gateway-destination-endpoint-subset": subset}
    )
    assert served_by(read(message)) == served
    assert subset_of(read(message)) == frozenset(subset)


KEYS = st.sampled_from([LB, SERVED, SUBSET_HINT, SUBSET, "", "é"])
WAYS = {0: st.binary(max_size=0), 1: st.binary(min_size=8, max_size=8), 5: st.binary(min_size=4, max_size=4)}


@st.composite
def on_the_wire(draw: st.DrawFn, message: Any, depth: int = 0) -> bytes:
    """A message as any peer may write it: fields more than once and in any order, messages in parts, fields that are
    unknown, or are written in another way than theirs. A value is of one kind, and entries of maps, which protobuf's
    libraries treat each in its way, have none that is unknown or comes twice."""
    entry = message.GetOptions().map_entry
    fields = [*([] if entry else [None]), *message.fields]
    most = 0 if depth > 6 else 1 if message is Value.DESCRIPTOR else 5
    made = b""
    for known in [fields[at] for at in draw(st.lists(st.integers(0, len(fields) - 1), max_size=most, unique=entry))]:
        if known is None:
            way = draw(st.sampled_from(sorted(WAYS)))
            tag = draw(st.sampled_from([*message.fields_by_number, 15, 100])) << 3 | way
            made += varint(tag) + (varint(draw(st.integers(0, 300))) if way == 0 else draw(WAYS[way]))
        elif known.message_type is not None:
            content = draw(on_the_wire(known.message_type, depth + 1))
            made += varint(known.number << 3 | 2) + varint(len(content)) + content
        elif known.type in (known.TYPE_STRING, known.TYPE_BYTES):
            content = draw(KEYS).encode()
            made += varint(known.number << 3 | 2) + varint(len(content)) + content
        elif known.type == known.TYPE_DOUBLE:
            made += varint(known.number << 3 | 1) + bytes(8)
        else:
            made += varint(known.number << 3) + varint(draw(st.integers(0, 300)))
    return made


@st.composite
def hints(draw: st.DrawFn) -> bytes:
    """Metadata under the names that are read."""
    namespace, name = draw(st.sampled_from([(LB, SERVED), (SUBSET_HINT, SUBSET)]))
    value = draw(on_the_wire(Value.DESCRIPTOR, 4))
    struct = entry(name, value) + draw(st.sampled_from([b"", entry(name, b""), entry("", value)]))
    return nested((8,), entry(namespace, struct))


def entry(key: str, value: bytes) -> bytes:
    return field(1, field(1, key.encode()) + field(2, value))


@given(st.lists(on_the_wire(ProcessingRequest.DESCRIPTOR) | hints(), max_size=3))
def test_any_message_is_read_as_protobuf_reads_it(parts: list[bytes]) -> None:
    data = b"".join(parts)
    expected, found = ProcessingRequest.FromString(data), EnvoyMessage(data)
    kind = expected.WhichOneof("request")
    assert found.about == (ProcessingRequest.DESCRIPTOR.fields_by_name[kind].number if kind else 0)
    assert found.observed == expected.observability_mode
    config = expected.protocol_config
    modes = (config.request_body_mode, config.response_body_mode) if expected.HasField("protocol_config") else None
    assert found.modes == modes
    inner = getattr(expected, kind) if kind else None
    if isinstance(inner, HttpHeaders):
        pairs = [(each.key.encode(), each.raw_value or each.value.encode()) for each in inner.headers.headers]
        assert found.headers() == (pairs, inner.end_of_stream)
    elif isinstance(inner, HttpBody):
        assert found.body() == (inner.body, inner.end_of_stream)
    by_name = {name: struct.fields for name, struct in expected.metadata_context.filter_metadata.items()}
    assert served_by(found) == (by_name[LB][SERVED].string_value if SERVED in by_name.get(LB, ()) else "")
    subset = by_name[SUBSET_HINT][SUBSET] if SUBSET in by_name.get(SUBSET_HINT, ()) else None
    assert (subset_of(found) is None) == (subset is None)
    if subset is not None:
        texts = [each.string_value for each in subset.list_value.values] or subset.string_value.split(",")
        assert subset_of(found) == frozenset(text for text in texts if text)


def test_a_message_in_parts_is_one_and_a_field_in_another_way_is_none() -> None:
    accept = field(1, field(1, field(1, b"a") + field(3, b"1")))
    end, number = b"\x18\x01", b"\x10\x01"
    in_parts = field(5, field(1, b"another")) + field(2, accept) + number + field(2, end) + field(2, accept)
    for data in (in_parts, field(2, accept + field(3, b"") + accept + b"\x08\x01" + end)):
        expected, found = ProcessingRequest.FromString(data).request_headers, EnvoyMessage(data)
        assert (len(expected.headers.headers), expected.end_of_stream) == (2, True)
        assert (found.about, found.headers()) == (REQUEST_HEADERS, ([(b"a", b"1")] * 2, True))


def test_long_metadata_are_not_remembered() -> None:
    message = response_headers({":status": "200"}, served="a:1")
    message.metadata_context.filter_metadata["other"].update({"x": "x" * MAX_KEPT_BYTES})
    before = messages._kept.cache_info().currsize
    assert served_by(read(message)) == "a:1"
    assert messages._kept.cache_info().currsize == before


@given(st.binary(max_size=300), st.booleans())
def test_a_body_is_written_as_protobuf_writes_it(body: bytes, end: bool) -> None:
    reply = ProcessingResponse()
    streamed_response = reply.request_body.response.body_mutation.streamed_response
    streamed_response.body, streamed_response.end_of_stream = body, end
    assert [ProcessingResponse.FromString(each) for each in streamed(REQUEST_BODY, body, end=end)] == [reply]
