"""What the gateway learns of the engines' prefix caches from answers, through the whole data plane."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.prefix_feedback import TAIL_BYTES, CacheUse, cache_use
from schedulers.types import BYTES_PER_TOKEN
from statesync.prefix.accuracy import PodAccuracy
from statesync.prefix.index import BLOCK_BYTES, REACH
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import SSE_HEAD, chunk, ok
from tests.fakes.memory_gateway import Rig

WORDS = "word " * 2000
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": WORDS}]}).encode()
PROMPT = json.dumps([{"role": "user", "content": WORDS}]).encode()


class LearningRig(Rig):
    """A gateway that learns from the answers of one pod."""

    def __init__(self) -> None:
        super().__init__(pods=1)
        self.pod = self.view.statuses()[0].pod.id

    def __enter__(self) -> LearningRig:
        super().__enter__()
        return self

    @property
    def learned(self) -> PodAccuracy:
        return self.prefix_accuracy.pods[self.pod]


def usage(cached: int) -> bytes:
    counts = {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": cached}}
    return json.dumps({"usage": counts, "choices": []}).encode()


def test_an_answer_is_compared_with_the_prediction_in_the_engines_own_tokens() -> None:
    with LearningRig() as rig:
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=0)))
        assert (rig.learned.predicted, rig.learned.true) == (0, 0)
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=960)))
        known = REACH[len(rig.prefix.chain("m", [PROMPT]))] * BLOCK_BYTES
        assert rig.learned.predicted == 1000 * known // len(PROMPT), "all of the prompt but what fills no last block"
        assert rig.learned.true == 960
        assert rig.learned.trust == 1.0


def test_an_evicted_prefix_lowers_trust_in_the_pod_and_the_computed_prompt_is_predicted_again() -> None:
    with LearningRig() as rig:
        for cached in (0, 0):
            rig.asks(BODY)
            rig.asked().sends(ok(usage(cached)))
        assert rig.learned.trust < 1.0
        chain = rig.prefix.chain("m", [PROMPT])
        assert rig.pod in rig.prefix.match(chain)


def test_the_usage_of_a_stream_is_read_from_its_last_event_but_one() -> None:
    with LearningRig() as rig:
        event = b"data: " + usage(cached=64) + b"\n\n"
        rig.asks(BODY)
        rig.asked().sends(SSE_HEAD, chunk(b'data: {"a":1}\n\n'), chunk(event), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
        assert (rig.learned.true, rig.learned.asked) == (64, 0)


def test_an_answer_without_cached_tokens_is_left_to_the_engines_counters() -> None:
    with LearningRig() as rig:
        for _ in range(2):
            rig.asks(BODY)
            rig.asked().sends(ok(b'{"usage":{"prompt_tokens":9}}'))
        assert rig.learned.predicted == 0
        assert 0 < rig.learned.expected < rig.learned.asked
        known = REACH[len(rig.prefix.chain("m", [PROMPT]))] * BLOCK_BYTES
        assert rig.learned.expected == known // BYTES_PER_TOKEN, (
            "what the index knows, without what is likely beyond it"
        )


def test_errors_and_prompts_shorter_than_a_block_are_not_learned_from() -> None:
    with LearningRig() as rig:
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=64)).replace(b"200 OK", b"400 Bad Request"))
        rig.asks(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
        rig.asked().sends(ok(usage(cached=64)))
        assert rig.learned.true == rig.learned.predicted == 0


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
def test_both_counts_are_read_from_each_shape_of_answer(tail: bytes) -> None:
    """As vLLM 0.32 wrote them, shortened."""
    assert cache_use(tail) == CacheUse(729, 640)


def test_blanks_after_colons_do_not_matter() -> None:
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}
    assert cache_use(json.dumps({"usage": usage}).encode()) == CacheUse(9, 0)


def test_of_many_events_with_usage_the_last_counts() -> None:
    assert cache_use(VLLM_EVENT.replace(b"640", b"12") + VLLM_EVENT) == CacheUse(729, 640)
    assert cache_use(VLLM_MESSAGES + VLLM_MESSAGES) == CacheUse(729, 640)


@each_case(
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
def test_missing_or_impossible_counts_are_ignored(tail: bytes) -> None:
    assert cache_use(tail) is None


def test_text_that_a_model_wrote_is_not_read_as_counts() -> None:
    words = VLLM_CHAT.decode()
    assert cache_use(json.dumps({"choices": [{"message": {"content": words}}]}).encode()) is None
    assert cache_use(json.dumps({"usage": {"prompt_tokens": 4}, "text": words}).encode()) is None


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300))
def test_any_bytes_are_read_without_an_exception(noise: bytes, start: int, end: int) -> None:
    use = cache_use(VLLM_CHAT[start:end] + noise + VLLM_MESSAGES[end:])
    assert use is None or 0 <= use.cached_tokens <= use.prompt_tokens
