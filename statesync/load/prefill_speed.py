"""How fast pods compute prompts, learned from their first tokens. Pure.

Ratios of sums, not means of ratios: of two prompts that one step completes, the second seems to have taken nothing. The
sums forget, and what few samples say is drawn towards what is known without them.

A pool learns what prompts of each size take; a pod how many times that it takes. Apart, because the cost model fits no
engine at every size: were a pod's pace taken from its own prompts alone, one that happened to get the long ones would
look fast (or slow), and get more of them. What is told of both goes in steps: a long prompt costs seconds everywhere,
so that a few percent between equal machines, which are noise, would outweigh all that waits on them.
"""

from __future__ import annotations

from math import log2
from typing import Final

from schedulers.ttft import PACE_S

SAMPLES: Final = 100
"""First tokens that make most of what was learned of a pod, or of a size."""

PRIOR_S: Final = 1.0
"""Seconds of prefill after which the samples count as much as what was known without them: two or three prompts."""

MOST: Final = 4.0
"""A sample counts at most so many times what was expected. A prompt that waited for KV blocks, or behind others that
are not known here, says little of the pace, and a pod that looks slow gets few samples to mend it."""

FADE_S: Final = 60.0
"""What is not renewed counts 1/e after so long: a pod nobody picks because it was slow is tried again."""

STEPS: Final = 4
"""Of a doubling: 19 % each."""

SIZES: Final = 24
"""Sizes of prompts that are told apart, by doubling."""


class SpeedRatio:
    """How many times as long as expected things take."""

    __slots__ = ("_expected_s", "_keep", "_took_s", "value")

    def __init__(self, samples: int = SAMPLES) -> None:
        self.value = 1.0
        self._keep = 1.0 - 1.0 / samples
        self._took_s = self._expected_s = 0.0

    def learn(self, took_s: float, expected_s: float) -> None:
        """One of them; `expected_s` is above 0."""
        most = MOST * self.value * expected_s
        self._took_s = self._took_s * self._keep + (took_s if took_s < most else most)
        self._expected_s = self._expected_s * self._keep + expected_s
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def fade(self, over_s: float) -> None:
        """So much time has passed."""
        keep = max(0.0, 1.0 - over_s / FADE_S)
        self._took_s *= keep
        self._expected_s *= keep
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def step(self) -> float:
        """The value to the nearest step: the same for machines that are equal."""
        return float(2.0 ** (round(STEPS * log2(self.value)) / STEPS))

    def __repr__(self) -> str:
        return f"<Ratio {self.value:.3g} from {self._expected_s:.3g} s>"


class PrefillSpeed:
    """What a pool's prompts take."""

    __slots__ = ("_by_size", "_overall", "s")

    def __init__(self) -> None:
        self.s = PACE_S
        """Seconds a token equivalent takes on a pod of ratio 1, in steps."""
        self._overall = SpeedRatio(10 * SAMPLES)
        self._by_size = [SpeedRatio() for _ in range(SIZES)]

    def learn(self, pod: SpeedRatio, took_s: float, work: float) -> bool:
        """So much work took so long on a pod: taken into its ratio, and into this. True if `s` changed."""
        expected_s = work * PACE_S
        size = self._by_size[min(int(work).bit_length(), SIZES) - 1]
        pod.learn(took_s, expected_s * size.value)
        took_s /= pod.value
        size.learn(took_s, expected_s)
        self._overall.learn(took_s, expected_s)
        pace_s = PACE_S * self._overall.step()
        if pace_s == self.s:
            return False
        self.s = pace_s
        return True

    def __repr__(self) -> str:
        return f"<PoolPace {1 / self.s:.0f} token equivalents/s, {self._overall!r}>"
