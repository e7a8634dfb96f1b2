"""Evidence that may be looked at at any time. Pure: counts in, log e-values and bounds out; knows no policy and no
trial.

An e-process is a statistic that, under its hypothesis, is 1 / alpha or more at any time, ever, with a probability of
at most alpha: a test may look after every request and stop when it likes (A. Ramdas, P. Grünwald, V. Vovk, G. Shafer,
"Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38 (2023)). All here are mixture
likelihood ratios (H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of
Mathematical Statistics 41 (1970); the mixture SPRT of R. Johari, P. Koomen, L. Pekelis, D. Walsh, Operations Research
70 (2022)): a beta mixture of binomial likelihoods over the largest likelihood that the hypothesis allows (L.
Wasserman, A. Ramdas, S. Balakrishnan, "Universal inference", PNAS 117 (2020)). The limits that are not refuted are a
confidence sequence (S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, Annals of Statistics 49 (2021)).

Counts need not be whole: those of requests that are alike, such as a session's, are divided by their design effect
(E. Korn and B. Graubard, Survey Methodology 24 (1998)); see `clusters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from router.trials.durations import Counts

_HALVINGS: Final = 40
_LOOSE: Final = 14
"""Steps of a search: 1e-12 and 6e-5 of the range is left."""

_WIDEST: Final = math.log(1000.0)
"""Ratios of two durations are sought up to 1,000 and down to a thousandth."""


class Prior(NamedTuple):
    """A beta distribution: which shares the mixture expects."""

    a: float
    b: float


_ANY: Final = Prior(1.0, 1.0)

RARE: Final = (Prior(0.1, 2.0), _ANY)
"""Of failures under the policy in force: mostly none, else any share."""

SUSPECT: Final = (Prior(1.0, 15.0), _ANY)
"""Of a candidate's failures: mostly a few percent, else any share."""


class Tally(NamedTuple):
    """Hits, of a number of effective requests."""

    hits: float
    of: float

    @property
    def share(self) -> float:
        """0.0 of none."""
        return self.hits / self.of if self.of else 0.0


class Interval(NamedTuple):
    """An estimate and its bounds; `high` is inf, or `low` 0.0, where the data allow none."""

    value: float
    low: float
    high: float


def against_excess(one: Tally, other: Tally, limit: float, *, above: bool) -> float:
    """The log evidence that the first share exceeds the second by more than `limit` (`above`), or by less."""
    mixed = _mixture(one, SUSPECT) + _mixture(other, RARE)
    found = one.share - other.share
    if found <= limit if above else found >= limit:
        return mixed - _likelihood(one, one.share) - _likelihood(other, other.share)
    # The hypothesis fits best at its edge, where the shares differ by `limit`.
    low, high = max(0.0, -limit), min(1.0, 1.0 - limit)
    share = _bisect(lambda p: _slope(other, p) + _slope(one, p + limit) > 0, low, high)
    return mixed - _likelihood(other, share) - _likelihood(one, share + limit)


def excess(one: Tally, other: Tally, log_odds: float) -> Interval:
    """The difference of two shares; each bound is wrong at any time with a probability of at most exp(-log_odds)."""
    found = one.share - other.share
    low = _bisect(lambda d: against_excess(one, other, d, above=True) >= log_odds, -1.0, found, _LOOSE)
    high = _bisect(lambda d: against_excess(one, other, d, above=False) < log_odds, found, 1.0, _LOOSE)
    return Interval(found, low, high)


def share(of: Tally, log_odds: float) -> Interval:
    """A share by itself, with bounds likewise."""

    def refuted(p: float) -> bool:
        return _mixture(of, SUSPECT) - _likelihood(of, p) >= log_odds

    found = of.share
    return Interval(found, _bisect(refuted, 0.0, found), _bisect(lambda p: not refuted(p), found, 1.0))


class Quantile(NamedTuple):
    """A quantile that two arms are compared by, and what the mixtures expect of the share beyond a point near it."""

    q: float
    known: Sequence[Prior]
    """Of the arm to compare with."""
    tried: Sequence[Prior]
    """Of the arm that is compared."""

    @property
    def beyond(self) -> float:
        """The share of durations that are longer."""
        return 1.0 - self.q


P50: Final = Quantile(0.5, (Prior(20.0, 20.0),), (Prior(3.0, 3.0),))
P95: Final = Quantile(0.95, (Prior(4.0, 76.0),), (Prior(1.0, 12.0),))


