"""Which stored blocks belong to which answer."""

from __future__ import annotations

import random

import pytest

from statesync.kv_events.matching import PATIENCE_S, SETTLE_S, Answered, AnswerMatcher
from statesync.kv_events.paths import PromptPaths
from tests.fakes.kv_publisher import BLOCK, FakeKvPublisher
from tests.statesync.kv_events.prompts import prompt
from tests.statesync.kv_events.test_held import Reader


class Scene:
    """An engine, and the answers that a gateway got from it."""

    def __init__(self) -> None:
        self.paths = PromptPaths(1 << 30)
        self.publisher = FakeKvPublisher(random.Random(1), capacity=10_000)
        self.reader = Reader()
        self.reader.replay(self.publisher)
        self.matcher = AnswerMatcher(self.paths, lambda: [self.reader.held])
        self.now = 0.0

    def stores(self, tokens: list[int]) -> None:
        self.reader.held.now = self.now
        self.reader.live(self.publisher.prompt(tokens))

    def answered(self, text: bytes, tokens: int, cached: int = 0, answer: int = 0, arrived: float = 0.0) -> None:
        self.matcher.answered(Answered(prompt(text), arrived, self.now, tokens, cached, answer))

    def settles(self, after_s: float = 2 * SETTLE_S) -> None:
        self.now += after_s
        self.matcher.settle(self.now)

    def known(self, text: bytes) -> int:
        path = self.paths.find(prompt(text))
        return path.depth - path.answer if path is not None else 0


def text(number: int, turns: int = 1) -> bytes:
    return b"[" + b",".join(b'"%d.%d %s"' % (number, at, b"x" * 600) for at in range(turns)) + b"]"


ONE = list(range(20 * BLOCK))
TWO = [1000 + at for at in range(20 * BLOCK)]


def test_an_answer_gets_the_run_that_is_as_long_as_its_prompt() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.stores(TWO[: 15 * BLOCK])
    scene.answered(text(1), len(ONE) + 2)
    scene.answered(text(2), 15 * BLOCK)
    scene.settles()
    assert (scene.known(text(1, 2)), scene.known(text(2, 2))) == (20, 15)
    assert scene.matcher.matched_total == 2


def test_turns_that_overlap_are_known_by_their_place_in_the_prompt() -> None:
    scene = Scene()
    for blocks in (10, 14, 20):  # all arrived at 0, and each found what the one before had computed
        scene.stores(ONE[: blocks * BLOCK])
    scene.now = 1.0
    for turns, blocks, cached in ((3, 20, 14), (1, 10, 0), (2, 14, 10)):
        scene.answered(text(1, turns), blocks * BLOCK, cached * BLOCK)
    scene.settles()
    assert [scene.known(text(1, turns + 1)) for turns in (1, 2, 3)] == [14, 20, 20]
    assert scene.matcher.matched_total == 3


def test_what_was_stored_before_a_request_came_is_not_its_own() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.now = 1.0
    scene.answered(text(1), 15 * BLOCK, 5 * BLOCK, arrived=0.5)
    scene.settles(PATIENCE_S)
    assert (scene.matcher.matched_total, scene.matcher.missed_total) == (0, 1)


def test_the_next_turn_is_told_by_the_block_that_it_continues() -> None:
    scene = Scene()
    for tokens, number in ((ONE, 1), (TWO[: 19 * BLOCK], 2)):
        scene.stores(tokens)
        scene.answered(text(number), len(tokens))
    scene.settles()
    scene.stores(ONE + [7] * 3 * BLOCK)
    scene.stores(TWO[: 19 * BLOCK] + [7] * 3 * BLOCK)
    scene.answered(text(2, 2), 22 * BLOCK, 19 * BLOCK)
    scene.answered(text(1, 2), 23 * BLOCK, 20 * BLOCK)
    scene.settles()
    assert (scene.known(text(1, 3)), scene.known(text(2, 3))) == (23, 22)


def test_of_two_requests_of_one_shape_none_is_taken() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.stores(TWO)
    scene.answered(text(1), len(ONE))
    scene.settles()
    scene.settles(PATIENCE_S)
    assert scene.known(text(1, 2)) == 0
    assert (scene.matcher.matched_total, scene.matcher.missed_total) == (0, 1)


def test_blocks_that_were_stored_before_the_request_came_are_not_its_own() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.now = 1.0
    scene.stores(TWO)
    scene.answered(text(2), len(TWO), arrived=0.5)
    scene.settles()
    path = scene.paths.find(prompt(text(2, 2)))
    assert path is not None
    assert path.keys == scene.reader.held.runs[1].keys


def test_events_that_come_after_the_answer_are_waited_for() -> None:
    scene = Scene()
    scene.answered(text(1), len(ONE))
    scene.settles()
    scene.stores(ONE)
    scene.settles(0.1)
    assert scene.known(text(1, 2)) == 20


def test_the_blocks_of_the_answer_belong_to_the_run() -> None:
    scene = Scene()
    scene.stores(ONE + [5] * 2 * BLOCK)
    scene.answered(text(1), len(ONE), answer=2 * BLOCK)
    scene.settles()
    path = scene.paths.find(prompt(text(1, 2)))
    assert path is not None
    assert (path.depth, path.answer) == (22, 2)


def test_a_prompt_of_which_nothing_was_stored_is_known_by_what_it_shares() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.answered(text(1), len(ONE))
    scene.settles()
    scene.answered(text(1, 2), len(ONE) + 1, len(ONE))
    scene.settles()
    assert scene.known(text(1, 3)) == 20


def test_after_an_answer_that_was_missed_the_next_turn_is_told_by_its_time() -> None:
    scene = Scene()
    scene.stores(ONE)
    scene.now = 5.0
    scene.stores(ONE + [7] * 3 * BLOCK)
    scene.answered(text(1, 2), 23 * BLOCK, 20 * BLOCK, arrived=4.0)
    scene.now = 5.01
    scene.stores(ONE + [7] * 3 * BLOCK + [8] * 9 * BLOCK)
    scene.settles()
    path = scene.paths.find(prompt(text(1, 3)))
    assert path is not None
    assert (path.first, path.depth) == (20, 23)


def test_answers_that_wait_are_looked_at_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, looks, match = Scene(), list[Answered](), AnswerMatcher._match

    def counted(matcher: AnswerMatcher, answer: Answered) -> object:
        looks.append(answer)
        return match(matcher, answer)

    monkeypatch.setattr(AnswerMatcher, "_match", counted)
    scene.stores(ONE)
    scene.stores(TWO)
    scene.answered(text(1), len(ONE))
    for _ in range(400):  # turns of 20 ms
        scene.settles(0.02)
    assert scene.matcher.missed_total == 1
    assert len(looks) < 12
