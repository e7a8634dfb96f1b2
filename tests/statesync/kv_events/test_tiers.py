"""What blocks outside GPU memory are worth, and which pods can read them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schedulers.types import PodId
from statesync.kv_events.events import decode
from statesync.kv_events.holders import Holders
from statesync.kv_events.matching import Answered
from statesync.kv_events.precise_index import PreciseHits, PreciseIndex
from statesync.kv_events.tiers import CPU, DISK, SHARED, SharedStore, TierBlocks, TierSettings, tier_of
from tests.fakes.kv_publisher import BLOCK, FakeKvPublisher, chained
from tests.statesync.kv_events.prompts import prompt
from tests.statesync.kv_events.test_held import removed, stored

A, B = PodId("a"), PodId("b")
TEXT = b'["' + b"one " * 600 + b'"]'
NEXT = TEXT[:-1] + b',"' + b"two " * 300 + b'"]'
TOKENS = list(range(100 * BLOCK))
HASHES = chained(TOKENS)
REACH = (len(TEXT) - 1) // 256


class Pods:
    """Two pods of a pool; the first has answered a prompt."""

    def __init__(self, shared: tuple[str, ...] = ()) -> None:
        self.index = PreciseIndex(1 << 30, 1 << 30)
        settings, store = TierSettings({CPU: 0.1, DISK: 0.5, SHARED: 0.25}, shared), SharedStore(self.index.holders)
        self.engines = {pod: FakeKvPublisher(random.Random(1), capacity=10_000) for pod in (A, B)}
        for pod in self.engines:
            self.index.follow(pod, 1, settings, store).publishers[0].feed.replay_done()
        self.send(A, *[stored(TOKENS, HASHES)])
        self.answer(A, 0, {})
        self.index.publishing[A].matcher.settle(10.0)

    def send(self, pod: PodId, *events: dict[str, Any]) -> None:
        seq, payload = self.engines[pod].publish(list(events))
        batch = decode(payload)
        assert batch is not None
        self.index.publishing[pod].publishers[0].feed.live(seq, batch)

    def evict(self, *hashes: int) -> None:
        """From the first pod's GPU."""
        self.send(A, removed(*hashes))

    def answer(self, pod: PodId, cached: int, hits: dict[PodId, int], text: bytes = TEXT) -> int | None:
        return self.index.answered(pod, Answered(prompt(text), 0.0, 0.0, len(TOKENS), cached, 0), hits)

    def hits(self) -> PreciseHits:
        hits = self.index.match(self.index.chain("m", [NEXT]))
        assert isinstance(hits, PreciseHits)
        return hits


def moved(medium: str, hashes: list[int] = HASHES, **more: Any) -> dict[str, Any]:
    """An offloading connector's event: it knows the hashes alone."""
    return stored([], hashes, medium=medium) | {"block_size": 0} | more


@pytest.mark.parametrize(("medium", "worth"), [("CPU", 0.9), ("CPU_PINNED", 0.9), ("STORAGE", 0.5), ("DISK", 0.5)])
def test_blocks_that_were_evicted_to_another_tier_are_worth_less_by_their_load_time(medium: str, worth: float) -> None:
    pods = Pods()
    pods.send(A, moved(medium))
    assert pods.hits() == {A: REACH}, "the GPU has them, too"
    pods.evict(*HASHES)
    assert pods.hits() == {A: int(REACH * worth)}
    assert pods.hits().tokens == {A: len(TOKENS), B: 0}, "the engine counts them as cached all the same"
    pods.send(A, removed(*HASHES) | {"medium": medium})
    assert pods.hits() == {}


def test_a_prompt_may_be_partly_on_the_gpu_and_partly_in_each_tier() -> None:
    pods = Pods()
    pods.send(A, moved("CPU", HASHES[:60]), moved("DISK", HASHES[:80]))
    pods.evict(*HASHES[20:])
    assert pods.hits().tokens[A] == 80 * BLOCK
    assert pods.hits()[A] == pytest.approx(REACH * (20 + 40 * 0.9 + 20 * 0.5) / 100, abs=1)