class Tail:
    """How many durations of an arm are longer than a point, which may lie inside a bucket."""

    __slots__ = ("_above", "_first", "_weight", "of")

    def __init__(self, counts: Counts, weight: float) -> None:
        """Each duration counts as `weight` effective ones; there is at least one."""
        self._first, last = min(counts), max(counts)
        above = [0.0]
        for at in range(last, self._first - 1, -1):
            above.append(above[-1] + counts.get(at, 0))
        self._above = above[::-1]
        self._weight = weight
        self.of = self._above[0] * weight

    @property
    def span(self) -> tuple[float, float]:
        """From the lower edge of the first bucket to the upper edge of the last one."""
        return self._first, self._first + len(self._above) - 1

    def beyond(self, edge: float) -> Tally:
        """Those beyond this edge, in buckets; evenly spread inside one."""
        place = edge - self._first
        if place <= 0:
            return Tally(self.of, self.of)
        at = int(place)
        if at >= len(self._above) - 1:
            return Tally(0.0, self.of)
        here, there = self._above[at], self._above[at + 1]
        return Tally((here + (there - here) * (place - at)) * self._weight, self.of)

    def edge(self, share: float) -> float:
        """The point beyond which this share of the durations is."""
        low, high = self.span
        return _bisect(lambda edge: self.beyond(edge).hits > share * self.of, low, high)


def against_shift(one: Tail, other: Tail, of: Quantile, shift: float, *, above: bool) -> float:
    """The log evidence that the first arm's quantile is more than `shift` buckets beyond the other's (`above`), or
    less.

    Wherever the other's quantile is, one of two things is unlikely if the hypothesis holds: the number of its own
    durations that are longer, or the number of the first arm's that are longer than that point moved by `shift`. The
    least evidence over all points counts.
    """
    beyond = of.beyond

    def at(edge: float) -> float:
        known, tried = other.beyond(edge), one.beyond(edge + shift)
        evidence = _mixture(known, of.known) - _likelihood(known, beyond) + _mixture(tried, of.tried)
        unlike = tried.share > beyond if above else tried.share < beyond
        return evidence - _likelihood(tried, beyond if unlike else tried.share)

    # Evidence grows with the distance from where the hypothesis fits best: between the two arms' own quantiles.
    ends = sorted((other.edge(beyond), one.edge(beyond) - shift))
    return _least(at, ends[0], ends[1])


def shift(one: Tail, other: Tail, of: Quantile, log_odds: float, per_log: float) -> Interval:
    """The ratio of two quantiles with bounds as of `excess`; `per_log` is the number of buckets of a factor of e."""
    found, most = one.edge(of.beyond) - other.edge(of.beyond), _WIDEST * per_log
    low = _bisect(lambda by: against_shift(one, other, of, by, above=True) >= log_odds, -most, found, _LOOSE)
    high = _bisect(lambda by: against_shift(one, other, of, by, above=False) < log_odds, found, most, _LOOSE)
    lowest, highest = math.exp(low / per_log), math.exp(high / per_log)
    return Interval(
        math.exp(found / per_log), lowest if low > 0.01 - most else 0.0, highest if high < most - 0.01 else math.inf
    )


def _mixture(tally: Tally, priors: Sequence[Prior]) -> float:
    """The log likelihood of the tally, averaged over the priors, of which the first has nine tenths of the weight."""
    missed = tally.of - tally.hits
    terms = [_log_beta(each.a + tally.hits, each.b + missed) - _log_beta(each.a, each.b) for each in priors]
    if len(terms) == 1:
        return terms[0]
    most = max(terms)
    return most + math.log(0.9 * math.exp(terms[0] - most) + 0.1 * math.exp(terms[1] - most))


def _likelihood(tally: Tally, share: float) -> float:
    missed = tally.of - tally.hits
    hit = tally.hits * math.log(share) if share > 0 else (-math.inf if tally.hits > 0 else 0.0)
    return hit + (missed * math.log1p(-share) if share < 1 else (-math.inf if missed > 1e-9 else 0.0))


def _slope(tally: Tally, share: float) -> float:
    """Of the log likelihood."""
    hit = tally.hits / share if share > 0 else (math.inf if tally.hits > 0 else 0.0)
    missed = tally.of - tally.hits
    return hit - (missed / (1.0 - share) if share < 1 else (math.inf if missed > 1e-9 else 0.0))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _bisect(is_low: Callable[[float], bool], low: float, high: float, steps: int = _HALVINGS) -> float:
    """Where `is_low` turns from true to false."""
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if is_low(middle) else (low, middle)
    return (low + high) / 2


def _least(of: Callable[[float], float], low: float, high: float) -> float:
    """The least value of a function at two points and between them: of some points, and of finer ones around the
    best."""
    least = math.inf
    for _ in range(4):
        step = (high - low) / 8
        values = [of(low + at * step) for at in range(8)] + [of(high)] if step else [of(low)]
        least = min(least, *values)
        best = values.index(min(values))
        low, high = low + max(0, best - 1) * step, low + min(8, best + 1) * step
    return least
