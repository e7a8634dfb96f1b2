"""What a time to first token is made of: the cost model of `prefix_aware`, numbers in and numbers out.

Work is counted in token equivalents, the time a prompt's first token takes; what a token equivalent takes on a pod, its
pace, is learned by whoever calls this. So the constants below are ratios of an engine's own costs, which hardly differ
between machines: all of a step is done by the same card. They are those of an 8B model on one H100 (prefill 24,600
tokens/s; a decode step 6 ms + 50 us a request + 56 ns a token of context; attention 1.3 ns a pair of tokens); where
they do not fit, the pace makes up for it. Knows no pod, no policy and no clock.
"""

from __future__ import annotations

from typing import Final

CONTEXT_TOKENS: Final = 32_000
"""Tokens of context before it that make a prompt's token cost twice as much: attention reads them all.

2 FLOPs a parameter against 4 x hidden size x layers a token of context: 31,000 at 8B, 53,000 at 70B.
"""

PACE_S: Final = 1 / 24_000
"""Seconds a token equivalent takes, before anything was learned."""

STEP_WORK: Final = 148.0
"""A decode step's fixed part: while a prompt is computed in chunks, each chunk's step decodes as well."""

DECODING_WORK: Final = 1.2
"""What each decoding request adds to a step."""

HELD_WORK: Final = 0.0014
"""What each token of their context adds."""

CHUNK_TOKENS: Final = 2048
"""Prompt tokens that a step computes."""

LULL_STEPS: Final = 2.0
"""Steps that a batch costs a prefill: the one under way when it comes, and its own. As good as their exact number."""

BEHIND: Final = 0.5
"""Of what waits behind the head of a pod's queue, the share that is still ahead even if it should be done by now.

Progress is only known when a first token comes back. A pod that has not answered for longer than its work takes may
be about to, or may hang, or wait for KV blocks: it must not look idle, or it would draw all that comes.
"""

OTHERS_WEIGHT: Final = 1.0
"""How often a request's own uncached work counts beyond its own wait: for whoever comes next to that pod.

In seconds of the average pod, not of that one: to a pod that takes twice as long half as many come next.
"""

QUEUE_WEIGHT: Final = 1.0
"""How much that grows with each second of prefill that waits on the average pod: in a queue, more are delayed by it."""

ANSWER_TOKENS: Final = 256
"""Answer tokens assumed of a request that sets no `max_tokens`."""

STAY_S: Final = 8.0
"""How long a request is on its pod, as long as none has ended yet."""


def prefill_work(uncached: int, cached: int) -> int:
    """What it takes to compute `uncached` tokens after `cached` ones, in token equivalents.

    Negative counts are none; one token always is computed: its output is the answer.
    """
    if uncached < 1:
        uncached = 1
    return uncached + uncached * (2 * cached + uncached) // (2 * CONTEXT_TOKENS)


def step_work(decoding: int, tokens: int) -> float:
    """What one decode step of so many requests with so many tokens together costs a prefill."""
    return STEP_WORK + DECODING_WORK * decoding + HELD_WORK * tokens


def outlook(
    inflight: int, tokens: int, prefilling: int, work: int, head_since: float, pace_s: float
) -> tuple[float, float]:
    """When a pod could begin with one more prompt: the time at which, should all go as expected, it would, and the
    seconds it has at least to wait, however late it is. A plain pair, because it is made for every change of every pod.

    `prefilling` of the `inflight` requests, `work` together, wait for their first token; the head of them is computed
    since `head_since`.
    """
    lull = (STEP_WORK + DECODING_WORK * (inflight - prefilling) + HELD_WORK * tokens) * (LULL_STEPS * pace_s)
    if not work:
        return 0.0, lull
    due = head_since + work * pace_s + lull
    return due, (lull + work * pace_s * (BEHIND - BEHIND / prefilling) if prefilling > 1 else lull)


def first_token_work(work: int, uncached: int, step: float) -> float:
    """What a prompt costs from head of the queue to its first token, the decode steps meanwhile included."""
    return work + step * (0.5 + uncached / CHUNK_TOKENS)


def admission_s(tokens: int, capacity: int, more: int, stay_s: float) -> float:
    """Seconds until an engine that holds `capacity` tokens, and `tokens` of requests, has room for `more`; 0 if it has.

    A pod gives back its tokens once in the time that a request stays (Little's law). 0.0: none has ended yet.
    """
    missing = tokens + more - capacity
    if missing <= 0:
        return 0.0
    return (stay_s or STAY_S) * missing / max(tokens, 1)
