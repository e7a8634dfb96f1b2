"""The tree of spans of a request: names, kinds, parents, times and attributes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from router.telemetry import spans as spans_module
from router.telemetry.request_trace import AttemptTrace, RequestOutcome, RequestTrace
from router.telemetry.spans import SpanMaker, count_of
from router.telemetry.tracing import state_of

WALL_NS = 1_700_000_000_000_000_000
OUTCOME = RequestOutcome(
    "POST", "/v1/chat/completions", True, "alias", "main", "search", 200, "", True, 10.0, 14.0, False, 12.0, 13.0, {}
)
"""Arrived at 10 s, first byte at 12 s, last at 13 s, over at 14 s."""
OTHER_OUTCOMES: dict[str, Any] = {
    **{"method": "PUT", "path": "/v1/embeddings", "known_path": False, "model": "other", "pool": "other"},
    **{"tenant": "other", "status": 503, "error": "overloaded", "stream": False},
}
OTHER_ATTEMPTS: dict[str, Any] = {
    **{"span_id": 2, "status": 503, "error": "timeout", "address": "10.0.0.2:8000", "pod": "b", "pool": "other"},
    **{"model": "other", "policy": "other"},
}


def maker() -> SpanMaker:
    ids = count(100)
    return SpanMaker(state_of, lambda: next(ids), lambda: 20.0, lambda: WALL_NS)


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


class Noted:
    """An outcome as the loop notes it."""

    def __init__(self, outcome: RequestOutcome) -> None:
        self.waited = outcome.waited
        self.first_at = outcome.first_at
        self._outcome = outcome

    def read(self) -> RequestOutcome:
        return self._outcome


def read(of: RequestTrace, outcome: RequestOutcome = OUTCOME, by: SpanMaker | None = None) -> list[Span]:
    """The spans as a collector reads them."""
    made = (by or maker()).spans(of, outcome)
    assert len(made) == count_of(of, Noted(outcome))
    return list(ScopeSpans.FromString(b"".join(made)).spans)


def spans(of: RequestTrace, outcome: RequestOutcome = OUTCOME) -> dict[str, Span]:
    made = read(of, outcome)
    named = {span.name: span for span in made}
    assert len(named) == len(made)
    return named


def attributes(span: Span) -> dict[str, Any]:
    found = {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}
    assert len(found) == len(span.attributes)
    return found


def seconds(span: Span) -> tuple[float, float]:
    """Start and end, on the clock of the request."""
    return (span.start_time_unix_nano - WALL_NS) / 1e9 + 20.0, (span.end_time_unix_nano - WALL_NS) / 1e9 + 20.0


def number(of: bytes) -> int:
    return int.from_bytes(of, "big")


def test_all_are_below_the_request_which_is_below_the_client() -> None:
    made = spans(trace(attempt(2), parent=9), OUTCOME._replace(waited=True))
    assert list(made) == ["POST /v1/chat/completions", "queue", "decision", "chat true-name", "relay"]
    root, *below = made.values()
    assert root.kind == Span.SPAN_KIND_SERVER
    assert (number(root.parent_span_id), root.flags) == (9, 0x300), "the parent is in another process"
    assert {(number(span.parent_span_id), span.flags) for span in below} == {(1, 0x100)}
    assert {number(span.trace_id) for span in made.values()} == {0xABC}
    assert {len(span.trace_id) for span in made.values()} == {16}
    assert len({span.span_id for span in made.values()}) == 5
    assert attributes(root)["turnout.tenant"] == "search"


def test_a_trace_that_begins_here_has_a_root_without_a_parent_and_no_span_for_what_was_not() -> None:
    made = spans(trace(), OUTCOME._replace(first_at=0.0, status=503, error="overloaded"))
    assert list(made) == ["POST /v1/chat/completions"]
    (root,) = made.values()
    assert (root.parent_span_id, root.flags) == (b"", 0x100)
    assert (root.status.code, attributes(root)["error.type"]) == (Status.STATUS_CODE_ERROR, "overloaded")


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
    assert (first.name, first.time_unix_nano) == ("first byte", made["relay"].start_time_unix_nano)
    assert (last.name, last.time_unix_nano) == ("last byte", made["relay"].end_time_unix_nano)


def test_an_attempt_has_the_attributes_of_the_conventions() -> None:
    tokens = {"prompt_tokens": 9, "completion_tokens": 3, "cached_tokens": 4}
    made = spans(trace(attempt(2)), OUTCOME._replace(tokens=tokens))["chat true-name"]
    assert made.kind == Span.SPAN_KIND_CLIENT
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
    _, _, refused, _, busy, _, answered, _ = read(tried, OUTCOME._replace(tokens={"prompt_tokens": 9}))
    assert attributes(refused)["error.type"] == "connect_failed"
    assert attributes(busy)["error.type"] == "503"
    assert [span.status.code for span in (refused, busy)] == [Status.STATUS_CODE_ERROR] * 2
    assert answered.status.code == Status.STATUS_CODE_UNSET
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
    root, _, call, _ = read(trace(attempt(2)), other)
    assert (root.name, attributes(root)["url.path"]) == ("GET", "/v1/responses/resp_1")
    assert call.name == "GET true-name"
    assert "http.route" not in attributes(root)


def test_the_state_of_the_trace_is_kept_and_a_bad_one_ignored() -> None:
    for state, expected in ((b"vendor=1,other=2", "vendor=1,other=2"), (b"===", "")):
        given = trace()
        given.state = state
        (root,) = read(given, OUTCOME._replace(first_at=0.0))
        assert root.trace_state == expected


def parts(made: list[Span]) -> list[tuple[object, ...]]:
    return [(span.name, span.kind, attributes(span), span.status.code) for span in made]


def test_requests_that_differ_in_one_thing_share_no_more_than_the_rest() -> None:
    """Parts of spans are kept: each one is what a new maker makes of it."""
    one = maker()
    outcomes = [OUTCOME, OUTCOME._replace(path="/x"), OUTCOME._replace(path="/x", method="PUT")]
    outcomes += [OUTCOME._replace(**{name: value}) for name, value in OTHER_OUTCOMES.items()]
    for outcome in outcomes * 2:
        for name, value in OTHER_ATTEMPTS.items():
            tried = attempt(2)
            setattr(tried, name, value)
            for of in (trace(tried), trace(tried, attempt(3)), trace(attempt(3), tried)):
                assert parts(read(of, outcome, one)) == parts(read(of, outcome)), (outcome, name)


def test_no_child_ends_before_it_begins() -> None:
    """Not even one whose last moment was not noted."""
    relay = spans(trace(attempt(2)), OUTCOME._replace(last_at=0.0))["relay"]
    assert seconds(relay) == (12.0, 12.0)


def test_the_parts_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "MOST_KNOWN", 8)
    one = maker()
    for each in range(20):
        other = OUTCOME._replace(path=f"/{each}", known_path=False)
        assert attributes(read(trace(attempt(2)), other, one)[0])["url.path"] == f"/{each}"
    assert len(one._known) <= 8
