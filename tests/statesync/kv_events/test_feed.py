"""The order of a publisher's batches: whatever is lost or repeated, what is applied is what was published."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from statesync.kv_events.events import EventBatch
from statesync.kv_events.feed import EventFeed


class Seen:
    """A feed, and what it made of its batches."""

    def __init__(self) -> None:
        self.feed = EventFeed(lambda batch: self.applied.append(batch.ts), self.reset)
        self.applied: list[float] = []
        self.resets: list[bool] = []

    def reset(self, empty: bool) -> None:
        self.resets.append(empty)
        self.applied = []

    def replay(self, *batches: tuple[int, float]) -> None:
        for seq, ts in batches:
            self.feed.replayed(seq, EventBatch(ts, ()))
        self.feed.replay_done()

    def live(self, *batches: tuple[int, float]) -> None:
        for seq, ts in batches:
            self.feed.live(seq, EventBatch(ts, ()))


def begun() -> Seen:
    seen = Seen()
    seen.replay((0, 1.0), (1, 2.0))
    return seen


def test_it_begins_with_a_replay_of_all_and_is_complete_from_number_0() -> None:
    seen = Seen()
    assert seen.feed.wants == 0
    seen.live((2, 3.0), (3, 4.0))
    seen.replay((0, 1.0), (1, 2.0), (2, 3.0))
    assert (seen.applied, seen.resets, seen.feed.in_step) == ([1.0, 2.0, 3.0, 4.0], [True], True)


def test_a_publisher_that_keeps_less_than_all_leaves_the_cache_unknown() -> None:
    seen = Seen()
    seen.replay((7, 1.0), (8, 2.0))
    assert (seen.applied, seen.resets, seen.feed.in_step) == ([1.0, 2.0], [False], True)


def test_a_publisher_that_published_nothing_has_an_empty_cache() -> None:
    seen = Seen()
    seen.replay()
    seen.live((0, 1.0))
    assert (seen.applied, seen.resets) == ([1.0], [True])


def test_a_gap_is_filled_from_the_last_known_batch_on() -> None:
    seen = begun()
    seen.live((4, 5.0))
    assert (seen.feed.wants, seen.feed.in_step, seen.feed.gaps_total) == (1, False, 1)
    seen.live((5, 6.0))
    seen.replay((1, 2.0), (2, 3.0), (3, 4.0), (4, 5.0))
    assert (seen.applied, seen.feed.in_step) == ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True)
    assert (seen.feed.lost_total, seen.feed.restarts_total) == (0, 0)


def test_a_gap_that_the_publisher_does_not_keep_is_lost() -> None:
    seen = begun()
    seen.live((9, 10.0))
    seen.replay((8, 9.0), (9, 10.0))
    assert (seen.applied, seen.resets[-1], seen.feed.lost_total) == ([9.0, 10.0], False, 1)


def test_a_replay_with_a_gap_of_its_own_is_asked_for_again_from_there() -> None:
    seen = begun()
    seen.live((7, 8.0))
    seen.replay((1, 2.0), (2, 3.0), (3, 4.0), (6, 7.0), (7, 8.0))
    assert (seen.feed.wants, seen.feed.in_step, seen.applied[-1]) == (3, False, 4.0)
    seen.replay(*[(seq, 1.0 + seq) for seq in range(3, 8)])
    assert (seen.applied, seen.feed.in_step) == ([1.0 + seq for seq in range(8)], True)
    assert (seen.feed.lost_total, seen.resets) == (0, [True])


def test_a_replay_that_breaks_off_is_asked_for_again_from_there() -> None:
    seen = Seen()
    seen.live((6, 7.0))
    for answers in ((0, 1, 2), (2, 3, 4)):
        for seq in answers:
            seen.feed.replayed(seq, EventBatch(1.0 + seq, ()))
        seen.feed.replay_failed()
    assert (seen.feed.wants, seen.applied[-1]) == (4, 5.0)
    seen.replay((4, 5.0), (5, 6.0))
    assert (seen.applied, seen.resets, seen.feed.in_step) == ([1.0 + seq for seq in range(7)], [True], True)


def test_a_replay_whose_gap_stays_is_lost() -> None:
    seen = begun()
    seen.live((4, 5.0))
    seen.replay((1, 2.0), (4, 5.0))
    assert (seen.applied, seen.resets[-1], seen.feed.lost_total) == ([5.0], False, 1)


def test_a_duplicate_is_dropped() -> None:
    seen = begun()
    seen.live((1, 2.0), (0, 1.0), (2, 3.0))
    assert (seen.applied, seen.feed.in_step) == ([1.0, 2.0, 3.0], True)


def test_a_known_number_at_a_later_time_is_a_restart() -> None:
    seen = begun()
    seen.live((0, 9.0))
    assert (seen.feed.restarts_total, seen.feed.wants, seen.resets[-1]) == (1, 0, False)
    seen.replay((0, 9.0))
    assert (seen.applied, seen.resets[-1]) == ([9.0], True)


def test_a_restart_that_looks_like_a_gap_is_told_by_the_last_known_batch() -> None:
    seen = begun()
    seen.live((5, 20.0))
    seen.replay(*[(seq, 15.0 + seq) for seq in range(1, 6)])
    assert (seen.feed.restarts_total, seen.feed.wants) == (1, 0)
    seen.replay(*[(seq, 15.0 + seq) for seq in range(6)])
    assert (seen.applied, seen.resets[-1]) == ([15.0, 16.0, 17.0, 18.0, 19.0, 20.0], True)


def test_without_a_replay_it_goes_on_with_what_comes() -> None:
    seen = Seen()
    seen.feed.replay_failed()
    seen.live((3, 4.0))
    assert seen.feed.wants == 0, "it may be there by now"
    seen.feed.replay_failed()
    seen.live((4, 5.0))
    assert (seen.applied, seen.resets[-1]) == ([4.0, 5.0], False)


def test_after_a_pause_what_was_missed_is_found_and_meanwhile_it_counts_as_in_step() -> None:
    seen = begun()
    seen.feed.check()
    assert (seen.feed.wants, seen.feed.in_step) == (1, True)
    seen.replay((1, 2.0), (2, 3.0))
    assert (seen.applied, seen.feed.wants, seen.resets) == ([1.0, 2.0, 3.0], None, [True])
    seen.feed.check()
    seen.replay()
    assert (seen.feed.in_step, seen.feed.wants) == (False, 0), "the last known batch is of another process"


def test_after_a_known_restart_it_begins_again() -> None:
    seen = begun()
    seen.feed.resync()
    assert (seen.feed.wants, seen.resets[-1]) == (0, False)
    seen.replay((0, 1.0))
    assert seen.applied == [1.0]


@given(st.integers(0, 2**32), st.floats(0.0, 0.4), st.integers(1, 40))
def test_what_is_applied_is_a_run_of_what_was_published(seed: int, loss: float, kept: int) -> None:
    """Batches are lost, doubled and delayed by replays; the publisher restarts and keeps only `kept` batches."""
    rng, seen, clock, now = random.Random(seed), Seen(), 0.0, list[float]()
    for _ in range(60):
        if rng.random() < 0.05:
            now = []
        clock += 1.0
        now.append(clock)
        for _ in range(2 if rng.random() < 0.1 else 1):
            if rng.random() >= loss:
                if seen.feed.next == len(now) - 1 and seen.applied and seen.applied[-1] not in now:
                    seen.feed.resync()  # by chance the very number that comes next: the engine's metrics show it
                seen.live((len(now) - 1, clock))
        if seen.feed.wants is not None and rng.random() < 0.7:
            first = max(seen.feed.wants, len(now) - kept)
            seen.replay(*enumerate(now[first:], first))
        if seen.feed.in_step and seen.applied and seen.applied[-1] == clock:
            run = seen.applied
            assert run == now[len(now) - len(run) :], "nothing is missing and nothing is twice"
            assert not seen.resets[-1] or len(run) == len(now), "complete means all of it"
