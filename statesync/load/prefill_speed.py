"""How fast pods compute prompts, learned from their first tokens. Pure.

Ratios of sums, not means of ratios: of two prompts that one step completes, the second seems to take no time. Old
samples decay, and a ratio from few samples is close to the prior.

A pool learns the time of prompts of each size, a pod its ratio to that. They are separate because the cost model fits
no engine at every size: if a pod's pace were learned from its own prompts alone, a pod that happened to get the long
ones would look fast (or slow), and get more of them. Both are rounded to steps: a long prompt costs seconds on every
pod, so a difference of a few percent between equal machines, which is noise, would outweigh all that waits on them.
"""

from __future__ import annotations

from math import log2
from typing import Final

from schedulers.ttft import PACE_S

SAMPLES: Final = 100
"""First tokens after which a sample of a pod, or of a size, weighs 1/e."""

PRIOR_S: Final = 1.0
"""Seconds of prefill after which the samples weigh as much as the prior ratio of 1: two or three prompts."""

MOST: Final = 4.0
"""Most that a sample counts, as a multiple of the expected time. A prompt that waited for KV blocks, or behind requests
unknown here, says little about the pace, and a pod that looks slow gets few samples to correct it."""

FADE_S: Final = 60.0
"""Seconds after which samples without newer ones weigh 1/e: a pod not picked because it was slow is tried again."""

STEPS: Final = 4
"""Steps in a doubling of the ratio: 19 % each."""

SIZES: Final = 24
"""Classes of prompt sizes, each twice the one before."""


class SpeedRatio:
    """The ratio of measured times to expected ones."""

    __slots__ = ("_expected_s", "_keep", "_took_s", "value")

    def __init__(self, samples: int = SAMPLES) -> None:
        self.value = 1.0
        self._keep = 1.0 - 1.0 / samples
        self._took_s = self._expected_s = 0.0

    def learn(self, took_s: float, expected_s: float) -> None:
        """Take one sample; `expected_s` is above 0."""
        most = MOST * self.value * expected_s
        self._took_s = self._took_s * self._keep + (took_s if took_s < most else most)
        self._expected_s = self._expected_s * self._keep + expected_s
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def fade(self, over_s: float) -> None:
        """Let the samples fade: `over_s` seconds have passed."""
        keep = max(0.0, 1.0 - over_s / FADE_S)
        self._took_s *= keep
        self._expected_s *= keep
        self.value = (PRIOR_S + self._took_s) / (PRIOR_S + self._expected_s)

    def step(self) -> float:
        """The value rounded to a step: the same for equal machines."""
        return float(2.0 ** (round(STEPS * log2(self.value)) / STEPS))

    def __repr__(self) -> str:
        return f"<SpeedRatio {self.value:.3g} from {self._expected_s:.3g} s>"


class PrefillSpeed:
    """The time that a pool's prompts take."""

    __slots__ = ("_by_size", "_overall", "s")

    def __init__(self) -> None:
        self.s = PACE_S
        """Seconds a token equivalent takes on a pod of ratio 1, rounded to a step."""
        self._overall = SpeedRatio(10 * SAMPLES)
        self._by_size = [SpeedRatio() for _ in range(SIZES)]

    def learn(self, pod: SpeedRatio, took_s: float, work: float) -> bool:
        """Take a prefill of `work` that took `took_s` on a pod, into its ratio and the pool's. True if `s` changed."""
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
        return f"<PrefillSpeed {1 / self.s:.0f} token equivalents/s, {self._overall!r}>"
