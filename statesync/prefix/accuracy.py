"""What the prefix index believed of a pod, held against what the engine says it found; and how far to believe it next.

Engines evict by rules of their own, share their cache with what never came through here, and do not always say how much
it holds. So each pod has a trust: the share of its capacity that the index keeps. It shrinks by every belief that was
too high, the more the further off, and grows slowly by those that were not. Blocks of a wrong belief need no removal of
their own: by the time the engine has answered it has computed them anew; those as old as they were are what is gone.

Pure: told of answers and of reports, it knows no clock, no bytes and no index but the function that takes the trust.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from schedulers.types import PodId
from statesync.types import EngineReport

SHRINK: Final = 0.2
"""Of the trust goes so much for a belief of which nothing was true."""

RECOVERY: Final = 0.005
"""The trust below 1 gains so much of itself with each belief that was true."""

GROWTH: Final = 0.05
"""And so much with each that was too low: a tier that the engine does not report makes it hold more than it says.

Together they take an index that believes pods 2 or 5 times too big from 33 % and 48 % of belief untrue to 12 % and 15 %
(3.4 % with the right size), and cost one that is right 0.4 % of its hits: the simulated Mooncake conversation trace."""

LEAST: Final = 1 / 64
MOST: Final = 4.0

SLACK_TOKENS: Final = 256
"""A belief may be off by so much, or by an eighth of it, and be true: engines count in blocks of 16 to 128 tokens of
their own, the index in such of bytes, and two prompts under way at once may each compute what they share."""

WINDOW_TOKENS: Final = 50_000
"""Where an engine's answers do not say what was cached, its counters are looked at after so many prompt tokens."""


class PodAccuracy:
    """One pod's sums, in tokens; they only grow. And its trust."""

    __slots__ = ("asked", "believed", "counters", "error", "predicted", "true", "trust")

    def __init__(self) -> None:
        self.predicted = 0
        """Prompt tokens that the pod was believed to hold, of the answers that could be judged."""
        self.true = 0
        """Of the same prompts, what the engine found."""
        self.error = 0
        """Sum of the differences, whichever way each went."""
        self.trust = 1.0
        self.asked = 0
        """Prompt tokens of answers that did not say, since the counters were looked at."""
        self.believed = 0
        """Of these, believed to be held."""
        self.counters: tuple[int, int] | None = None
        """The engine's own: tokens looked up, tokens found."""


class PrefixAccuracy:
    """Judges the index, pod by pod."""

    def __init__(self, on_trust: Callable[[PodId, float], None]) -> None:
        """`on_trust` is told a pod's trust whenever it changes."""
        self._on_trust = on_trust
        self.pods: dict[PodId, PodAccuracy] = {}
        """Every pod that answered and was not forgotten since."""

    def judge(self, pod: PodId, believed: int, found: int) -> None:
        """An answer says that of its prompt so many tokens were found in the cache; so many were believed to be."""
        accuracy = self.pods.get(pod) or self._open(pod)
        accuracy.asked = accuracy.believed = 0  # the counters hold this answer too: one that says is judged by its word
        accuracy.counters = None
        self._judge(pod, accuracy, believed, found)

    def unjudged(self, pod: PodId, prompt: int, believed: int) -> None:
        """An answer does not say. Tokens of its prompt, and of these believed to be held."""
        accuracy = self.pods.get(pod) or self._open(pod)
        accuracy.asked += prompt
        accuracy.believed += believed

    def on_report(self, pod: PodId, report: EngineReport) -> None:
        """The engine's counters: where answers do not say, the rate at which it found tokens is the truth of all."""
        asked, found = report.prefix_queries_tokens, report.prefix_hits_tokens
        accuracy = self.pods.get(pod)
        if accuracy is None or asked is None or found is None:
            return
        before = accuracy.counters
        if before is None or asked < before[0] or found < before[1]:
            accuracy.counters, accuracy.asked, accuracy.believed = (asked, found), 0, 0
            return
        if accuracy.asked < WINDOW_TOKENS or asked == before[0]:
            return
        # What others sent there is in the counters too, so a rate is compared and not a sum.
        share = (found - before[1]) / (asked - before[0])
        self._judge(pod, accuracy, accuracy.believed, int(accuracy.asked * min(1.0, share)))
        accuracy.counters, accuracy.asked, accuracy.believed = (asked, found), 0, 0

    def forget(self, pods: Collection[PodId]) -> None:
        """These are gone for good."""
        for pod in pods:
            self.pods.pop(pod, None)

    def restarted(self, pod: PodId) -> None:
        """The engine is a new process: what the old one held says nothing of this one's trust. The sums stay."""
        accuracy = self.pods.get(pod)
        if accuracy is not None:
            accuracy.trust, accuracy.counters, accuracy.asked, accuracy.believed = 1.0, None, 0, 0

    def _judge(self, pod: PodId, accuracy: PodAccuracy, believed: int, found: int) -> None:
        accuracy.predicted += believed
        accuracy.true += found
        accuracy.error += abs(believed - found)
        trust = judged(accuracy.trust, believed, found)
        if trust != accuracy.trust:
            accuracy.trust = trust
            self._on_trust(pod, trust)

    def _open(self, pod: PodId) -> PodAccuracy:
        accuracy = self.pods[pod] = PodAccuracy()
        return accuracy


def judged(trust: float, believed: int, found: int) -> float:
    """The trust after a belief of so many tokens, of which so many were found."""
    over = believed - found
    if abs(over) > max(SLACK_TOKENS, believed // 8):
        change = -SHRINK * over / believed if over > 0 else GROWTH
        return min(MOST, max(LEAST, trust * (1 + change)))
    if believed and trust < 1.0:
        return min(1.0, trust * (1 + RECOVERY))
    return trust
