"""The prefix index where engines say what they hold: it answers as the learned index does, and by events
where they say more.

For a prompt whose engine blocks are known (`paths.py`), a pod holds as much as its events say. What is known of no
event is left to the learned index: prompts that no answer was seen for, what was sent and not stored yet, all of a pod
while batches of its events are missing, and of a pod whose cache was not empty at the first event all but the blocks
that are known to be stored or removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from schedulers.types import PodId
from statesync.kv_events.feed import EventFeed
from statesync.kv_events.held import HeldBlocks
from statesync.kv_events.holders import Holders
from statesync.kv_events.matching import Answered, AnswerMatcher
from statesync.kv_events.paths import PromptChain, PromptPath, PromptPaths
from statesync.kv_events.tiers import SharedStore, Tiers, TierSettings
from statesync.prefix.block_hash import chain
from statesync.prefix.index import PrefixIndex

NO_TIERS: Final = TierSettings({})

ECHO_LIMIT: Final = 8
"""Bound of the count of answers that engines found again in the next turn, less those that they did not."""


class PreciseHits(dict[PodId, int]):
    """`RequestInfo.prefix_hits` with the cached tokens by events. Read only."""

    __slots__ = ("answer", "echo", "path", "tokens")

    def __init__(self, hits: Mapping[PodId, int], path: PromptPath, echo: bool) -> None:
        super().__init__(hits)
        self.path = path
        self.tokens: dict[PodId, int] = {}
        """Cached tokens of the prompt, for pods whose events are known."""
        self.answer: dict[PodId, int] = {}
        """Cached tokens after those: the answer to the last turn, which the engine finds again where the client sends
        it back and it becomes the same tokens."""
        self.echo = echo
        """Whether they are in the hits."""


class Publisher:
    """One publisher of a pod: the order of its batches, and what its cache holds."""

    __slots__ = ("feed", "held")

    def __init__(self, holders: Holders, tiers: Tiers) -> None:
        self.held = HeldBlocks(holders, tiers)
        self.feed = EventFeed(self.held.apply, self.held.reset)


class PrecisePod:
    """A pod that publishes events."""

    __slots__ = ("exact", "matcher", "predictions", "publishers")

    def __init__(self, index: PreciseIndex, ranks: int, tiers: TierSettings, store: SharedStore) -> None:
        self.predictions = self.exact = 0
        """Counters: answers whose cached tokens were predicted by events; of these, to the token."""
        holders = index.holders
        self.publishers = [Publisher(holders, Tiers(holders, tiers, store)) for _ in range(ranks)]
        self.matcher = AnswerMatcher(index.paths, lambda: [each.held for each in self.publishers])


class PreciseIndex(PrefixIndex):
    """The learned index, and what is known better."""

    def __init__(self, max_bytes: int, default_kv_tokens: int) -> None:
        """`max_bytes` bounds the learned index, and again the paths of prompts. The table of holders is as large as the
        engines' caches."""
        super().__init__(max_bytes, default_kv_tokens)
        self.holders = Holders()
        self.paths = PromptPaths(max_bytes)
        self.publishing: dict[PodId, PrecisePod] = {}
        """The pods that are followed."""
        self._echo = 0

    def follow(
        self, pod: PodId, ranks: int, tiers: TierSettings = NO_TIERS, store: SharedStore | None = None
    ) -> PrecisePod:
        """Take the events of this pod from now on. `store` is its pool's."""
        followed = self.publishing[pod] = PrecisePod(self, ranks, tiers, store or SharedStore(self.holders))
        return followed

    def unfollow(self, pod: PodId) -> None:
        """The pod is gone."""
        gone = self.publishing.pop(pod, None)
        if gone is not None:
            for publisher in gone.publishers:
                publisher.held.retire()

    def forget(self, pod: PodId) -> None:
        """The engine restarted, by its metrics, or the pod is gone."""
        super().forget(pod)
        followed = self.publishing.get(pod)
        if followed is not None:
            for publisher in followed.publishers:
                publisher.feed.resync()

    def sweep(self, budget: int) -> int:
        """See PrefixIndex."""
        return super().sweep(budget) + self.holders.sweep(budget)

    def chain(self, model: str, parts: Sequence[bytes | memoryview]) -> list[int]:
        """See PrefixIndex; the chain carries the bytes."""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return PromptChain(chain(model, (data,)), data)

    def match(self, chain: Sequence[int]) -> Mapping[PodId, int]:
        """See PrefixIndex."""
        learned = super().match(chain)
        if not self.publishing or not isinstance(chain, PromptChain):
            return learned
        path = self.paths.find(chain)
        return learned if path is None else self._precise(path, learned)

    def answered(self, pod: PodId, answer: Answered, hits: Mapping[PodId, int]) -> int | None:
        """Take an answer of this pod, whose `hits` were predicted. Returns the cached tokens that events had said,
        None where they said nothing."""
        followed = self.publishing.get(pod)
        if followed is None:
            return None
        followed.matcher.answered(answer)
        if not isinstance(hits, PreciseHits) or pod not in hits.tokens:
            return None
        reported = hits.tokens[pod]
        if pod in hits.answer:
            change = 1 if answer.cached_tokens > reported else -1
            self._echo = max(-ECHO_LIMIT, min(ECHO_LIMIT, self._echo + change))
            reported += hits.answer[pod] if hits.echo else 0
        size = max(1, followed.publishers[0].held.block_size)
        reported = min(reported, (answer.prompt_tokens - 1) // size * size)  # the last token is computed in any case
        followed.predictions += 1
        followed.exact += reported == answer.cached_tokens
        if reported > answer.cached_tokens:
            missing = hits.path.keys[max(0, answer.cached_tokens // size - hits.path.first) :]
            for publisher in followed.publishers:
                publisher.held.tiers.missed(missing)
        return reported

    def _precise(self, path: PromptPath, learned: Mapping[PodId, int]) -> PreciseHits:
        depths = self._depths(path.keys)
        hits = PreciseHits(learned, path, self._echo > 0)
        whole = len(path.keys) - path.answer
        for pod, followed in self.publishing.items():
            best: HeldBlocks | None = None
            deepest, cost = -1, 0.0
            for publisher in followed.publishers:
                depth, load = publisher.held.tiers.reach(path.keys, depths.get(publisher.held.bit, 0))
                if publisher.feed.in_step and depth > deepest:
                    best, deepest, cost = publisher.held, depth, load
            if best is None:
                continue
            if not deepest and pod not in hits:  # most pods of a large pool: kept short
                if best.complete and not path.first:
                    hits.tokens[pod] = 0
            else:
                worth = 1.0 - cost / (path.first + deepest) if cost else 1.0
                self._correct(hits, pod, path, best, deepest, whole, worth)
        return hits

    def _correct(
        self, hits: PreciseHits, pod: PodId, path: PromptPath, held: HeldBlocks, depth: int, whole: int, worth: float
    ) -> None:
        """Put what events say of a pod in place of what was learned: it holds `depth` of the path's known blocks, of
        which `whole` are the prompt's. `worth` is less than 1 where some have to be loaded."""
        learned = hits.get(pod, 0)
        if depth >= whole:
            if learned > path.reach:
                return  # it was sent a longer prompt, of which no event is known yet
            hits[pod] = int(path.reach * worth)
            hits.tokens[pod] = (path.first + whole) * held.block_size
            if depth > whole:
                hits.answer[pod] = (depth - whole) * held.block_size
            return
        reported = int(path.base_blocks(path.first + depth) * worth)
        if not held.was_removed(path.keys[depth]):  # it may be older than the first event
            reported = max(reported, learned)
        elif depth or not path.first:
            hits.tokens[pod] = (path.first + depth) * held.block_size
        else:
            reported = min(reported, learned)  # of the blocks before the first known one nothing is known
        if reported:
            hits[pod] = reported
        elif learned:
            del hits[pod]

    def _depths(self, keys: Sequence[int]) -> dict[int, int]:
        """For each publisher's bit, how many leading keys it holds, by bisection as in the learned index."""
        depths: dict[int, int] = {}
        of = self.holders.of
        depth, last = 0, len(keys) - 1
        mask = of(keys[0])
        while mask:
            deeper, rest = last + 1, 0
            if of(keys[last]) & mask != mask:
                deeper = last
                while deeper - depth > 1:
                    middle = (depth + deeper) // 2
                    if of(keys[middle]) & mask == mask:
                        depth = middle
                    else:
                        deeper = middle
                rest = mask & of(keys[deeper])
            ended = mask ^ rest
            while ended:
                bit = ended & -ended
                depths[bit] = deeper
                ended ^= bit
            mask, depth = rest, deeper
        return depths
