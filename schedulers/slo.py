"""Promised times: how likely they are kept, and what one more request on a pod does to those that it holds. Numbers in,
numbers out; knows no pod, no policy and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schedulers.ttft import PRIOR

STRETCH: Final = 1.5
"""Mean time between two tokens over that of a decode step without a prompt in it: steps that compute part of a prompt
are longer. On recorded traffic it is 1.2 to 2, and goodput is flat between."""

NEVER: Final = 1000.0
"""A time that is expected to be this many times the promised one is not kept."""

REST: Final = 1 / 3
"""Fraction of the mean time of decoding that is left to a request that decodes, in which a prompt may hold it up."""

DECODES_S: Final = 6.0
"""Seconds a request is assumed to decode on a pod on which none has ended yet."""

LEAST_DECODES_S: Final = 0.3
"""Seconds a request decodes at least."""

MOST_PRIORITY: Final = 6
"""Priorities beyond this, up or down, weigh like it."""


def weight(priority: int) -> float:
    """What a kept promise is worth; twice as much for each step of priority."""
    return float(2.0 ** max(-MOST_PRIORITY, min(MOST_PRIORITY, priority)))


def kept(expected_s: float, promised_s: float) -> float:
    """How likely a time is kept, from 1 to 0; 1 where nothing was promised.

    Expectations are right to a third or so: at two thirds of the promised time 92 % are kept, at 1.5 times 8 %. The
    power of the ratio says how soon a promise is lost around it. Goodput is flat between 4 and 8; it is 6 here.
    """
    if promised_s <= 0.0 or expected_s <= 0.0:
        return 1.0
    if expected_s > NEVER * promised_s:
        return 0.0
    ratio = expected_s / promised_s
    cube = ratio * ratio * ratio  # compiled, `**` takes as long as all the rest
    return 1.0 / (1.0 + cube * cube)


def token_s(requests: int, tokens: float, slower: float) -> float:
    """Expected seconds between two tokens on a pod with these requests and their tokens, whose decode steps take
    `slower` times as long as the prior's."""
    return PRIOR.decode_step_s(requests, tokens) * slower * STRETCH


def rest_s(e2e_s: float, ttft_s: float) -> float:
    """Seconds left to the requests that decode on a pod, from its mean times (0.0: none has ended)."""
    decodes_s = e2e_s - ttft_s if e2e_s > 0.0 else DECODES_S
    return REST * (decodes_s if decodes_s > LEAST_DECODES_S else LEAST_DECODES_S)


def broken(promised: Sequence[tuple[float, float]], before_s: float, after_s: float) -> float:
    """Promises expected to be lost, by weight, as the time between two tokens grows from one to the other."""
    lost = 0.0
    for each, its_weight in promised:
        lost += its_weight * (kept(before_s, each) - kept(after_s, each))
    return lost