@pytest.mark.parametrize(
    ("shared", "event"),
    [
        ((), moved("EXTERNAL")),
        ((), moved("STORAGE", locality="REMOTE")),
        ((CPU,), moved("cpu")),
    ],
)
def test_a_store_that_pods_share_counts_for_each_of_them(shared: tuple[str, ...], event: dict[str, Any]) -> None:
    pods = Pods(shared)
    pods.send(A, event)
    assert pods.hits() == {A: REACH, B: int(REACH * 0.75)}
    pods.send(B, removed(*HASHES) | {key: event[key] for key in ("medium", "locality") if key in event})
    assert pods.hits() == {A: REACH}, "whichever pod says that they are gone"


def test_a_store_outlives_the_pod_that_filled_it() -> None:
    pods = Pods()
    pods.send(A, moved("EXTERNAL"), moved("CPU"))
    pods.index.publishing[A].publishers[0].held.reset(True)
    assert pods.hits() == {A: int(REACH * 0.75), B: int(REACH * 0.75)}
    pods.index.unfollow(A)
    while pods.index.sweep(10):
        pass
    assert pods.hits() == {B: int(REACH * 0.75)}


def test_a_store_with_hashes_and_blocks_of_its_own_is_known_by_tokens() -> None:
    pods = Pods()
    wide = 5 * BLOCK
    for at in range(0, len(TOKENS), wide):
        chunk = stored(TOKENS[at : at + wide], [at + 1], at + 1 - wide if at else None, medium="EXTERNAL")
        pods.send(B, chunk | {"block_size": wide})
    assert B not in pods.hits(), "blocks of another size than the pod's own are unknown until it has some"
    pods.send(B, stored([1] * BLOCK, [-7]))
    for at in range(0, len(TOKENS), wide):
        chunk = stored(TOKENS[at : at + wide], [at + 1], at + 1 - wide if at else None, medium="EXTERNAL")
        pods.send(B, chunk | {"block_size": wide})
    assert pods.hits()[B] == int(REACH * 0.75)


def test_what_an_engine_does_not_find_in_a_store_counts_no_more() -> None:
    pods = Pods()
    pods.send(A, moved("EXTERNAL"))
    pods.answer(B, 40 * BLOCK, pods.hits(), NEXT)
    assert pods.hits().tokens[B] == 40 * BLOCK


def test_blocks_in_host_memory_that_were_stored_twice_are_removed_twice() -> None:
    pods = Pods()
    pods.send(A, moved("CPU"), moved("CPU"))
    pods.evict(*HASHES)
    for left in ({A: int(REACH * 0.9)}, {}):
        pods.send(A, removed(*HASHES) | {"medium": "CPU"})
        assert pods.hits() == left


def test_a_tier_that_is_no_faster_than_computing_does_not_count() -> None:
    index = PreciseIndex(1 << 30, 1 << 30)
    tiers = index.follow(A, 1, TierSettings({CPU: 1.0})).publishers[0].held.tiers
    assert tiers._tier("CPU", None) is None
    assert tiers._tier("DISK", None) is None


@pytest.mark.parametrize(
    ("medium", "locality", "tier"),
    [("CPU", None, CPU), ("CPU_TIER2", "LOCAL", CPU), ("cpu", "REMOTE", SHARED), ("STORAGE", None, DISK)],
)
def test_tiers_by_the_names_that_engines_use(medium: str, locality: str | None, tier: str) -> None:
    assert tier_of(medium, locality, ()) == tier


def test_a_block_that_is_stored_with_other_keys_leaves_none_of_the_first_behind() -> None:
    holders = Holders()
    tier = TierBlocks(holders, 0.1, 100)
    tier.add(1, (10, 11), counted=False)
    tier.add(1, (11, 12), counted=False)
    assert [key for key in range(20) if holders.of(key)] == [11, 12]
    tier.retire()
    holders.sweep(100)
    assert len(holders) == 0
