"""Which answers show what was cached, and what cannot be taken for it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request.usage import TAIL_BYTES, CacheUse, cache_use

VLLM_CHAT = (
    b'{"id":"chatcmpl-1","choices":[{"index":0,"message":{"role":"assistant","content":"MAN"}}],"usage":{"prompt_tokens"'
    b':729,"total_tokens":731,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":640,"created_cache_tokens":'
    b'0,"multimodal_tokens":null},"completion_tokens_details":null},"prompt_logprobs":null,"metrics":null}'
)
VLLM_EVENT = (
    b'e9\r\ndata: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":729,"total_tokens":731,"completion_tokens":2'
    b',"prompt_tokens_details":{"cached_tokens":640}}}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n'
)
VLLM_RESPONSES = (
    b'{"usage":{"input_tokens":729,"input_tokens_details":{"cached_tokens":640,"cache_write_tokens":0,"cached_tokens_per'
    b'_turn":[]},"output_tokens":2,"total_tokens":731},"user":null}'
)
VLLM_MESSAGES = (
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":89,"output_tokens":2,"cache_creation'
    b'_input_tokens":0,"cache_read_input_tokens":640}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)


@pytest.mark.parametrize("tail", [VLLM_CHAT, VLLM_EVENT, VLLM_RESPONSES, VLLM_MESSAGES])
def test_each_shape_of_answer_tells_both_counts(tail: bytes) -> None:
    """As vLLM 0.32 wrote them, shortened."""
    assert cache_use(tail) == CacheUse(729, 640)


def test_blanks_after_colons_do_not_matter() -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}
    assert cache_use(json.dumps({"usage": usage}).encode()) == CacheUse(9, 0)


def test_of_many_events_with_usage_the_last_counts() -> None:
    assert cache_use(VLLM_EVENT.replace(b"640", b"12") + VLLM_EVENT) == CacheUse(729, 640)
    assert cache_use(VLLM_MESSAGES + VLLM_MESSAGES) == CacheUse(729, 640)


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"data: [DONE]\n\n",
        b'{"usage":null}',
        b'{"usage":{"prompt_tokens":729,"prompt_tokens_details":null}}',
        b'{"usage":{"prompt_tokens":729,"prompt_tokens_details":{"cached_tokens":null}}}',
        b'{"usage":{"prompt_tokens_details":{"cached_tokens":640}}}',
        b'{"usage":{"prompt_tokens":639,"prompt_tokens_details":{"cached_tokens":640}}}',
        b'{"usage":{"prompt_tokens":729,"prompt_tokens_details":{"cached_tokens":9999999999}}}',
        VLLM_CHAT + b" " * TAIL_BYTES,
    ],
)
def test_what_does_not_say_or_makes_no_sense_is_passed_over(tail: bytes) -> None:
    assert cache_use(tail) is None


def test_what_a_model_wrote_is_not_taken_for_counts() -> None:
    words = VLLM_CHAT.decode()
    assert cache_use(json.dumps({"choices": [{"message": {"content": words}}]}).encode()) is None
    assert cache_use(json.dumps({"usage": {"prompt_tokens": 4}, "text": words}).encode()) is None


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300))
def test_any_bytes_are_survived(noise: bytes, start: int, end: int) -> None:
    use = cache_use(VLLM_CHAT[start:end] + noise + VLLM_MESSAGES[end:])
    assert use is None or 0 <= use.cached_tokens <= use.prompt_tokens
