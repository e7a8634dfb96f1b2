"""Metrics of what is tried on live traffic, as this replica counts it: made at scrape time from the trials' own counts.

Labels are the pool and the arm, both bounded; the series of a trial end with it, except for the canaries taken back.
This file judges nothing: a `TrialReading` says whether its guard is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from router.telemetry.collector import Family
from router.telemetry.metrics import ITL_BOUNDS_S, TTFT_BOUNDS_S
from router.trials.durations import Counts, middle
from router.trials.figures import ArmFigures, ShadowFigures, TrialReading

_ARM_COUNTS: Sequence[tuple[str, str, Callable[[ArmFigures], int]]] = (
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

_SHADOW_COUNTS: Sequence[tuple[str, str, Callable[[ShadowFigures], int]]] = (
    (
        "turnout_shadow_compared",
        "Requests that a shadow and the policy that decides both picked for.",
        lambda s: s.compared,
    ),
    ("turnout_shadow_dropped", "Requests a shadow was to see and did not: too many waited.", lambda s: s.dropped),
    ("turnout_shadow_failures", "Picks at which a shadow failed.", lambda s: s.failures),
)


def families(trials: Sequence[TrialReading], rollbacks: Mapping[str, int]) -> Iterator[Family]:
    """Every family; those of trials that do not run have no samples."""
    arms = [
        (trial.pool, name, figures)
        for trial in trials
        if trial.has_canary
        for name, figures in (("baseline", trial.figures.baseline), ("canary", trial.figures.canary))
    ]
    for name, help_text, read in _ARM_COUNTS:
        counts = [Sample(f"{name}_total", {"pool": pool, "arm": arm}, read(of)) for pool, arm, of in arms]
        yield _family(name, "counter", help_text, counts)
    for histogram in _ARM_DURATIONS:
        samples = [each for pool, arm, of in arms for each in _samples(histogram, {"pool": pool, "arm": arm}, of)]
        yield _family(histogram.name, "histogram", histogram.help_text, samples)
    broken = [Sample("turnout_trial_broken", {"pool": each.pool}, float(each.broken)) for each in trials]
    yield _family("turnout_trial_broken", "gauge", "1 where a canary's guard is broken.", broken)
    back = [Sample("turnout_trial_rollbacks_total", {"pool": pool}, count) for pool, count in rollbacks.items()]
    yield _family("turnout_trial_rollbacks", "counter", "Canaries that this replica ended for all.", back)
    yield from _shadows([(each.pool, each.figures.shadow) for each in trials if each.has_shadow])


def _shadows(shadows: Sequence[tuple[str, ShadowFigures]]) -> Iterator[Family]:
    for name, help_text, read in _SHADOW_COUNTS:
        counts = [Sample(f"{name}_total", {"pool": pool}, read(of)) for pool, of in shadows]
        yield _family(name, "counter", help_text, counts)
    name, help_text = "turnout_shadow_agreement_ratio", "Share of these for which both picked the same pod."
    agreed = [Sample(name, {"pool": pool}, of.agreed / of.compared) for pool, of in shadows if of.compared]
    yield _family(name, "gauge", help_text, agreed)


def _family(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> Family:
    return Family(name, kind, help_text, lambda: samples)


def _samples(of: _ArmHistogram, labels: dict[str, str], arm: ArmFigures) -> Iterator[Sample]:
    """The arm's fine buckets in the bounds of the pool's histograms: off by no more than 2.5 % of a bound."""
    counts, sum_s = of.read(arm)
    totals = list(accumulate(_folded(counts, of.bounds)))
    for edge, count in zip([*map(floatToGoString, of.bounds), "+Inf"], totals, strict=True):
        yield Sample(f"{of.name}_bucket", {**labels, "le": edge}, count)
    yield Sample(f"{of.name}_count", labels, totals[-1])
    yield Sample(f"{of.name}_sum", labels, sum_s)


def _folded(counts: Counts, bounds: Sequence[float]) -> list[int]:
    folded = [0] * (len(bounds) + 1)
    for at, count in counts.items():
        folded[sum(bound < middle(at) for bound in bounds)] += count
    return folded
