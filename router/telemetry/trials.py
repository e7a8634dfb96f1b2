"""Metrics of what is tried on live traffic, as this replica counts it: made at scrape time from the trials' own counts.

Labels are the pool and the arm, both bounded; the series of a trial end with it, except for the canaries taken back.
This file judges nothing: a `TrialReading` says whether its guard is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.samples import Sample

from router.telemetry.family import Family, Labels, Row, buckets, families_of, family
from router.telemetry.metrics import ITL_BOUNDS_S, TTFT_BOUNDS_S
from router.trials.durations import Counts, middle
from router.trials.figures import ArmFigures, ShadowFigures, TrialReading

_ARM_COUNTS: Sequence[Row[ArmFigures]] = (
    ("turnout_trial_requests", "Requests given to each arm of a canary.", lambda arm: arm.placed),
    ("turnout_trial_failures", "Of these, ended in a status of 500 or more or cut short.", lambda arm: arm.failures),
    ("turnout_trial_rejections", "Of these, the arm's policy had no pod for.", lambda arm: arm.rejections),
    ("turnout_trial_policy_failures", "Of these, the arm's policy failed at.", lambda arm: arm.policy_failures),
    ("turnout_trial_slo_requests", "Ended requests that were promised times.", lambda arm: arm.slo_requests),
    ("turnout_trial_slo_kept", "Of these, the ones for which all times were kept.", lambda arm: arm.slo_kept),
)


class _ArmHistogram(NamedTuple):
    """Durations of an arm."""

    name: str
    help_text: str
    bounds: Sequence[float]
    read: Callable[[ArmFigures], tuple[Counts, float]]
    """Their buckets and their sum."""


_ARM_DURATIONS = (
    _ArmHistogram(
        "turnout_trial_ttft_seconds",
        "Times to first token of each arm of a canary.",
        TTFT_BOUNDS_S,
        lambda arm: (arm.ttft, arm.ttft_sum_s),
    ),
    _ArmHistogram(
        "turnout_trial_tpot_seconds",
        "Times per token after the first one of each arm's streams, a mean for each stream.",
        ITL_BOUNDS_S,
        lambda arm: (arm.tpot, arm.tpot_sum_s),
    ),
)

_SHADOW_COUNTS: Sequence[Row[ShadowFigures]] = (
    (
        "turnout_shadow_compared",
        "Requests that a shadow and the policy that decides both picked for.",
        lambda s: s.compared,
    ),
    ("turnout_shadow_dropped", "Requests a shadow was to see and did not: too many waited.", lambda s: s.dropped),
    ("turnout_shadow_failures", "Picks at which a shadow failed.", lambda s: s.failures),
)

_SHADOW_RATIOS: Sequence[Row[ShadowFigures]] = (
    (
        "turnout_shadow_agreement_ratio",
        "Share of these for which both picked the same pod.",
        lambda s: s.agreed / s.compared,
    ),
)


def families(trials: Sequence[TrialReading], rollbacks: Mapping[str, int]) -> Iterator[Family]:
    """Every family; those of trials that do not run have no samples."""
    arms = [
        ({"pool": trial.pool, "arm": name}, figures)
        for trial in trials
        if trial.has_canary
        for name, figures in (("baseline", trial.figures.baseline), ("canary", trial.figures.canary))
    ]
    yield from families_of("counter", _ARM_COUNTS, arms)
    for histogram in _ARM_DURATIONS:
        yield Family(histogram.name, "histogram", histogram.help_text, partial(_samples, histogram, arms))
    broken = [(each.pool, float(each.broken)) for each in trials]
    yield family("gauge", "turnout_trial_broken", "1 where a canary's guard is broken.", "pool", broken)
    help_text = "Canaries that this replica ended for all."
    yield family("counter", "turnout_trial_rollbacks", help_text, "pool", rollbacks.items())
    shadows = [({"pool": each.pool}, each.figures.shadow) for each in trials if each.has_shadow]
    yield from families_of("counter", _SHADOW_COUNTS, shadows)
    yield from families_of("gauge", _SHADOW_RATIOS, [each for each in shadows if each[1].compared])


def _samples(of: _ArmHistogram, arms: Sequence[tuple[Labels, ArmFigures]]) -> Iterator[Sample]:
    """Each arm's fine buckets in the bounds of the pool's histograms: off by no more than 2.5 % of a bound."""
    for labels, arm in arms:
        counts, sum_s = of.read(arm)
        yield from buckets(of.name, labels, of.bounds, list(accumulate(_folded(counts, of.bounds))), sum_s)


def _folded(counts: Counts, bounds: Sequence[float]) -> list[int]:
    folded = [0] * (len(bounds) + 1)
    for at, count in counts.items():
        folded[sum(bound < middle(at) for bound in bounds)] += count
    return folded
