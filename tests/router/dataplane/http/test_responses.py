"""Answers that the gateway writes itself: whole answers, errors in two shapes, the event that ends a stream."""

from __future__ import annotations

import json

import pytest

from router.dataplane.http.responses import (
    ANTHROPIC_TYPES,
    CLOSE,
    Dialect,
    dialect_of,
    error_answer,
    error_body,
    error_event,
    status_line,
    whole,
)
from router.dataplane.local_routes import ReadOnly
from router.errors import (
    BadRequest,
    BodyTooLarge,
    CutMidAnswer,
    FirstByteTimeout,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    MissingModel,
    ModelNotFound,
    NoPodAvailable,
    Shed,
    TargetNotAllowed,
)
from tests.fakes.each_case import each_case
from tests.fakes.memory_transport import Answer, read_answers


def parsed(raw: bytes, method: str = "POST") -> Answer:
    (answer,) = read_answers(raw, ended=False, method=method)
    return answer


def test_a_whole_answer_is_read_back() -> None:
    answer = parsed(whole(200, b"hello", content_type=b"text/plain", headers=((b"x-a", b"1"),), connection=CLOSE))
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


@each_case(
    ("error", "kind"),
    [
        (BadRequest("x"), "invalid_request_error"),
        (TargetNotAllowed("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (MethodNotAllowed("x"), "invalid_request_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (NoPodAvailable("x"), "overloaded_error"),
        (Shed("x"), "overloaded_error"),
        (InternalError("x"), "api_error"),
        (CutMidAnswer("x"), "api_error"),
        (FirstByteTimeout("x"), "timeout_error"),
    ],
)
def test_an_error_for_anthropics_clients_has_their_shape_and_types(error: GatewayError, kind: str) -> None:
    """Case G 35."""
    said = json.loads(error_body(error, Dialect.ANTHROPIC))
    assert said == {"type": "error", "error": {"type": kind, "message": "x", "code": error.shape.code}}


def test_too_many_requests_is_a_rate_limit_for_anthropics_clients() -> None:
    assert ANTHROPIC_TYPES[429] == "rate_limit_error"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (b"/v1/messages", Dialect.ANTHROPIC),
        (b"/v1/messages/count_tokens", Dialect.ANTHROPIC),
        (b"/v1/responses", Dialect.RESPONSES),
        (b"/v1/chat/completions", Dialect.OPENAI),
        (b"/tokenize", Dialect.OPENAI),
    ],
)
def test_a_path_belongs_to_an_api(path: bytes, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


@pytest.mark.parametrize(
    ("before", "number"),
    [(b"", 0), (b'data: {"sequence_number":4}\n\ndata: {"sequence_number": 5}\n\n', 6), (b'"sequence_number":"x"', 0)],
)
def test_an_error_event_of_responses_goes_on_with_the_numbers(before: bytes, number: int) -> None:
    """Case G 35."""
    raw = error_event(CutMidAnswer("x"), Dialect.RESPONSES, before)
    assert raw.startswith(b"event: error\ndata: {") and raw.endswith(b"}\n\n")
    said = json.loads(raw.partition(b"data: ")[2])
    code = "pod_closed_connection"
    assert said == {"type": "error", "code": code, "message": "x", "param": None, "sequence_number": number}


def test_the_code_of_an_error_is_its_reason_in_the_head_whatever_the_shape_of_its_body() -> None:
    for dialect in Dialect:
        answer = parsed(error_answer(Shed("x"), ((b"x-request-id", b"r"),), connection=b"", dialect=dialect))
        assert (answer.headers["x-request-id"], answer.headers["x-turnout-reason"]) == ("r", "overloaded")


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (2.5, "3")])
def test_retry_after_is_in_whole_seconds(seconds: float, header: str) -> None:
    answer = parsed(error_answer(NoPodAvailable("x", retry_after_s=seconds), (), connection=b""))
    assert (answer.status, answer.headers["retry-after"]) == (503, header)


@pytest.mark.parametrize(("error", "allow"), [(MethodNotAllowed("x"), "POST"), (ReadOnly("x"), "GET, HEAD")])
def test_a_wrong_method_is_answered_with_an_allow_header(error: GatewayError, allow: str) -> None:
    answer = parsed(error_answer(error, (), connection=b""))
    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("text", ["plain", "line\nbreak\r\n\r\ndata: forged", "\u2028\u00e9\x00"])
def test_an_error_event_is_one_event_whatever_its_text(text: str) -> None:
    raw = error_event(BadRequest(text))
    assert raw.count(b"\n") == 2 and raw.endswith(b"\n\n")
    assert json.loads(raw.removeprefix(b"data: "))["error"]["message"] == text
    named = error_event(BadRequest(text), Dialect.ANTHROPIC)
    assert named.startswith(b"event: error\ndata: {")
