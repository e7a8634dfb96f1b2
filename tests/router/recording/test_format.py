"""A line has only lengths and hashes."""

from __future__ import annotations

import json

import pytest

from router.recording.format import RecordedRequest, line
from schedulers.types import PREFIX_BLOCK_TOKENS
from statesync.prefix.index import BLOCKS_PER_SIZE

STREAM = b'data: {"choices":[],"usage":{"prompt_tokens":90,"completion_tokens":7,%s}}\n\ndata: [DONE]\n\n'


def finished(**given: object) -> RecordedRequest:
    known = RecordedRequest(1_700_000_000.5, 100, (), "", 0.25, 1.5, "10.0.0.1:8000", 12, 900, b"")
    return known._replace(**given)  # type: ignore[arg-type]


def test_usage_in_the_answer_replaces_estimates() -> None:
    written = json.loads(line(finished(tail=STREAM % b'"prompt_tokens_details":{"cached_tokens":64}')))
    assert written == {
        "timestamp": 1_700_000_000_500,
        "input_length": 90,
        "output_length": 7,
        "e2e_ms": 1500.0,
        "pod": "10.0.0.1:8000",
        "ttft_ms": 250.0,
        "cached_tokens": 64,
    }


@pytest.mark.parametrize(("events", "output"), [(12, 10), (0, 225), (1, 1)])
def test_without_usage_the_answer_is_estimated_and_marked_as_such(events: int, output: int) -> None:
    written = json.loads(line(finished(events=events)))
    assert (written["output_length"], written["estimated"]) == (output, True)
    assert "cached_tokens" not in written


def test_text_that_looks_like_usage_is_not_usage() -> None:
    text = json.dumps({"content": 'it printed "completion_tokens": 5000'}).encode()
    written = json.loads(line(finished(tail=text, events=3)))
    assert written["output_length"] == 1


def test_anthropics_field_names_are_read() -> None:
    tail = b'data: {"type":"message_delta","usage":{"input_tokens":11,"output_tokens":42,"cache_read_input_tokens":8}}'
    written = json.loads(line(finished(tail=tail)))
    assert (written["input_length"], written["output_length"], written["cached_tokens"]) == (11, 42, 8)


def test_hashes_have_their_block_size_and_sessions_are_hashed() -> None:
    written = json.loads(line(finished(chain=[2**64 - 1, 5], session_key="alice@example.com")))
    assert written["hash_ids"] == [2**64 - 1, 5]
    assert (written["block_tokens"], written["blocks_per_size"]) == (PREFIX_BLOCK_TOKENS, BLOCKS_PER_SIZE)
    assert len(written["session"]) == 16
    assert "alice" not in written["session"]
