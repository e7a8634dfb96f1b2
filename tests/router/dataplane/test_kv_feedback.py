"""What is learned from answers of pods that publish KV events."""

from __future__ import annotations

import json

from router.dataplane.exchange import Placement
from router.dataplane.kv_feedback import KvFeedback, answer_tokens
from router.dataplane.prefix_feedback import PrefixFeedback
from router.dataplane.request.openai import read
from schedulers.types import Pod, PodId, RequestInfo
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from tests.fakes.kv_publisher import BLOCK
from tests.statesync.kv_events.test_precise_index import FIRST, QUIET, SECOND, TOKENS, A, Fleet


def usage(prompt: int, cached: int, answer: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": answer, "prompt_tokens_details": {"cached_tokens": cached}}
    return json.dumps({"choices": [], "usage": counts}).encode()


def learned(text: bytes, pod: PodId, cached: int) -> tuple[int, int, int]:
    """Predicted and true tokens of an answer, and how many answers wait for their blocks."""
    fleet = Fleet()
    fleet.serves(A, FIRST, TOKENS)
    accuracy = PrefixAccuracy(fleet.index.set_trust)
    feedback = KvFeedback(PrefixFeedback(accuracy), accuracy, fleet.index, lambda: fleet.now)
    call = read(b"application/json", b'{"model":"m","messages":' + text + b"}")
    info = RequestInfo("r", "m", 100, 0, 0.0, 1, 1, prefix_hits=fleet.index.match(fleet.index.chain("m", call.prompt)))
    view = LoadView(lambda: fleet.now)
    view.set_pods("p", [Pod(pod, "a:1")])
    charge: Charge = view.reserve(pod, info)
    fleet.index.publishing[A].matcher.settle(fleet.now + 10.0)
    feedback.learn(call, Placement(Pod(pod, "a:1"), "p", charge, info), usage(len(TOKENS) + BLOCK, cached, 3))
    counts = accuracy.pods[pod]
    return counts.predicted, counts.true, len(fleet.index.publishing[A].matcher.waiting)


def test_what_events_told_is_judged_in_the_engines_own_tokens() -> None:
    assert learned(SECOND, A, len(TOKENS)) == (len(TOKENS), len(TOKENS), 1)


def test_an_answer_of_another_pod_is_judged_by_what_was_learned() -> None:
    assert learned(SECOND, QUIET, 0) == (0, 0, 0)


def test_the_answers_tokens_are_found_in_every_dialect() -> None:
    assert answer_tokens(usage(10, 0, 7)) == 7
    assert answer_tokens(b'{"usage":{"input_tokens":5,"output_tokens": 8}}') == 8
    assert answer_tokens(b'{"usage":{}}') == 0
