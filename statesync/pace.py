"""How fast pods compute prompts, learned from their first tokens: seconds a token equivalent takes. Pure.

A ratio of sums, not a mean of ratios: of two prompts that one step completes, the second seems to have taken nothing.
The sums forget, and what few samples say is drawn towards what is known without them: for a pod, its pool's pace.

What is told of it goes in steps. A long prompt costs seconds everywhere, so that a few percent between equal machines,
which are noise, would outweigh all that waits on them: with exact values the mean time to first token was 13 % worse.
"""

from __future__ import annotations

from math import log2
from typing import Final

from schedulers.ttft import PACE_S

POD_SAMPLES: Final = 100
"""First tokens that make most of a pod's pace; the pool's has ten times as many."""

PRIOR_WORK: Final = 20_000
"""Token equivalents after which the samples count as much as what was known without them: two or three prompts."""

MOST: Final = 4.0
"""A sample counts at most so many times what was expected. A prompt that waited for KV blocks, or behind others that
are not known here, says little of the pace, and a pod that looks slow gets few samples to mend it."""

FADE_S: Final = 60.0
"""What is not renewed counts 1/e after so long: a pod nobody picks because it was slow is tried again."""

STEPS: Final = 4
"""Of a doubling: 19 % each."""


class Pace:
    """What was learned, and what it comes to."""

    __slots__ = ("_keep", "_seconds", "_work", "s")

    def __init__(self, samples: int = POD_SAMPLES, s: float = PACE_S) -> None:
        self.s = s
        """Seconds a token equivalent takes."""
        self._keep = 1.0 - 1.0 / samples
        self._seconds = self._work = 0.0

    def learn(self, seconds: float, work: float, prior_s: float) -> None:
        """So much work took so long; `work` is above 0. `prior_s` is the pace that is known without samples."""
        most = MOST * self.s * work
        self._seconds = self._seconds * self._keep + (seconds if seconds < most else most)
        self._work = self._work * self._keep + work
        self.s = (prior_s * PRIOR_WORK + self._seconds) / (PRIOR_WORK + self._work)

    def fade(self, over_s: float, prior_s: float) -> None:
        """So much time has passed."""
        keep = max(0.0, 1.0 - over_s / FADE_S)
        self._seconds *= keep
        self._work *= keep
        self.s = (prior_s * PRIOR_WORK + self._seconds) / (PRIOR_WORK + self._work)

    def factor(self, of_s: float) -> float:
        """How many times another pace this one is, to the nearest step; equal machines are 1.0 to each other."""
        return float(2.0 ** (round(STEPS * log2(self.s / of_s)) / STEPS))

    def __repr__(self) -> str:
        return f"<Pace {1 / self.s:.0f} token equivalents/s from {self._work:.0f}>"
