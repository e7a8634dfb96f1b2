"""What an answer teaches the index, through the whole of the data plane."""

from __future__ import annotations

import json

from router.dataplane.prefix_feedback import PrefixFeedback
from statesync.prefix.accuracy import PodAccuracy, PrefixAccuracy
from statesync.prefix.index import BLOCK_BYTES, REACH
from tests.fakes.memory_client_and_pods import SSE_HEAD, chunk, ok
from tests.fakes.memory_gateway import Rig

WORDS = "word " * 2000
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": WORDS}]}).encode()
PROMPT = json.dumps([{"role": "user", "content": WORDS}]).encode()


class School(Rig):
    """A rig with one pod whose gateway learns."""

    def __init__(self) -> None:
        super().__init__(pods=1)
        self.prefix_accuracy = PrefixAccuracy(self.prefix.set_trust)
        self.gateway.parts = self.gateway.parts._replace(learn=PrefixFeedback(self.prefix_accuracy).learn)
        self.pod = self.view.statuses()[0].pod.id

    def __enter__(self) -> School:
        super().__enter__()
        return self

    @property
    def learned(self) -> PodAccuracy:
        return self.prefix_accuracy.pods[self.pod]


def usage(cached: int) -> bytes:
    counts = {"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": cached}}
    return json.dumps({"usage": counts, "choices": []}).encode()


def test_an_answer_is_held_against_what_was_believed_in_the_engines_own_tokens() -> None:
    with School() as rig:
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=0)))
        assert (rig.learned.predicted, rig.learned.true) == (0, 0)
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=960)))
        known = REACH[len(rig.prefix.chain("m", [PROMPT]))] * BLOCK_BYTES
        assert rig.learned.predicted == 1000 * known // len(PROMPT), "all of the prompt but what fills no last block"
        assert rig.learned.true == 960
        assert rig.learned.trust == 1.0


def test_a_cache_that_forgot_costs_the_pod_trust_and_the_prompt_just_computed_is_still_believed() -> None:
    with School() as rig:
        for cached in (0, 0):
            rig.asks(BODY)
            rig.asked().sends(ok(usage(cached)))
        assert rig.learned.trust < 1.0
        chain = rig.prefix.chain("m", [PROMPT])
        assert rig.pod in rig.prefix.match(chain)


def test_a_stream_tells_in_its_last_event_but_one() -> None:
    with School() as rig:
        event = b"data: " + usage(cached=64) + b"\n\n"
        rig.asks(BODY)
        rig.asked().sends(SSE_HEAD, chunk(b'data: {"a":1}\n\n'), chunk(event), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
        assert (rig.learned.true, rig.learned.asked) == (64, 0)


def test_an_answer_that_does_not_say_is_left_to_the_counters() -> None:
    with School() as rig:
        for _ in range(2):
            rig.asks(BODY)
            rig.asked().sends(ok(b'{"usage":{"prompt_tokens":9}}'))
        assert rig.learned.predicted == 0
        assert 0 < rig.learned.expected < rig.learned.asked


def test_an_error_teaches_nothing_and_nor_does_a_prompt_shorter_than_a_block() -> None:
    with School() as rig:
        rig.asks(BODY)
        rig.asked().sends(ok(usage(cached=64)).replace(b"200 OK", b"400 Bad Request"))
        rig.asks(b'{"model":"m","messages":[{"role":"user","content":"hi"}]}')
        rig.asked().sends(ok(usage(cached=64)))
        assert rig.prefix_accuracy.pods == {}
