"""The tree of spans of a request: names, kinds, parents, times and attributes."""

from __future__ import annotations

from itertools import count
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from router.telemetry.request_trace import AttemptTrace, RequestOutcome, RequestTrace
from router.telemetry.spans import SpanMaker

WALL_NS = 1_700_000_000_000_000_000
OUTCOME = RequestOutcome(
    "POST", "/v1/chat/completions", True, "alias", "main", "search", 200, "", True, 10.0, 14.0, False, 12.0, 13.0, {}
)
"""Arrived at 10 s, first byte at 12 s, last at 13 s, over at 14 s."""


def maker() -> SpanMaker:
    ids = count(100)
    about = {"service.name": "turnout", "service.instance.id": "r1", "service.version": "1"}
    return SpanMaker(about, lambda: next(ids), lambda: 20.0, lambda: WALL_NS)


def trace(*attempts: AttemptTrace, parent: int = 0) -> RequestTrace:
    made = RequestTrace(0xABC, parent, 1)
    made.span_id = 1
    made.attempts = list(attempts)
    return made


def attempt(span_id: int, status: int = 200, error: str = "", address: str = "10.0.0.1:8000") -> AttemptTrace:
    made = AttemptTrace(span_id, 11.0, "a", address, "main", "true-name")
    made.status, made.expected_s, made.decided_at = status, 0.5, 10.5
    made.policy, made.candidates, made.hit_tokens = "p2c", 3, 64
    made.end(13.0, error)
    return made


def spans(of: RequestTrace, outcome: RequestOutcome = OUTCOME) -> dict[str, ReadableSpan]:
    made = list(maker().spans(of, outcome))
    named = {span.name: span for span in made}
    assert len(named) == len(made)
    return named


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def seconds(span: ReadableSpan) -> tuple[float, float]:
    """Start and end, on the clock of the request."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - WALL_NS) / 1e9 + 20.0, (span.end_time - WALL_NS) / 1e9 + 20.0


def test_all_are_below_the_request_which_is_below_the_client() -> None:
    made = spans(trace(attempt(2), parent=9), OUTCOME._replace(waited=True))
    assert list(made) == ["POST /v1/chat/completions", "queue", "decision", "chat true-name", "relay"]
    root, *below = made.values()
    assert root.kind is SpanKind.SERVER
    assert root.parent is not None
    assert (root.parent.span_id, root.parent.is_remote) == (9, True)
    assert {span.parent.span_id for span in below if span.parent} == {1}
    assert {span.context.trace_id for span in made.values() if span.context} == {0xABC}
    assert len({span.context.span_id for span in made.values() if span.context}) == 5
    assert attributes(root)["turnout.tenant"] == "search"


def test_a_trace_that_begins_here_has_a_root_without_a_parent_and_no_span_for_what_was_not() -> None:
    made = spans(trace(), OUTCOME._replace(first_at=0.0, status=503, error="overloaded"))
    assert list(made) == ["POST /v1/chat/completions"]
    (root,) = made.values()
    assert root.parent is None
    assert (root.status.status_code, attributes(root)["error.type"]) == (StatusCode.ERROR, "overloaded")


def test_the_times_are_those_of_the_request() -> None:
    made = spans(trace(attempt(2)), OUTCOME._replace(waited=True))
    assert {name: seconds(span) for name, span in made.items()} == {
        "POST /v1/chat/completions": (10.0, 14.0),
        "queue": (10.0, 10.5),
        "decision": (10.5, 11.0),
        "chat true-name": (11.0, 13.0),
        "relay": (12.0, 13.0),
    }
    first, last = made["relay"].events
    assert (first.name, first.timestamp) == ("first byte", made["relay"].start_time)
    assert (last.name, last.timestamp) == ("last byte", made["relay"].end_time)


def test_an_attempt_has_the_attributes_of_the_conventions() -> None:
    tokens = {"prompt_tokens": 9, "completion_tokens": 3, "cached_tokens": 4}
    made = spans(trace(attempt(2)), OUTCOME._replace(tokens=tokens))["chat true-name"]
    assert made.kind is SpanKind.CLIENT
    assert attributes(made) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "true-name",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "true-name",
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "http.response.status_code": 200,
        "server.address": "10.0.0.1",
        "server.port": 8000,
        "turnout.pod": "a",
        "turnout.pool": "main",
    }


def test_attempts_that_failed_say_why_and_only_the_last_one_has_the_answer() -> None:
    tried = trace(attempt(2, 0, "connect_failed"), attempt(3, 503), attempt(4, address="unix:/run/a.sock"))
    _, _, refused, _, busy, _, answered, _ = maker().spans(tried, OUTCOME._replace(tokens={"prompt_tokens": 9}))
    assert attributes(refused)["error.type"] == "connect_failed"
    assert attributes(busy)["error.type"] == "503"
    assert [span.status.status_code for span in (refused, busy)] == [StatusCode.ERROR] * 2
    assert answered.status.status_code is StatusCode.UNSET
    assert [attributes(span).get("http.request.resend_count") for span in (refused, busy, answered)] == [None, 1, 2]
    assert [attributes(span).get("gen_ai.usage.input_tokens") for span in (refused, busy, answered)] == [None, None, 9]
    assert attributes(answered)["server.address"] == "/run/a.sock"


def test_a_decision_says_what_was_expected() -> None:
    assert attributes(spans(trace(attempt(2)))["decision"]) == {
        "turnout.policy": "p2c",
        "turnout.pod": "a",
        "turnout.candidates": 3,
        "turnout.expected_hit_tokens": 64,
        "turnout.expected_ttft_s": 0.5,
    }


def test_an_unknown_path_is_no_part_of_a_name() -> None:
    other = OUTCOME._replace(path="/v1/responses/resp_1", known_path=False, method="GET")
    root, _, call, _ = maker().spans(trace(attempt(2)), other)
    assert (root.name, attributes(root)["url.path"]) == ("GET", "/v1/responses/resp_1")
    assert call.name == "GET true-name"
    assert "http.route" not in attributes(root)


def test_the_state_of_the_trace_is_kept_and_a_bad_one_ignored() -> None:
    for state, expected in ((b"vendor=1,other=2", {"vendor": "1", "other": "2"}), (b"===", {})):
        given = trace()
        given.state = state
        (root,) = maker().spans(given, OUTCOME._replace(first_at=0.0))
        assert root.context is not None
        assert dict(root.context.trace_state) == expected
