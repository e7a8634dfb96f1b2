"""A yardstick: each pod's time to first token from the engines' true state, which no router has.

The queue, the progress of each prefill, the true cache contents, when each request ends and frees its blocks: all are
read from the engine model. It does not know the next arrivals, so it is not a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from loadtests.sim.engine.model import Engine
from loadtests.sim.engine.types import Live
from loadtests.sim.peers.peer import Choice, Peer
from loadtests.sim.simulate.traces import Arrival

NO_END_IN_SIGHT_S: Final = 60.0
"""The wait for a pod on which the known ends of requests do not free enough blocks."""

OVERLAP: Final = 0.2
"""Share of the decode steps during its own prefill that still count when the request had to wait for blocks: most of
them ran while it waited."""


class _Work(NamedTuple):
    """What is to be computed before a request has its first token."""

    tokens: int
    seconds: float
    blocks: int
    """KV blocks that must be free for it."""


class Oracle(Peer):
    """The least expected time to first token."""

    def choose(self, arrival: Arrival) -> Choice:
        """The soonest of those that serve; ties are broken at random."""
        serving = [pod for pod in self.pods if self.world.serves[pod]] or self.pods
        return Choice(min(serving, key=lambda pod: (self.expect(pod, arrival), self.rng.random())))

    def expect(self, pod: int, arrival: Arrival) -> float:
        """Seconds until the pod would have this request's first token."""
        engine, now = self.world.engine(pod), self.world.now
        own = _to_admit(engine, arrival.prompt_tokens, arrival.units)
        before = _ahead(engine)
        overhead = engine.decode_step_s
        budget = max(1, engine.profile.max_batched_tokens - len(engine.decoding))
        steps = -(-(before.tokens + own.tokens) // budget)
        under_way = max(0.0, self.world.step_ends[pod] - now)
        queueing = under_way + before.seconds + own.seconds + steps * overhead
        wait = wait_for_blocks(engine, before.blocks + own.blocks, overhead)
        if not wait:
            return queueing
        return max(queueing, wait + before.seconds + own.seconds + OVERLAP * steps * overhead)


def _ahead(engine: Engine) -> _Work:
    """Prefills under way, which have their blocks, and all that wait."""
    tokens, seconds, blocks = 0, 0.0, 0
    for live in engine.prefilling:
        left = live.target - live.computed
        tokens += left
        seconds += _prefill_s(engine, left, live.computed)
    for live in engine.queue:
        work = _to_admit(engine, live.target, live.request.block_ids)
        tokens, seconds, blocks = tokens + work.tokens, seconds + work.seconds, blocks + work.blocks
    return _Work(tokens, seconds, blocks)


def _to_admit(engine: Engine, target: int, units: Sequence[int]) -> _Work:
    """A request that is not in the batch yet, with what the pod's cache holds of it."""
    kv = engine.kv
    hits, revived = kv.lookup(units, (target - 1) // engine.unit_tokens)
    cached = hits * engine.unit_tokens
    blocks = -(-target // engine.profile.block_tokens) + (revived - hits) * kv.unit_blocks
    return _Work(target - cached, _prefill_s(engine, target - cached, cached), blocks)


def _prefill_s(engine: Engine, tokens: int, cached: int) -> float:
    profile = engine.profile
    return profile.prefill_token_s * tokens + profile.attention_s * tokens * (cached + tokens / 2)


def wait_for_blocks(engine: Engine, needed: int, step_s: float) -> float:
    """Seconds until enough requests have ended; 0 where there is room."""
    short = needed - engine.kv.available
    if short <= 0:
        return 0.0
    for left, live in sorted(((engine.steps_left(live), live) for live in engine.decoding), key=_soonest):
        total = live.request.prompt_tokens + live.request.output_tokens
        short -= -(-total // engine.profile.block_tokens)
        if short <= 0:
            return left * step_s
    return NO_END_IN_SIGHT_S


def _soonest(ending: tuple[int, Live]) -> int:
    return ending[0]
