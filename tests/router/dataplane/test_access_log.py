"""A line of the access log says who asked for what, what came of it, and why nothing did (case H 40)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from router.settings import Limits, Logging
from tests.fakes.known_keys import KEY, access
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, event, ok, post
from tests.fakes.memory_gateway import Rig

STREAM = b'{"model":"m","stream":true,"messages":[]}'
USAGE = '{"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":34,"total_tokens":46}}'


@contextmanager
def logged(caplog: pytest.LogCaptureFixture, **options: Any) -> Iterator[tuple[Rig, list[dict[str, Any]]]]:
    """A gateway with an access log, and the fields of its lines once the block is over."""
    lines: list[dict[str, Any]] = []
    with Rig(logging_section=Logging(access=True), **options) as rig, caplog.at_level(logging.INFO, "turnout.access"):
        yield rig, lines
        records = [record for record in caplog.records if record.name == "turnout.access"]
        lines += [{**vars(record), "said": record.getMessage()} for record in records]


def only(lines: list[dict[str, Any]], *fields: str) -> tuple[object, ...]:
    """These fields of the only line; None for one that it does not have."""
    (line,) = lines
    return tuple(line.get(field) for field in fields)


def test_a_stream_has_client_model_tokens_and_time_to_first_token(caplog: pytest.LogCaptureFixture) -> None:
    """Case H 40."""
    with logged(caplog) as (rig, lines):
        rig.asks(STREAM, "x-request-id: id-1")
        pod = rig.asked()
        rig.passes(0.25)
        pod.sends(SSE_HEAD + event("one"))
        rig.passes(0.5)
        pod.sends(event(USAGE) + event("[DONE]") + LAST_CHUNK)
    assert only(lines, "said", "request_id", "client") == ("POST /v1/chat/completions", "id-1", "127.0.0.1")
    assert only(lines, "model", "pool", "pod", "policy", "status") == ("m", "main", pod.address, "round_robin", 200)
    assert only(lines, "stream", "attempts", "ttft_s", "duration_s") == (True, 1, 0.25, 0.75)
    assert only(lines, "prompt_tokens", "completion_tokens", "reason") == (12, 34, None)


def test_with_auth_a_line_names_the_tenant_and_the_key_and_does_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog) as (rig, lines):
        rig.rebuild(rig.gateway.deps._replace(access=access()))
        rig.asks(CHAT, f"x-api-key: {KEY}")
        rig.asked().sends(ok())
        rig.asks(CHAT, "x-api-key: tok-unknown")
    known, unknown = lines
    assert (known["tenant"], known["key"], known["status"]) == ("search", "of-search", 200)
    assert (unknown.get("tenant"), unknown["reason"], unknown["status"]) == (None, "invalid_api_key", 401)
    assert KEY not in str(lines)
    assert "tok-unknown" not in str(lines)


def test_a_whole_answer_has_tokens_and_no_time_to_first_token(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog) as (rig, lines):
        rig.asks(CHAT)
        rig.asked().sends(ok(USAGE.encode()))
    assert only(lines, "stream", "prompt_tokens", "completion_tokens", "ttft_s") == (False, 12, 34, None)


@pytest.mark.parametrize(
    ("options", "body", "headers", "expected"),
    [
        ({"pods": 0}, CHAT, (), ("m", "main", 503, "no_pod_available")),
        ({}, b'{"model":"nosuch","messages":[]}', (), ("nosuch", "-", 404, "model_not_found")),
        ({}, b'{"model":', (), ("-", "-", 400, "invalid_request")),
        ({}, CHAT, ("x-turnout-pool: other",), ("m", "other", 404, "pool_not_found")),
        ({"limits": Limits(max_inflight=1)}, CHAT, (), ("m", "main", 503, "overloaded")),
    ],
)
def test_a_refusal_has_its_pool_and_reason(
    options: dict[str, Any],
    body: bytes,
    headers: tuple[str, ...],
    expected: tuple[object, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Case H 40."""
    with logged(caplog, **options) as (rig, lines):
        if "limits" in options:
            rig.asks(CHAT)
        rig.asks(body, *headers)
        caplog_lines = [each for each in caplog.records if each.name == "turnout.access"]
        assert len(caplog_lines) == 1, "a request under way has no line yet"
        if "limits" in options:
            rig.asked().sends(ok())
    line = lines[0]
    assert (line["model"], line["pool"], line["status"], line["reason"]) == expected
    assert (line["client"], line["pod"]) == ("127.0.0.1", "-")


def test_a_pods_failure_has_the_pod_and_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog, pods=1) as (rig, lines):
        rig.asks(CHAT)
        pod = rig.asked()
        pod.dies()
    assert only(lines, "pool", "pod", "status", "reason") == ("main", pod.address, 502, "pod_closed_connection")
    assert only(lines, "cause", "attempts") == ("reset", 1)


def test_a_client_that_left_is_named_though_its_connection_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog) as (rig, lines):
        rig.asks(CHAT)
        rig.asked()
        rig.clients[0].leaves()
    assert only(lines, "client", "model", "status", "reason") == ("127.0.0.1", "m", 499, None)


def test_bytes_that_never_became_a_request_have_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Case H 40: who sends what cannot be read is found in the log."""
    with logged(caplog) as (rig, lines):
        client = rig.client().sends(b"\x16\x03\x01")
        assert client.answer().status == 400
    assert only(lines, "client", "status", "reason") == ("127.0.0.1", 400, "bad_framing")
    assert lines[0]["request_id"] == client.answer().headers["x-request-id"]
    assert lines[0]["said"].startswith("not read: ")


@pytest.mark.parametrize(("trusted", "client"), [(["127.0.0.0/8"], "203.0.113.7"), ([], "127.0.0.1")])
def test_behind_a_trusted_proxy_the_client_is_the_one_that_it_names(
    trusted: list[str], client: str, caplog: pytest.LogCaptureFixture
) -> None:
    with logged(caplog, trusted_proxies=trusted) as (rig, lines):
        rig.asks(CHAT, "x-forwarded-for: 203.0.113.7")
        rig.asked().sends(ok())
    assert only(lines, "client") == (client,)


def test_a_long_name_of_a_model_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with logged(caplog) as (rig, lines):
        rig.client().sends(post(b'{"model":"%b","messages":[]}' % (b"x" * 100_000)))
    assert only(lines, "model") == ("x" * 256,)


def test_without_an_access_log_no_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    with Rig() as rig, caplog.at_level(logging.INFO, "turnout.access"):
        rig.asks(CHAT)
        rig.asked().sends(ok())
        assert rig.clients[0].transport.get_extra_info("peername")
        (edge,) = rig.listener.edges
        assert edge.peer == ""
    assert [record for record in caplog.records if record.name == "turnout.access"] == []
