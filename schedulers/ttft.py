"""The cost model of `prefix_aware`, the parts of a time to first token: numbers in, numbers out. Knows no pod, no
policy and no clock.

Work is counted in token equivalents: one is the time that a prompt's first token takes. The seconds it takes on a pod,
the pod's pace, are learned by the caller. So the constants below are ratios of an engine's own costs, which hardly
differ between machines, as the same card does all of a step. They are those of an 8B model on one H100 (prefill 24,600
tokens/s; a decode step 6 ms + 50 us a request + 56 ns a token of context; attention 1.3 ns a pair of tokens). Where
they do not fit, the learned pace corrects for it.
"""

from __future__ import annotations

from typing import Final

CONTEXT_TOKENS: Final = 32_000
"""Tokens of context at which a prompt's token costs twice as much, because attention reads them all.

2 FLOPs a parameter against 4 x hidden size x layers a token of context: 31,000 at 8B, 53,000 at 70B.
"""

PACE_S: Final = 1 / 24_000
"""Seconds a token equivalent takes, before any is learned."""

STEP_WORK: Final = 148.0
"""Token equivalents of a decode step without requests: each chunk of a prompt shares its step with one."""

DECODING_WORK: Final = 1.2
"""Token equivalents that each decoding request adds to a step."""

HELD_WORK: Final = 0.0014
"""Token equivalents that each token of their context adds to a step."""

CHUNK_TOKENS: Final = 2048
"""Prompt tokens that a step computes at most."""

LULL_STEPS: Final = 2.0
"""Decode steps that delay a prefill: the one under way when it arrives, and its own. The exact number predicts no
better."""

BEHIND: Final = 0.5
"""Fraction of the work behind the head of a pod's queue that counts even when all of it is overdue.

Progress is only known when a first token comes back. A pod that has not answered for longer than its work takes may be
about to answer, or may hang, or wait for KV blocks. It must not look idle, or it would attract every request.
"""

OTHERS_WEIGHT: Final = 1.0
"""Weight of a request's own uncached work as a delay of the requests after it, beside its own wait.

Counted at the pace of the average pod, not of that one: a pod that takes twice as long gets half as many requests.
"""

QUEUE_WEIGHT: Final = 1.0
"""Growth of that weight with each second of prefill that waits on the average pod: a longer queue has more requests to
delay."""

ANSWER_TOKENS: Final = 256
"""Answer tokens assumed for a request without `max_tokens`."""

STAY_S: Final = 8.0
"""Seconds a request is assumed to stay on a pod on which none has ended yet."""


def prefill_work(uncached: int, cached: int) -> int:
    """Token equivalents of computing `uncached` tokens after `cached` ones.

    Negative counts are 0. At least one token is always computed: its output is the answer's first token.
    """
    if uncached < 1:
        uncached = 1
    return uncached + uncached * (2 * cached + uncached) // (2 * CONTEXT_TOKENS)


def step_work(decoding: int, tokens: int) -> float:
    """Token equivalents of a decode step of `decoding` requests with `tokens` of context together."""
    return STEP_WORK + DECODING_WORK * decoding + HELD_WORK * tokens


def outlook(
    inflight: int, tokens: int, prefilling: int, work: int, head_since: float, pace_s: float
) -> tuple[float, float]:
    """When a pod could begin with one more prompt: the expected time, and the least wait in seconds, which holds even
    after that time. A plain pair, because it is made for every change of every pod.

    `prefilling` of the `inflight` requests, `work` together, wait for their first token. The engine has computed the
    first of them since `head_since`.
    """
    lull = (STEP_WORK + DECODING_WORK * (inflight - prefilling) + HELD_WORK * tokens) * (LULL_STEPS * pace_s)
    if not work:
        return 0.0, lull
    due = head_since + work * pace_s + lull
    return due, (lull + work * pace_s * (BEHIND - BEHIND / prefilling) if prefilling > 1 else lull)


def first_token_work(work: int, uncached: int, step: float) -> float:
    """Token equivalents from the head of the queue to a prompt's first token, decode steps meanwhile included."""
    return work + step * (0.5 + uncached / CHUNK_TOKENS)


def admission_s(tokens: int, capacity: int, more: int, stay_s: float) -> float:
    """Seconds until an engine with room for `capacity` tokens, `tokens` of them in use, has room for `more`.

    A pod frees all its tokens once in `stay_s`, the mean time of a request on it (Little's law); 0.0: none has ended.
    """
    missing = tokens + more - capacity
    if missing <= 0:
        return 0.0
    return (stay_s or STAY_S) * missing / max(tokens, 1)
