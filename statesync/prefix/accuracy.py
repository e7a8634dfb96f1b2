"""Compares the prefix index's predictions for a pod with the cached tokens that the engine reports, and derives a trust
in the next predictions.

Engines evict by their own rules, share their cache with requests that no gateway sent, and do not always report how
much it holds. So each pod has a trust: the share of its capacity that the index keeps. A prediction that was too high
lowers it, by the size of the error; others raise it slowly. The blocks of a wrong prediction need not be removed: when
the answer arrives the engine has computed them again. It is blocks of that age which are gone.

Pure: it knows no clock, no bytes and no index, only the function that takes the trust.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from schedulers.types import PodId
from statesync.types import EngineReport

SHRINK: Final = 0.05
"""Fraction of trust lost on a fully wrong prediction."""

RECOVERY: Final = 0.005
"""Fraction by which a trust below 1 grows on each right prediction."""

GROWTH: Final = 0.02
"""Fraction by which the trust grows on a prediction that was too low: with a cache tier that the engine does not report
a pod holds more than it says.

On the simulated Mooncake conversation trace, with capacities set 2 or 5 times too high, the three take the wrongly
predicted tokens from 33 % and 48 % to 12 % and 15 % (3.4 % with the right capacity). With the right capacity they cost
0.4 % of the hits."""

LEAST: Final = 1 / 64
"""Lower bound of the trust."""

MOST: Final = 4.0
"""Upper bound of the trust."""

SLACK_TOKENS: Final = 256
"""Tokens by which a prediction may be off and still be right; or an eighth of it, if that is more. Engines count in
blocks of 16 to 128 tokens, the index in blocks of bytes, and two concurrent prompts may both compute a shared
prefix."""

WINDOW_TOKENS: Final = 50_000
"""Prompt tokens after which an engine's counters are compared, if its answers do not report cached tokens."""


class PodAccuracy:
    """One pod's sums, in tokens, which only grow, and its trust."""

    __slots__ = ("asked", "counters", "error", "expected", "predicted", "reported", "true", "trust")

    def __init__(self) -> None:
        self.predicted = 0
        """Predicted cached tokens of the answers that could be judged."""
        self.true = 0
        """Cached tokens of the same prompts, by the engine."""
        self.error = 0
        """Sum of the absolute differences."""
        self.trust = 1.0
        self.asked = 0
        """Prompt tokens sent to it since the last comparison of counters, or the last answer that was judged."""
        self.expected = 0
        """Predicted cached tokens of the same prompts."""
        self.counters: tuple[int, int] | None = None
        """The engine's counters at that comparison: tokens looked up, tokens found."""
        self.reported = (0, 0)
        """The same at its last report, for display."""


class PrefixAccuracy:
    """Judges the index, pod by pod."""

    def __init__(self, on_trust: Callable[[PodId, float], None]) -> None:
        """`on_trust` is called with a pod's trust whenever it changes."""
        self._on_trust = on_trust
        self.pods: dict[PodId, PodAccuracy] = defaultdict(PodAccuracy)
        """Every pod that got a request since it was last forgotten. Dispatch adds to `asked` and `expected`."""

    def judge(self, pod: PodId, expected: int, found: int) -> None:
        """Take an answer that reports the cached tokens of its prompt: `expected` were predicted, `found` were
        cached."""
        accuracy = self.pods[pod]
        accuracy.asked = accuracy.expected = 0  # the counters contain this answer, too: it must not be judged twice
        accuracy.counters = None
        self._judge(pod, accuracy, expected, found)

    def on_report(self, pod: PodId, report: EngineReport) -> None:
        """Take the engine's counters: if its answers do not report cached tokens, the predictions are judged by
        these."""
        asked, found = report.prefix_queries_tokens, report.prefix_hits_tokens
        accuracy = self.pods.get(pod)
        if accuracy is None or asked is None or found is None:
            return
        before, accuracy.reported = accuracy.counters, (asked, found)
        if before is None or asked < before[0] or found < before[1]:
            accuracy.counters, accuracy.asked, accuracy.expected = (asked, found), 0, 0
            return
        if accuracy.asked < WINDOW_TOKENS or asked == before[0]:
            return
        # Foreign requests are in the counters, too, so rates are compared instead of sums.
        share = (found - before[1]) / (asked - before[0])
        self._judge(pod, accuracy, accuracy.expected, int(accuracy.asked * min(1.0, share)))
        accuracy.counters, accuracy.asked, accuracy.expected = (asked, found), 0, 0

    def forget(self, pods: Collection[PodId]) -> None:
        """Drop pods that are gone for good."""
        for pod in pods:
            self.pods.pop(pod, None)

    def restarted(self, pod: PodId) -> None:
        """The engine is a new process: its trust starts again. The sums stay."""
        accuracy = self.pods.get(pod)
        if accuracy is not None:
            accuracy.trust, accuracy.counters, accuracy.asked, accuracy.expected = 1.0, None, 0, 0

    def _judge(self, pod: PodId, accuracy: PodAccuracy, expected: int, found: int) -> None:
        accuracy.predicted += expected
        accuracy.true += found
        accuracy.error += abs(expected - found)
        trust = judged(accuracy.trust, expected, found)
        if trust != accuracy.trust:
            accuracy.trust = trust
            self._on_trust(pod, trust)


def judged(trust: float, expected: int, found: int) -> float:
    """The trust after a prediction of `expected` tokens, of which `found` were cached."""
    over = expected - found
    if abs(over) > max(SLACK_TOKENS, expected // 8):
        change = -SHRINK * over / expected if over > 0 else GROWTH
        return min(MOST, max(LEAST, trust * (1 + change)))
    if expected and trust < 1.0:
        return min(1.0, trust * (1 + RECOVERY))
    return trust
