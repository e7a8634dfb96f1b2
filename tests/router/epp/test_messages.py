"""Envoy's messages and HTTP/1.1, one to the other."""

from __future__ import annotations

import pytest

from router.epp.ext_proc_pb2 import HeaderMap, HeaderMutation, HeaderValue, ProcessingRequest, ProcessingResponse
from router.epp.messages import (
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
    subset_of,
)
from tests.fakes.ext_proc import CHAT, header_map, request_headers, response_headers, set_by

POD_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 10.0.0.1:8000\r\ncontent-type: application/json\r\n"


def mutation_to(request: ProxyRequest, head: bytes, length: int, destination: str) -> HeaderMutation:
    mutation = HeaderMutation()
    change_to(mutation, request, head, length, destination)
    return mutation


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
    request = read_request(header_map(given), 7, end=False)
    assert request.head == (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: llm\r\ntransfer-encoding: chunked\r\n"
        b"content-type: application/json\r\nx-mine: 1\r\nx-endpoint-picker-stream: 7\r\n\r\n"
    )
    assert b"content-length: 0\r\n" in read_request(header_map(CHAT), 7, end=True).head


def test_headers_of_an_envoy_that_sends_text_are_read_too() -> None:
    headers = HeaderMap(headers=[HeaderValue(key=name, value=value) for name, value in CHAT.items()])
    assert read_request(headers, 1, end=False) == read_request(header_map(CHAT), 1, end=False)


@pytest.mark.parametrize("headers", [{"x": "a\r\nb: c"}, {":path": ""}, {":method": ""}, {":authority": "a\r\nb: c"}])
def test_headers_that_are_no_request_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadMessage):
        read_request(header_map(CHAT | headers), 1, end=False)


def test_only_what_the_gateway_changed_is_changed() -> None:
    given = CHAT | {"authorization": "Bearer client", "x-turnout-policy": "p", "x-forwarded-for": "1.1.1.1", "te": "x"}
    request = read_request(header_map(given), 1, end=False)
    head = POD_HEAD + b"authorization: Bearer pool\r\nx-request-id: 1"
    mutation = mutation_to(request, head, 3, "10.0.0.1:8000")
    assert set_by(mutation) == {
        "x-gateway-destination-endpoint": "10.0.0.1:8000",
        "content-length": "3",
        "authorization": "Bearer pool",
        "x-request-id": "1",
    }
    assert list(mutation.remove_headers) == ["x-turnout-policy"]


def test_a_path_that_the_gateway_changed_is_changed() -> None:
    request = read_request(header_map(CHAT), 1, end=False)
    mutation = mutation_to(request, POD_HEAD.replace(b"/v1/", b"/base/v1/"), 0, "a:1")
    assert set_by(mutation)[":path"] == "/base/v1/chat/completions"
    assert "content-length" not in set_by(mutation)


def test_a_key_that_no_pod_may_see_is_removed() -> None:
    request = read_request(header_map(CHAT | {"authorization": "Bearer client"}), 1, end=False)
    assert list(mutation_to(request, POD_HEAD, 3, "a:1").remove_headers) == ["authorization"]


def test_an_answer_without_a_length_is_put_into_chunks() -> None:
    head, chunked = response_head(header_map({":status": "200", "x": "1"}), end=False, sized=True)
    assert (head, chunked) == (b"HTTP/1.1 200 -\r\nx: 1\r\ntransfer-encoding: chunked\r\n\r\n", True)
    sized, chunked = response_head(header_map({":status": "200", "content-length": "4"}), end=False, sized=True)
    assert (sized, chunked) == (b"HTTP/1.1 200 -\r\ncontent-length: 4\r\n\r\n", False)
    bare, _ = response_head(header_map({":status": "204"}), end=True, sized=True)
    assert bare == b"HTTP/1.1 204 -\r\ncontent-length: 0\r\n\r\n"
    unseen, chunked = response_head(header_map({":status": "200", "content-length": "4"}), end=False, sized=False)
    assert (unseen, chunked) == (b"HTTP/1.1 200 -\r\n\r\n", False)


def test_a_subset_may_be_a_list_or_text() -> None:
    assert subset_of(request_headers(CHAT)) is None
    assert subset_of(request_headers(CHAT, subset=["a:1", " b:2"])) == frozenset(("a:1", "b:2"))
    assert subset_of(request_headers(CHAT, subset=[])) == frozenset()
    text = ProcessingRequest()
    text.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(
        {"x-gateway-destination-endpoint-subset": "a:1,b:2"}
    )
    assert subset_of(text) == frozenset(("a:1", "b:2"))


def test_who_served_is_read_where_envoy_says_so() -> None:
    assert served_by(response_headers({":status": "200"})) == ""
    assert served_by(response_headers({":status": "200"}, served="a:1")) == "a:1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.0.0.1:80", "10.0.0.1:80"), ("https://10.0.0.1:443/base", "10.0.0.1:443"), ("[::1]:80", "[::1]:80")],
)
def test_an_endpoint_is_address_and_port(address: str, expected: str) -> None:
    assert endpoint(address) == expected


def test_a_body_without_bytes_is_one_piece() -> None:
    (piece,) = streamed(b"", end=True)
    assert piece.body_mutation.streamed_response.end_of_stream
    assert (chunk(b""), chunk(b"ab")) == (b"", b"2\r\nab\r\n")


def test_an_answer_of_the_gateways_loses_its_framing() -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\nconnection: close\r\nretry-after: 3\r\n\r\n{}"
    sent = immediate(answer).immediate_response
    assert (sent.status.code, sent.body, set_by(sent.headers)) == (429, b"{}", {"retry-after": "3"})


def test_lines_become_a_mutation() -> None:
    mutation = HeaderMutation()
    set_lines(mutation, b"a: 1\r\nb: x: y\r\nconnection: close\r\n")
    assert set_by(mutation) == {"a": "1", "b": "x: y"}
