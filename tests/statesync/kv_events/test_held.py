"""What a publisher holds, by its events, against the cache that sent them."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from statesync.kv_events.events import AllBlocksCleared, EventBatch, decode
from statesync.kv_events.feed import EventFeed
from statesync.kv_events.held import HeldBlocks
from statesync.kv_events.holders import Holders
from statesync.kv_events.tiers import SharedStore, Tiers, TierSettings
from tests.fakes.kv_publisher import BLOCK, Batch, FakeKvPublisher


class Reader:
    """A feed and what is held, as a gateway has them."""

    def __init__(self, holders: Holders | None = None) -> None:
        self.holders = Holders() if holders is None else holders
        self.held = HeldBlocks(self.holders, Tiers(self.holders, TierSettings({}), SharedStore(self.holders)))
        self.feed = EventFeed(self.held.apply, self.held.reset)

    def live(self, batch: Batch) -> None:
        decoded = decode(batch[1])
        assert decoded is not None
        self.feed.live(batch[0], decoded)

    def replay(self, publisher: FakeKvPublisher) -> None:
        if self.feed.wants is None:
            return
        for seq, payload in publisher.replay(self.feed.wants):
            decoded = decode(payload)
            assert decoded is not None
            self.feed.replayed(seq, decoded)
        self.feed.replay_done()

    def held_of(self, prompt: list[int], keys: dict[tuple[int, ...], int]) -> int:
        """How many leading blocks of a prompt it holds, by keys learned from another reader."""
        held = 0
        while held < len(prompt) // BLOCK and self.holders.of(keys.get(tuple(prompt[: (held + 1) * BLOCK]), 0)):
            held += 1
        return held


def stored(tokens: list[int], hashes: list[int], parent: int | None = None, **more: Any) -> dict[str, Any]:
    event = {"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens}
    return event | {"block_size": BLOCK, "lora_id": None, "medium": "GPU"} | more


def removed(*hashes: int) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU"}


def begun(**how: Any) -> tuple[Reader, FakeKvPublisher]:
    reader, publisher = Reader(), FakeKvPublisher(random.Random(1), **how)
    reader.replay(publisher)
    return reader, publisher


TOKENS = list(range(2 * BLOCK))


def test_a_block_that_two_requests_computed_is_held_until_both_copies_are_gone() -> None:
    reader, publisher = begun()
    reader.live(publisher.publish([stored(TOKENS, [1, 2]), stored(TOKENS, [1, 2])]))
    reader.live(publisher.publish([removed(1)]))
    assert len(reader.held) == 2
    reader.live(publisher.publish([removed(1, 2, 2)]))
    assert len(reader.held) == len(reader.holders) == 0


def test_stores_that_follow_each_other_are_one_run() -> None:
    reader, publisher = begun()
    reader.live(publisher.publish([stored(TOKENS, [1, 2])]))
    reader.live(publisher.publish([stored([9] * BLOCK, [3], parent=2), stored([8] * BLOCK, [4], parent=1)]))
    first, branch = reader.held.runs
    assert [len(first.keys), len(branch.keys)] == [3, 1]
    assert (first.parent, branch.parent) == (0, first.keys[0])


def test_other_caches_than_the_gpus_and_other_groups_than_the_first_are_left_out() -> None:
    reader, publisher = begun()
    reader.live(publisher.publish([stored(TOKENS, [1, 2], medium="CPU"), stored(TOKENS, [1, 2], group_idx=1)]))
    assert len(reader.held) == 0


def test_an_empty_cache_is_complete_and_a_removed_block_is_known_to_be_gone_in_any_case() -> None:
    reader, publisher = begun()
    assert reader.held.complete
    reader.held.reset(False)
    reader.live(publisher.publish([stored(TOKENS, [1, 2])]))
    keys = list(reader.held.keys())
    reader.live(publisher.publish([removed(1)]))
    assert [reader.held.was_removed(key) for key in keys] == [True, False]
    reader.live(publisher.clear())
    assert reader.held.complete


@given(st.integers(0, 2**32), st.booleans())
def test_after_losses_duplicates_and_restarts_it_holds_what_the_engine_holds(seed: int, arrays: bool) -> None:
    play(seed, steps=60, arrays=arrays)


def play(seed: int, steps: int, *, arrays: bool = False, capacity: int = 60) -> tuple[int, int]:
    """Batches are lost and doubled, replays come late, the publisher restarts and keeps 40 batches. Returns how many
    events were published, and at how many quiet points the caches were compared."""
    rng = random.Random(seed)
    publisher = FakeKvPublisher(rng, capacity=capacity, buffer=40, arrays=arrays)
    reader = Reader()
    quiet = events = 0
    restarted = False
    prompts = [[rng.randrange(9) for _ in range(rng.randrange(1, 12) * BLOCK)] for _ in range(30)]
    for _ in range(steps):
        chance = rng.random()
        if chance < 0.003:
            publisher.restart()
            restarted = True
        base = rng.choice(prompts)
        tokens = base + [rng.randrange(99) for _ in range(rng.randrange(6) * BLOCK)]
        batch = publisher.clear() if 0.003 < chance < 0.006 else publisher.prompt(tokens)
        events += 1 + len(batch[1]) // 60
        for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 1, 2)) if rng.random() < 0.3 else 1):
            if restarted and reader.feed.next == batch[0]:
                reader.feed.resync()  # by chance the very number that comes next: the engine's metrics show it
            restarted = False
            reader.live(batch)
        if rng.random() < 0.3:
            reader.replay(publisher)
        reader.holders.sweep(10)
        if reader.feed.in_step and reader.feed.next == publisher.seq:
            quiet += 1
            compare(reader, publisher)
    reader.live(publisher.clear())
    while reader.feed.wants is not None:
        reader.replay(publisher)
    compare(reader, publisher)
    return events, quiet


def compare(reader: Reader, publisher: FakeKvPublisher) -> None:
    there, known = publisher.cache.keys(), reader.held.hashes()
    assert known <= there, "nothing is taken for held that is not"
    assert not reader.held.complete or known == there, "and where all is known, nothing is missing"
    if not reader.held.complete:
        return
    swept = reader.holders
    assert all(swept.of(key) & reader.held.bit for key in reader.held.keys())


def test_clearing_an_empty_cache_needs_no_new_bit() -> None:
    held = Reader().held
    bit = held.bit
    held.apply(EventBatch(1.0, [AllBlocksCleared()] * 1000))
    assert held.bit == bit
