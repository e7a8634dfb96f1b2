"""What an engine's work takes, learned from the first tokens of streams: a pool's costs, and each pod's speed.

A sample is the time between two first tokens of a pod, or from a dispatch to the idle pod to its first token. The
parts of the cost model explain it: prefill, steps, their decoding requests, their context. Each part's multiple of its
prior is found by recursive least squares with exponential forgetting, in its information form: the prior is a ridge
that does not fade, so that what the traffic does not show stays as it was (Ljung, System Identification, 11.2).

Nothing learned is used on trust. Every sample is predicted before it is learned, by the prior and by the learned
numbers; these are used only while their errors are clearly smaller (prequential comparison: Dawid, JRSS A 147, 1984).
The same holds for a pod's own speed against its pool's.

Knows no pod, no request and no clock.
"""

from __future__ import annotations

from math import log
from typing import Final

from schedulers.ttft import IDLE_PACE_S, PRIOR, Costs, pace

SAMPLES: Final = 200
"""Samples after which one weighs 1/e."""

POD_SAMPLES: Final = 50
"""The same for a pod's own speed, which may change in the middle of a run."""

MOST: Final = 4.0
"""Most that a sample counts, as a multiple of its prediction. A prompt that waited for KV blocks is no measure."""

PRIOR_SAMPLES: Final = 4.0
"""Samples that the prior weighs as much as, in each part."""

POD_PRIOR: Final = 1.0
"""The same in a pod's speed."""

SOLVED_EVERY: Final = 16
"""Samples between two solutions of the equations."""

FEWEST: Final = 48
"""Samples of a pool before its learned costs may be used: enough for each part to have varied."""

POD_FEWEST: Final = 10
"""Samples of a pod before its speed may be used."""

BETTER: Final = 0.7
"""Learned costs are used once their mean error is below this fraction of the error without them, and until it is no
smaller. On the machine that the prior describes they predict a few percent better or worse by chance."""

POD_BETTER: Final = 0.7
"""The same for a pod's own speed, of fewer samples."""

SAME: Final = 1.4
"""Pods whose speeds differ by less count as equal machines: on a long prompt the difference would outweigh all that
waits on them, and what is measured depends on which prompts a pod happened to get."""

MOVED: Final = 0.1
"""Change of a part, as a fraction, from which new costs are published: each time all pods' cells are made anew."""

FADE_S: Final = 60.0
"""Seconds after which a pod's samples without newer ones weigh 1/e: a pod not picked because it was slow is tried
again."""

Parts = tuple[float, float, float, float]
"""Seconds by the prior: prefill, steps, their decoding requests, these requests' context."""

_LEAST, _MOST = 0.1, 10.0
"""Bounds of a part, as multiples of its prior."""


class ErrorPair:
    """Moving means of the absolute log errors with and without what was learned, and which of them is to be used."""

    __slots__ = ("count", "learned", "plain", "used")

    def __init__(self) -> None:
        self.count = 0
        self.plain = self.learned = 0.0
        self.used = False

    def add(self, plain: float, learned: float, samples: int, fewest: int, better: float) -> None:
        """Take the two errors of one more sample, in an average over about `samples`."""
        self.count += 1
        weight = 1.0 / min(self.count, samples)
        self.plain += weight * (plain - self.plain)
        self.learned += weight * (learned - self.learned)
        self.used = self.learned < self.plain * (1.0 if self.used else better) and self.count >= fewest


class PodSpeed:
    """One pod's time as a multiple of what its pool's costs say."""

    __slots__ = ("_errors", "_expected", "_took", "factor")

    def __init__(self) -> None:
        self.factor = 1.0
        """The multiple to be used; 1.0 unless the pod's samples show that another predicts better."""
        self._errors = ErrorPair()
        self._took = self._expected = POD_PRIOR

    def learn(self, ratio: float) -> None:
        """Take a sample: its time as a multiple of what the pool's costs say of it."""
        own = self._took / self._expected
        self._errors.add(abs(log(ratio)), abs(log(ratio / own)), POD_SAMPLES, POD_FEWEST, POD_BETTER)
        keep = 1.0 - 1.0 / POD_SAMPLES
        self._took = POD_PRIOR + (self._took - POD_PRIOR) * keep + min(ratio, MOST * own)
        self._expected = POD_PRIOR + (self._expected - POD_PRIOR) * keep + 1.0
        self._publish()

    def fade(self, over_s: float) -> None:
        """Let the samples fade: `over_s` seconds have passed."""
        keep = max(0.0, 1.0 - over_s / FADE_S)
        self._took = POD_PRIOR + (self._took - POD_PRIOR) * keep
        self._expected = POD_PRIOR + (self._expected - POD_PRIOR) * keep
        self._publish()

    def _publish(self) -> None:
        own = self._took / self._expected if self._errors.used else 1.0
        if 1.0 / SAME < own < SAME:
            self.factor = 1.0
        elif abs(own - self.factor) > MOVED * self.factor:
            self.factor = own

    def __repr__(self) -> str:
        return f"<PodSpeed {self._took / self._expected:.3g}, {self.factor:.3g} used>"


