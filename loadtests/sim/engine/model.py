"""A model of a continuous-batching engine (vLLM V1's scheduler), in virtual time. Pure: no clock, I/O or randomness.

A step spends a token budget: one token for each decoding request, then chunks of prompts that are being prefilled,
then new admissions in order of arrival, or of priority. Batch, context and prefill give its duration (see `profiles`).
KV blocks are counted, prefixes are cached by chained hash ids, and when decoding runs out of blocks the request that
was admitted last is preempted and recomputed later, by priority the last of the lowest.

A step costs O(finished + prefilled): decoding requests are never touched one by one. Their context grows by a shared
step counter, the blocks they need come from a ring (who needs a block every `block_tokens` steps), and their ends
wait in a heap. `next_step(until=...)` even takes many pure decode steps at once, with the same outcome.

Simplifications against vLLM: a prompt is admitted only when all of its blocks fit, and duplicates of a unit merge.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection

from loadtests.sim.engine.kv_blocks import KvBlocks
from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.engine.types import (
    DuplicateRequest,
    EngineRequest,
    Live,
    RequestId,
    RequestTooLong,
    Step,
    StepResult,
)
from loadtests.sim.engine.waiting import WaitingQueue

__all__ = ["DuplicateRequest", "Engine", "EngineRequest", "RequestId", "RequestTooLong", "StepResult"]


class Engine:
    """One engine. The caller owns the clock: it calls `next_step`, waits `duration_s`, and calls again."""

    def __init__(self, profile: EngineProfile, *, unit_tokens: int | None = None) -> None:
        """`unit_tokens` is what one of a request's `block_ids` stands for: a multiple of the block, by default one."""
        self.profile = profile
        self.unit_tokens = unit_tokens or profile.block_tokens
        self.kv = KvBlocks(profile.kv_blocks, self.unit_tokens // profile.block_tokens)
        self.prefix_queries_tokens = self.prefix_hits_tokens = 0
        self.prompt_tokens = self.generation_tokens = self.preemptions = 0
        self._waiting = WaitingQueue(by_priority=profile.by_priority)
        self._running: dict[RequestId, Live] = {}
        self._prefilling: dict[RequestId, Live] = {}
        self._decoding: dict[RequestId, Live] = {}
        self._leaving: dict[RequestId, Live] = {}
        self._ends: list[tuple[int, int, Live]] = []
        self._ring = [0] * profile.block_tokens
        self._at = 0
        """Counts steps; a decoding request's context and answer grow with it."""
        self._context = 0
        """Tokens of context that the decoding requests read in the next step."""
        self._order = 0
        self._head_blocked = False
        """The head of the queue did not fit, and nothing has changed since."""

    # What a router can see

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that requests hold, 0..1; idle cached blocks do not count."""
        return self.kv.used / self.kv.capacity

    # Internal state, for comparison with a router's estimates

    @property
    def queue(self) -> Collection[Live]:
        """The waiting requests, in order."""
        return self._waiting.values()

    @property
    def prefilling(self) -> Collection[Live]:
        """Requests whose prompt is under way, in order."""
        return self._prefilling.values()

    @property
    def decoding(self) -> Collection[Live]:
        """Requests that get a token with every step."""
        return self._decoding.values()

    @property
    def decode_step_s(self) -> float:
        """Duration of the next step without any prefill."""
        return self.profile.decode_s(1, len(self._decoding), self._context)

    def steps_left(self, live: Live) -> int:
        """Steps until a decoding request ends."""
        return live.request.output_tokens - live.emitted - (self._at - live.entered)

    # Requests

    def submit(self, request: EngineRequest) -> None:
        """Queue a request. RequestTooLong if it could never fit, DuplicateRequest if its id is here already."""
        total = request.prompt_tokens + request.output_tokens
        if request.prompt_tokens < 1 or request.output_tokens < 0:
            raise ValueError(f"request {request.id}: a prompt has a token at least, an answer none or more")
        if total > self.profile.max_model_len or self._blocks(total) > self.kv.capacity:
            raise RequestTooLong(f"request {request.id}: {total} tokens do not fit")
        if request.id in self._waiting or request.id in self._running:
            raise DuplicateRequest(f"request {request.id} is here already")
        live = Live(request)
        self._waiting.add(live)
        if self._head_blocked and self._waiting.head() is live:
            self._head_blocked = False

    def cancel(self, request_id: RequestId) -> bool:
        """Drop a request at once and free its blocks; False if it is unknown."""
        if self._waiting.pop(request_id) is not None:
            self._head_blocked = False
            return True
        live = self._running.get(request_id)
        if live is None:
            return False
        self._release(live)
        return True

    def next_step(self, now: float, until: float | None = None) -> StepResult | None:
        """Do the step that starts at `now` (when the previous one ends); None when there is nothing to do.

        With `until`, the time of the next arrival (`math.inf` if there is none), steps that only decode are taken
        together as long as each starts before it; `StepResult.steps` says how many, and each of `tokens` got as many.
        """
        if self._leaving:
            self._let_leave()
        if not self._running and not self._waiting:
            return None
        step = Step()
        if until is not None:
            step.steps = self._leap(until - now)
        self._grow(step)
        self._decode(step)
        self._prefill(step)
        return step.result()

    def only_decodes_s(self) -> float:
        """Seconds of the steps from now on that only decode, as `next_step` without a bound would take them together; 0
        if the next step does anything else. Until that time is over the caller may make up for steps with `next_step`
        and the time at which the first of them began, unless a request is submitted or cancelled before."""
        if self._leaving:
            self._let_leave()
        steps = self._leap(math.inf)
        return self.profile.decode_s(steps, len(self._decoding), self._context) if steps > 1 else 0.0

    # Decode: every decoding request, at the cost of those that end

    def _grow(self, step: Step) -> None:
        """Reserve the blocks that decoding needs; the request admitted last makes room where there are too few."""
        kv = self.kv
        while (need := self._blocks_needed(step.steps)) > kv.available:
            self._preempt(step)
        if need:
            kv.reserve(need)

    def _blocks_needed(self, steps: int) -> int:
        if steps == 1:
            return self._ring[self._at % len(self._ring)]
        ring, size = self._ring, len(self._ring)
        rounds, rest = divmod(steps, size)
        start = self._at % size
        around = max(0, start + rest - size)
        return rounds * len(self._decoding) + sum(ring[start : start + rest]) + sum(ring[:around])

    def _preempt(self, step: Step) -> None:
        running = self._running.values()
        live = max(running, key=_goes_last) if self.profile.by_priority else next(reversed(running))
        self._release(live)
        live.restart()
        self._waiting.put_back(live)
        self.preemptions += 1
        step.preempted.append(live.request.id)

    def _decode(self, step: Step) -> None:
        decoding = len(self._decoding)
        step.duration_s = self.profile.decode_s(step.steps, decoding, self._context)
        step.tokens = list(self._decoding)
        self._context += decoding * step.steps
        self._at += step.steps
        self.generation_tokens += decoding * step.steps
        ends = self._ends
        while ends and ends[0][0] < self._at:
            _, order, live = heapq.heappop(ends)
            if live.order == order:
                self._finish(live, step)

    def _leap(self, window_s: float) -> int:
        """How many of the next steps only decode, start in the window, end no request early and find their blocks."""
        admissible = self._waiting and not self._head_blocked and len(self._running) < self.profile.max_num_seqs
        if self._prefilling or admissible or not self._decoding:
            return 1
        ends = self._ends
        while ends[0][2].order != ends[0][1]:
            heapq.heappop(ends)
        steps = ends[0][0] - self._at + 1
        if window_s != math.inf:
            steps = self.profile.steps_started(max(window_s, 0.0), steps, len(self._decoding), self._context)
        while steps > 1 and self._blocks_needed(steps) > self.kv.available:
            steps //= 2
        return max(steps, 1)

    # Prefill: what is under way first, then the queue in order

    def _prefill(self, step: Step) -> None:
        profile = self.profile
        budget = profile.max_batched_tokens - len(step.tokens)
        for live in list(self._prefilling.values()):
            if budget <= 0:
                return
            budget -= self._chunk(live, budget, step)
        if step.preempted:
            return
        while self._waiting and budget > 0 and len(self._running) < profile.max_num_seqs:
            admitted = self._admit(step)
            if admitted is None:
                return
            budget -= self._chunk(admitted, budget, step)

    def _admit(self, step: Step) -> Live | None:
        """Take the head of the queue into the batch if all of its blocks fit."""
        if self._head_blocked:
            return None
        live = self._waiting.head()
        request_id, ids, kv = live.request.id, live.request.block_ids, self.kv
        hits, revived = kv.lookup(ids, (live.target - 1) // self.unit_tokens)
        blocks = self._blocks(live.target)
        fresh = blocks - hits * kv.unit_blocks
        if fresh + revived * kv.unit_blocks > kv.available:
            self._head_blocked = True
            return None
        kv.take(ids[:hits])
        kv.reserve(fresh)
        self._waiting.pop(request_id)
        live.held = list(ids[:hits])
        live.computed = hits * self.unit_tokens
        if live.cached_tokens is None:
            live.cached_tokens = max(live.computed, min(live.request.transferred, live.target - 1))
            self.prefix_queries_tokens += live.request.prompt_tokens
            self.prefix_hits_tokens += live.computed
            # The last token is always computed: its output is the first token of the answer.
            live.computed = max(live.computed, min(live.request.transferred, live.target - 1))
            step.admitted.append((request_id, live.computed))
        self._running[request_id] = self._prefilling[request_id] = live
        return live

    def _chunk(self, live: Live, budget: int, step: Step) -> int:
        """Compute up to `budget` tokens of a prompt; its last chunk yields a token."""
        chunk = min(live.target - live.computed, budget)
        profile = self.profile
        step.duration_s += profile.prefill_token_s * chunk
        step.duration_s += profile.attention_s * chunk * (live.computed + chunk / 2)
        step.prefill_tokens += chunk
        live.computed += chunk
        self._publish(live, live.computed)
        if live.computed == live.target:
            self._start_decoding(live, step)
        return chunk

    def _start_decoding(self, live: Live, step: Step) -> None:
        request = live.request
        del self._prefilling[request.id]
        if live.emitted == 0:
            self.prompt_tokens += request.prompt_tokens
            if request.output_tokens:
                step.first_tokens.append(request.id)
        else:
            step.tokens.append(request.id)
        if request.output_tokens:
            live.emitted += 1
            self.generation_tokens += 1
        if live.emitted >= request.output_tokens:
            self._leaving[request.id] = live
            step.finished.append(request.id)
            return
        self._order += 1
        live.order, live.entered, live.decoding = self._order, self._at, True
        live.slot = (self._at - live.target) % len(self._ring)
        self._ring[live.slot] += 1
        self._context += live.target
        self._decoding[request.id] = live
        heapq.heappush(self._ends, (self._at + request.output_tokens - live.emitted - 1, live.order, live))

    # Leaving

    def _finish(self, live: Live, step: Step) -> None:
        """Out of the decoding set now; its blocks and its place in the batch go when the step has ended."""
        self._stop_decoding(live)
        self._leaving[live.request.id] = live
        step.finished.append(live.request.id)

    def _stop_decoding(self, live: Live) -> None:
        grown = self._at - live.entered
        live.decoding, live.order = False, -1
        live.computed = live.target + grown
        live.emitted += grown
        self._ring[live.slot] -= 1
        self._context -= live.computed
        del self._decoding[live.request.id]

    def _let_leave(self) -> None:
        for live in list(self._leaving.values()):
            self._release(live)

    def _release(self, live: Live) -> None:
        request_id = live.request.id
        if live.decoding:
            self._stop_decoding(live)
        self._publish(live, live.computed)
        private = self._blocks(max(live.target, live.computed)) - len(live.held) * self.kv.unit_blocks
        self.kv.drop(live.held, private)
        live.held = []
        del self._running[request_id]
        self._prefilling.pop(request_id, None)
        self._leaving.pop(request_id, None)
        self._head_blocked = False

    def _publish(self, live: Live, computed: int) -> None:
        """Share the units that are full now, so that other requests find them."""
        held = live.held
        full = live.request.block_ids[len(held) : computed // self.unit_tokens]
        if full:
            self.kv.publish(full, held[-1] if held else None)
            held.extend(full)
            self._head_blocked = False

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_tokens)


def _goes_last(live: Live) -> tuple[int, float]:
    """By priority, the running request with the highest key is preempted first."""
    return live.request.priority, live.request.arrived_at
