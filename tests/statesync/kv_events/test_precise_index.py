"""What the index says of pods that publish events, and what it leaves to what was learned."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schedulers.types import PREFIX_BLOCK_TOKENS, PodId
from statesync.kv_events.events import decode
from statesync.kv_events.matching import SETTLE_S, Answered
from statesync.kv_events.precise_index import PreciseHits, PreciseIndex
from tests.fakes.kv_publisher import BLOCK, Batch, FakeKvPublisher
from tests.statesync.kv_events.prompts import prompt

A, B, QUIET = PodId("a"), PodId("b"), PodId("quiet")
FIRST = b'["' + b"one " * 600 + b'"]'
SECOND = FIRST[:-1] + b',"' + b"two " * 300 + b'"]'
TOKENS = list(range(100 * BLOCK))


class Fleet:
    """An index, two pods that publish and one that does not."""

    def __init__(self) -> None:
        self.index = PreciseIndex(1 << 30, 1 << 30)
        self.engines = {pod: FakeKvPublisher(random.Random(1), capacity=10_000) for pod in (A, B)}
        self.now = 0.0
        for pod in self.engines:
            self.index.follow(pod, 1).publishers[0].feed.replay_done()

    def sends(self, pod: PodId, batch: Batch) -> None:
        decoded = decode(batch[1])
        assert decoded is not None
        publisher = self.index.publishing[pod].publishers[0]
        publisher.held.now = self.now
        publisher.feed.live(batch[0], decoded)

    def serves(self, pod: PodId, text: bytes, tokens: list[int], cached: int = 0, answer: int = 0) -> int | None:
        """A request from dispatch to the end of its answer."""
        chain = self.index.chain("m", [text])
        hits = self.index.match(chain)
        self.index.place(pod, chain)
        self.now += 1.0
        self.sends(pod, self.engines[pod].prompt(tokens))
        prompt_tokens = len(tokens) - answer
        reported = self.index.answered(
            pod, Answered(prompt(text), self.now - 1.0, self.now, prompt_tokens, cached, answer), hits
        )
        self.now += 2 * SETTLE_S
        self.index.publishing[pod].matcher.settle(self.now)
        return reported

    def hits(self, text: bytes) -> dict[PodId, int]:
        return dict(self.index.match(self.index.chain("m", [text])))

    def reported(self, text: bytes) -> dict[PodId, int]:
        hits = self.index.match(self.index.chain("m", [text]))
        return hits.tokens if isinstance(hits, PreciseHits) else {}


def removed(*hashes: Any) -> list[dict[str, Any]]:
    return [{"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU"}]


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    assert fleet.serves(A, FIRST, TOKENS) is None
    return fleet


def test_the_next_turn_is_known_to_the_last_block(fleet: Fleet) -> None:
    assert fleet.reported(SECOND) == {A: len(TOKENS), B: 0}
    assert fleet.hits(SECOND)[A] == (len(FIRST) - 1) // 256
    assert fleet.serves(A, SECOND, TOKENS + [5] * BLOCK, cached=len(TOKENS)) == len(TOKENS)


def test_blocks_that_the_engine_evicted_do_not_count(fleet: Fleet) -> None:
    hashes = list(fleet.engines[A].cache)  # the end of the prompt first
    fleet.sends(A, fleet.engines[A].publish(removed(*hashes[:50])))
    assert fleet.reported(SECOND)[A] == 50 * BLOCK
    assert 0 < fleet.hits(SECOND)[A] < (len(FIRST) - 1) // 256 * 0.6
    fleet.sends(A, fleet.engines[A].clear())
    assert fleet.hits(SECOND) == {}
    assert fleet.reported(SECOND) == {A: 0, B: 0}


def test_a_pod_that_was_sent_the_prompt_by_others_is_known_to_hold_it(fleet: Fleet) -> None:
    fleet.sends(B, fleet.engines[B].prompt(TOKENS))
    assert fleet.reported(SECOND) == {A: len(TOKENS), B: len(TOKENS)}


def test_what_was_sent_and_is_not_stored_yet_is_left_to_what_was_learned(fleet: Fleet) -> None:
    chain = fleet.index.chain("m", [SECOND])
    fleet.index.place(A, chain)
    assert fleet.hits(SECOND)[A] * PREFIX_BLOCK_TOKENS >= len(FIRST) // 4
    assert A not in fleet.reported(SECOND)


def test_while_batches_are_missing_a_pod_is_left_to_what_was_learned(fleet: Fleet) -> None:
    fleet.sends(A, fleet.engines[A].clear())
    fleet.index.place(A, fleet.index.chain("m", [FIRST]))
    fleet.engines[A].publish([])
    fleet.sends(A, fleet.engines[A].publish([]))
    assert A not in fleet.reported(SECOND)
    assert fleet.hits(SECOND)[A] > 0


def test_pods_without_events_and_unknown_prompts_are_left_to_what_was_learned(fleet: Fleet) -> None:
    fleet.index.place(QUIET, fleet.index.chain("m", [FIRST]))
    assert fleet.hits(SECOND)[QUIET] > 0
    other = FIRST.replace(b"one", b"six")
    fleet.index.place(QUIET, fleet.index.chain("m", [other]))
    assert set(fleet.hits(other)) == {QUIET}


def test_a_cache_that_was_not_empty_at_first_is_expected_to_hold_what_was_learned_until_it_is_removed(
    fleet: Fleet,
) -> None:
    held = fleet.index.publishing[A].publishers[0].held
    held.reset(False)
    assert fleet.hits(SECOND)[A] > 0
    assert A not in fleet.reported(SECOND)
    hashes = list(reversed(fleet.engines[A].cache))
    fleet.engines[A].cache.clear()
    fleet.sends(A, fleet.engines[A].prompt(TOKENS))
    fleet.sends(A, fleet.engines[A].publish(removed(*hashes)))
    assert A not in fleet.hits(SECOND)


def test_a_pod_holds_what_its_best_rank_holds() -> None:
    fleet = Fleet()
    fleet.index.unfollow(A)
    for publisher in fleet.index.follow(A, 2).publishers:
        publisher.feed.replay_done()
    fleet.serves(A, FIRST, TOKENS)
    decoded = decode(FakeKvPublisher(random.Random(1)).prompt(TOKENS[: 30 * BLOCK])[1])
    assert decoded is not None
    fleet.index.publishing[A].publishers[1].feed.live(0, decoded)
    assert fleet.reported(SECOND)[A] == len(TOKENS)


def test_whether_answers_are_found_again_is_learned(fleet: Fleet) -> None:
    text, tokens, reported = FIRST, list(TOKENS), []
    for _ in range(4):
        text = text[:-1] + b',"%s"]' % (b"next " * 200)
        cached = len(tokens)
        tokens += [len(tokens)] * 4 * BLOCK
        reported.append(fleet.serves(A, text, tokens, cached=cached, answer=2 * BLOCK))
    found = [len(TOKENS) + 4 * BLOCK * turn for turn in range(4)]
    assert reported[0] == found[0], "there was no answer before"
    assert reported[1] == found[1] - 2 * BLOCK, "it is not known yet"
    assert reported[2:] == found[2:]


def test_a_restart_by_the_metrics_asks_for_everything_again(fleet: Fleet) -> None:
    fleet.index.forget(A)
    assert fleet.index.publishing[A].publishers[0].feed.wants == 0
    assert fleet.hits(SECOND) == {}
    fleet.index.unfollow(A)
    while fleet.index.sweep(10):
        pass
    assert len(fleet.index.holders) == 0