class CostModel:
    """A pool's costs."""

    __slots__ = ("_errors", "_factor", "_information", "_multiples", "_seen", "_since", "costs", "pace_s")

    def __init__(self) -> None:
        self.costs = PRIOR
        """To be used: the learned ones where they predict better."""
        self.pace_s = IDLE_PACE_S
        """`ttft.pace` of an idle pod at those."""
        self._errors = ErrorPair()
        self._factor = 1.0
        """Moving mean of the pods' factors."""
        self._multiples = [1.0, 1.0, 1.0, 1.0]
        self._information = [[0.0] * 4 for _ in range(4)]
        self._seen = [0.0] * 4
        self._since = 0

    def learn(self, pod: PodSpeed, took_s: float, parts: Parts) -> bool:
        """Take a sample: seconds, and what each part of it takes by the prior. True if `costs` changed."""
        prior_s = sum(parts)
        share = [part / prior_s for part in parts]
        learned = sum([each * multiple for each, multiple in zip(share, self._multiples, strict=True)])
        self._factor += (pod.factor - self._factor) / POD_SAMPLES
        ratio = took_s / prior_s * self._factor / pod.factor  # what all pods have in common is the pool's
        self._errors.add(abs(log(ratio)), abs(log(ratio / learned)), SAMPLES, FEWEST, BETTER)
        self._accumulate(share, min(ratio, MOST * learned))
        pod.learn(took_s / prior_s / learned)  # used or not: pods are compared with each other
        return self._publish()

    def _accumulate(self, share: list[float], ratio: float) -> None:
        keep = 1.0 - 1.0 / SAMPLES
        for at, row in enumerate(self._information):
            for other in range(4):
                row[other] = row[other] * keep + share[at] * share[other]
            self._seen[at] = self._seen[at] * keep + share[at] * ratio
        self._since += 1
        if self._since >= SOLVED_EVERY:
            self._since = 0
            self._multiples = ridge(self._information, self._seen)

    def _publish(self) -> bool:
        if not self._errors.used:
            wanted = PRIOR
        else:
            token, step, decoding, held = self._multiples
            wanted = Costs(PRIOR.token_s * token, PRIOR.step_s * step, PRIOR.decoding_s * decoding, PRIOR.held_s * held)
        if wanted == self.costs:
            return False
        moved = max(abs(new - old) / old for new, old in zip(wanted, self.costs, strict=True))
        if moved <= MOVED and wanted != PRIOR:
            return False
        self.costs = wanted
        self.pace_s = pace(wanted, 1.0, wanted.step_s)
        return True

    def __repr__(self) -> str:
        multiples = ", ".join(f"{each:.3g}" for each in self._multiples)
        used = "used" if self._errors.used else "not used"
        return f"<CostModel {multiples} x the prior, {used}, error {self._errors.learned:.3g}>"


def ridge(information: list[list[float]], seen: list[float]) -> list[float]:
    """The multiples that explain the samples best, pulled towards 1 by `PRIOR_SAMPLES`, within bounds."""
    size = len(seen)
    rows = [[*information[at], seen[at] + PRIOR_SAMPLES] for at in range(size)]
    for at in range(size):
        rows[at][at] += PRIOR_SAMPLES
    for at in range(size):  # Gauss-Jordan; the ridge makes every pivot positive
        pivot = rows[at][at]
        rows[at] = [each / pivot for each in rows[at]]
        for other in range(size):
            if other != at and (times := rows[other][at]):
                rows[other] = [each - times * mine for each, mine in zip(rows[other], rows[at], strict=True)]
    return [min(max(row[size], _LEAST), _MOST) for row in rows]
