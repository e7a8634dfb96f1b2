"""The cost model of a time to first token: numbers in, numbers out. Knows no pod, no policy and no clock.

Prefill is counted in token equivalents: one is the time that a prompt's first token takes; attention over a long
context makes it more. `Costs` says how many seconds such work and a decode step take. Its default is an 8B model on one
H100 (prefill 24,600 tokens/s; a decode step 6 ms + 50 us a request + 56 ns a token of context; attention 1.3 ns a pair
of tokens); the load view learns others (`statesync/load/cost_model.py`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

CONTEXT_TOKENS: Final = 32_000
"""Tokens of context at which a prompt's token costs twice as much, because attention reads them all.

2 FLOPs a parameter against 4 x hidden size x layers a token of context: 31,000 at 8B, 53,000 at 70B. It is a ratio of
one engine's own work, so it hardly differs between machines, and replicas may add up each other's token equivalents.
"""

PACE_S: Final = 1 / 24_000
"""Seconds a token equivalent takes, before any is learned."""

CHUNK_TOKENS: Final = 2048
"""Prompt tokens that a step computes at most."""


class Costs(NamedTuple):
    """What an engine's work takes, in seconds."""

    token_s: float = PACE_S
    """A token equivalent of prefill."""
    step_s: float = 148.0 * PACE_S
    """A decode step without requests. Each chunk of a prompt shares its step with one."""
    decoding_s: float = 1.2 * PACE_S
    """What each decoding request adds to a step."""
    held_s: float = 0.0014 * PACE_S
    """What each token of their context adds to a step."""

    def decode_step_s(self, decoding: int, tokens: float) -> float:
        """A decode step of `decoding` requests with `tokens` of context together. A negative count is 0: replicas'
        numbers may contradict each other."""
        if decoding < 0:
            decoding = 0
        return self.step_s + self.decoding_s * decoding + self.held_s * tokens


PRIOR: Final = Costs()
"""Before any is learned."""

IDLE_PACE_S: Final = PRIOR.token_s + PRIOR.step_s / CHUNK_TOKENS
"""`pace` of an idle pod, before any is learned."""

LULL_STEPS: Final = 2.0
"""Decode steps that delay a prefill: the one under way when it arrives, and its own. The exact number predicts no
better."""

BEHIND: Final = 0.5
"""Fraction of the work behind the head of a pod's queue that counts even when all of it is overdue.

Progress is only known when a first token comes back. A pod that has not answered for longer than its work takes may be
about to answer, or may hang, or wait for KV blocks. It must not look idle, or it would attract every request.
"""

OVERDUE: Final = 0.5
"""Expected further delay of a first token that is overdue, as a fraction of the time by which it is.

It says at once that something was wrong: the cache, the room, or the pod. Waits of that kind are heavy-tailed: the
longer one has lasted, the longer the rest of it."""

CHOICES: Final = 4
"""Pods of which one without a prompt lets a request's own work delay no other: the next request goes there.

With 1 prompts wait for a cached prefix that others could compute at once: on 64 pods at half load the mean time to
first token of requests with adapters is a tenth higher. From 3 on it hardly differs on 8 pods. On 64 pods, 8 makes
bursts 8 % faster, but documents past saturation 4 % slower, and hits fewer."""

ANSWER_TOKENS: Final = 256
"""Answer tokens assumed for a request without `max_tokens`."""

KV_FULL: Final = 0.9
"""Share of a KV cache beyond which requests wait: the ones in the batch grow, and an engine that has no block left for
them throws out the newest. With 1.0 the mean time to first token of coding agents at their recorded rate x 6, 8 and 10
was 0.73, 2.6 and 3.8 s, with 0.9 it is 0.59, 1.7 and 6.0 s (8 pods): better until the fleet is far past saturation."""

STAY_S: Final = 8.0
"""Seconds a request is assumed to stay on a pod on which none has ended yet."""


SMALLEST_BLOCK: Final = 64
"""Tokens of a block of the prefix index at the beginning of a prompt."""

GROWS_FROM: Final = 1024
"""Tokens of a prompt from which on its blocks are larger."""


def prefill_work(uncached: int, cached: int) -> int:
    """Token equivalents of computing `uncached` tokens after `cached` ones.

    Negative counts are 0. At least one token is always computed: its output is the answer's first token.
    """
    if uncached < 1:
        uncached = 1
    return uncached + uncached * (2 * cached + uncached) // (2 * CONTEXT_TOKENS)


def likely_cached(known: int, prompt: int) -> int:
    """Tokens of a prompt that a pod is likely to have, of which the index knows `known` by whole blocks.

    Blocks grow to an eighth of the prompt before them, and the common part ends somewhere within the next one: half of
    it, on the average. On coding agents' traffic that half is most of what seems uncached.
    """
    rest = prompt - known
    if rest <= 0:
        return prompt
    if not known:
        return 0
    block = SMALLEST_BLOCK if known < GROWS_FROM else 1 << known.bit_length() - 4
    return known + (block if block < rest else rest) // 2


def pace(costs: Costs, factor: float, step_s: float) -> float:
    """Seconds a token equivalent takes while decode steps of `step_s` go on, on a pod `factor` times as slow as `costs`
    say."""
    return costs.token_s * factor + step_s / CHUNK_TOKENS


def outlook(prefilling: int, work: int, head_since: float, pace_s: float, step_s: float) -> tuple[float, float]:
    """When a pod could begin with one more prompt: the expected time, and the least wait in seconds, which holds even
    after that time. The time is 0.0 on a pod without prompts. A plain pair, because it is made for every change of
    every pod.

    `prefilling` requests, `work` together, wait for their first token. The engine has computed the first of them since
    `head_since`.
    """
    lull = step_s * LULL_STEPS
    if not work:
        return 0.0, lull
    due = head_since + work * pace_s + lull
    return due, (lull + work * pace_s * (BEHIND - BEHIND / prefilling) if prefilling > 1 else lull)


def start_in(due: float, least: float, now: float) -> float:
    """Seconds from `now` until a pod with that `outlook` could begin with one more prompt."""
    ahead = due - now
    if ahead < 0.0:
        ahead = ahead * -OVERDUE if due else 0.0
    return ahead if ahead > least else least


def others_weight(busy: float, waiting: float, pending_s: float) -> float:
    """Seconds by which a second of a request's own work delays the requests after it, all together.

    Nothing while some of `CHOICES` pods have no prompt; `busy` is the share of a pool's pods that have one. Else it
    delays about as many as wait on a pod, `waiting`, and more of them the longer its queue is: `pending_s` seconds.
    """
    return busy**CHOICES * ((waiting if waiting > 1.0 else 1.0) + pending_s)


def admission_s(tokens: float, capacity: float, more: float, stay_s: float) -> float:
    """Seconds until an engine with room for `capacity` tokens, `tokens` of them in use, has room for `more`.

    A pod frees all its tokens once in `stay_s`, the mean time of a request on it (Little's law); 0.0: none has ended.
    """
    missing = tokens + more - capacity
    if missing <= 0:
        return 0.0
    return (stay_s or STAY_S) * missing / max(tokens, 1)
