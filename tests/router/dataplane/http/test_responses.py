"""Answers that the gateway writes itself: whole answers, errors in two shapes, the event that ends a stream."""

from __future__ import annotations

import json

import pytest

from router.dataplane.http.responses import chunk, error_answer, error_body, error_event, status_line, whole
from router.dataplane.local_routes import ReadOnly
from router.errors import BadRequest, GatewayError, MethodNotAllowed, MissingModel, NoPodAvailable
from tests.fakes.memory_transport import Answer, read_answers


def parsed(raw: bytes, method: str = "POST") -> Answer:
    (answer,) = read_answers(raw, ended=False, method=method)
    return answer


def test_a_whole_answer_is_read_back() -> None:
    answer = parsed(whole(200, b"hello", content_type=b"text/plain", headers=((b"x-a", b"1"),), close=True))
    assert (answer.status, answer.body, answer.complete) == (200, b"hello", True)
    assert answer.headers == {"content-type": "text/plain", "content-length": "5", "x-a": "1", "connection": "close"}


def test_the_answer_to_head_keeps_its_length_and_leaves_its_body_out() -> None:
    raw = whole(200, b"hello", head_only=True)
    assert raw.endswith(b"\r\n\r\n")
    assert parsed(raw, "HEAD").headers["content-length"] == "5"


@pytest.mark.parametrize(
    ("status", "line"), [(200, b"200 OK"), (503, b"503 Service Unavailable"), (599, b"599 Unknown")]
)
def test_a_status_has_its_phrase(status: int, line: bytes) -> None:
    assert status_line(status) == b"HTTP/1.1 " + line + b"\r\n"


def test_an_error_has_openais_shape() -> None:
    said = json.loads(error_body(MissingModel('no "model" \u00e9', param="model")))
    expected = {
        "message": 'no "model" \u00e9',
        "type": "invalid_request_error",
        "param": "model",
        "code": "missing_model",
    }
    assert said == {"error": expected}


def test_an_error_for_anthropics_clients_is_marked_at_the_top() -> None:
    said = json.loads(error_body(BadRequest("x"), anthropic=True))
    assert (said["type"], said["error"]["message"]) == ("error", "x")


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (2.5, "3")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    answer = parsed(error_answer(NoPodAvailable("x", retry_after_s=seconds), (), close=False))
    assert (answer.status, answer.headers["retry-after"]) == (503, header)


@pytest.mark.parametrize(("error", "allow"), [(MethodNotAllowed("x"), "POST"), (ReadOnly("x"), "GET, HEAD")])
def test_a_wrong_method_is_answered_with_an_allow_header(error: GatewayError, allow: str) -> None:
    answer = parsed(error_answer(error, (), close=False))
    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("text", ["plain", "line\nbreak\r\n\r\ndata: forged", "\u2028\u00e9\x00"])
def test_an_error_event_is_one_event_whatever_its_text(text: str) -> None:
    raw = error_event(BadRequest(text))
    assert raw.count(b"\n") == 2 and raw.endswith(b"\n\n")
    assert json.loads(raw.removeprefix(b"data: "))["error"]["message"] == text
    named = error_event(BadRequest(text), anthropic=True)
    assert named.startswith(b"event: error\ndata: {")


def test_a_chunk_begins_with_its_length() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
