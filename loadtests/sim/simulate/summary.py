"""A run in numbers: the row of a table and the object of the JSON. Pure; it knows no policy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.simulate.fleet import fleet_name
from loadtests.sim.simulate.runs import Case, Run, Sample
from loadtests.sim.simulate.world import Outcome
from schedulers.types import NO_SLO

SHORT_TOKENS: Final = 16_000
"""Prompts shorter than this are reported separately: they are the ones that wait behind long prompts."""

WINDOWS: Final = 60

NOTES: Final = (
    "TTFT, ITL and E2E in seconds; short: prompts below 16,000 tokens; hits: share of prompt tokens found in caches; "
    "imbalance: requests on the fullest pod over the mean; off: error of the predicted TTFT, as a share of it."
)
"""Units and meaning of the columns of `lines`."""


class Spread(msgspec.Struct, frozen=True):
    """A distribution in four numbers; zeros where there is nothing."""

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0


class Window(msgspec.Struct, frozen=True):
    """The requests that arrived within one interval."""

    at_s: float
    requests: int
    ttft_s: float
    """Mean."""
    hit_rate: float


class Goodput(msgspec.Struct, frozen=True):
    """The requests of one priority that were promised something; those without an answer are not met."""

    priority: int
    requests: int
    met: float
    """Share that kept both promises."""
    ttft_met: float
    """Share that kept the time to first token."""
    unserved: int
    """Refused by the policy, or lost with their pod."""


class Predicted(msgspec.Struct, frozen=True):
    """Times to first token as the gateways predicted them at the pick."""

    requests: int
    ttft_s: Spread
    """Predicted."""
    error_s: Spread
    """Between predicted and found."""
    error: Spread
    """The same, as a share of the found time."""


class Row(msgspec.Struct, frozen=True):
    """One policy."""

    policy: str
    ttft_s: Spread
    itl_s: Spread
    """Each request's mean time between tokens, of answers of two tokens and more."""
    e2e_s: Spread
    hit_rate: float
    """Prompt tokens found in the pods' caches, of all prompt tokens."""
    load_imbalance: float
    """Requests on the fullest pod over the pods' mean, weighted by how many there are; 1 is even, the pods' number is
    all on one."""
    ttft_short_s: Spread
    """Of prompts below 16,000 tokens."""
    prefill_utilisation: float
    """Time the pods spent on prompts, of all their time; as if none had joined, left or slowed down."""
    requests: int
    rejected: int
    """Requests that no pod could hold."""
    windows: list[Window]
    lost: int = 0
    """Requests whose pod failed and whose client got an error."""
    retried: int = 0
    """Attempts at another pod."""
    shed: int = 0
    """Requests that the policy refused."""
    goodput: float | None = None
    """Share of the requests with a promise that kept it; None where none has one."""
    goodput_by_priority: list[Goodput] = []
    """The same, the highest priority first."""
    predicted: Predicted | None = None
    """None of a peer."""
    policy_digest: str = ""
    """Of the policy and its parameters, as a gateway shows it; empty of a peer."""


class Table(msgspec.Struct, frozen=True):
    """What `turnout simulate --json` prints."""

    trace: str
    pods: int
    rate: float
    policies: list[Row]
    profile: str
    kv_tokens: int
    """Of the pod with the smallest KV cache."""
    replicas: int
    age_ms: float | None
    """None where the replicas share nothing."""
    seed: int
    events: list[str] = []
    """What happened to pods."""
    closed_loop: bool = False
    """Whether sessions waited for their answers."""
    limit: int | None = None
    """Only this number of the trace's first requests; None for all."""


def spread(values: Iterable[float]) -> Spread:
    """Mean and percentiles, by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        return Spread()
    p50, p90, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.9, 0.99))
    return Spread(sum(ordered) / len(ordered), p50, p90, p99)


def summarise(run: Run, case: Case) -> Row:
    """All of a run's numbers."""
    outcomes = run.outcomes
    return Row(
        policy=run.policy,
        ttft_s=spread(each.ttft_s for each in outcomes),
        itl_s=spread(each.itl_s for each in outcomes if each.output_tokens > 1),
        e2e_s=spread(each.e2e_s for each in outcomes),
        hit_rate=hit_rate(outcomes),
        load_imbalance=load_imbalance(run.samples),
        ttft_short_s=spread(each.ttft_s for each in outcomes if each.prompt_tokens < SHORT_TOKENS),
        prefill_utilisation=prefill_utilisation(run, case),
        requests=len(outcomes),
        rejected=run.rejected,
        windows=windows(outcomes),
        lost=run.lost,
        retried=run.retried,
        shed=run.shed,
        goodput=goodput(run),
        goodput_by_priority=goodput_by_priority(run),
        predicted=predicted(run),
        policy_digest=run.digest,
    )


def table(trace: str, case: Case, rows: list[Row], limit: int | None = None) -> Table:
    """All rows with their common settings."""
    sharing = case.sharing
    age_ms = sharing.age_s * 1000 if sharing.shared else None
    start = case.fleet()[: case.pods]
    return Table(
        trace,
        case.pods,
        case.rate,
        rows,
        fleet_name(start),
        min(profile.kv_tokens for profile in start),
        sharing.replicas,
        age_ms,
        case.seed,
        [str(event) for event in case.events],
        case.closed_loop,
        limit,
    )


def predicted(run: Run) -> Predicted | None:
    """`Row.predicted`."""
    if not run.predictions:
        return None
    errors = [abs(each.expected_s - each.found_s) for each in run.predictions]
    return Predicted(
        len(errors),
        spread(each.expected_s for each in run.predictions),
        spread(errors),
        spread(error / each.found_s for error, each in zip(errors, run.predictions, strict=True) if each.found_s),
    )


def goodput(run: Run) -> float | None:
    """`Row.goodput`."""
    rows = goodput_by_priority(run)
    asked = sum(each.requests for each in rows)
    return sum(each.met * each.requests for each in rows) / asked if asked else None


def goodput_by_priority(run: Run) -> list[Goodput]:
    """`Row.goodput_by_priority`."""
    served: dict[int, list[Outcome]] = {}
    for each in run.outcomes:
        if each.slo != NO_SLO:
            served.setdefault(each.priority, []).append(each)
    unserved = Counter(each.priority for each in run.unserved if each.slo != NO_SLO)
    return [
        _goodput(priority, served.get(priority, []), unserved[priority])
        for priority in sorted({*served, *unserved}, reverse=True)
    ]


def _goodput(priority: int, served: Sequence[Outcome], unserved: int) -> Goodput:
    asked = len(served) + unserved
    met = sum(each.met for each in served)
    in_time = sum(each.slo.met(each.ttft_s, 0.0) for each in served)
    return Goodput(priority, asked, met / asked, in_time / asked, unserved)


def hit_rate(outcomes: Iterable[Outcome]) -> float:
    """Cached prompt tokens of all prompt tokens."""
    cached = prompt = 0
    for each in outcomes:
        cached += each.cached_tokens
        prompt += each.prompt_tokens
    return cached / prompt if prompt else 0.0


def load_imbalance(samples: Iterable[Sample]) -> float:
    """`Row.load_imbalance`; 1.0 if no request ever ran."""
    fullest = mean = 0.0
    for _, requests in samples:
        fullest += max(requests)
        mean += sum(requests) / len(requests)
    return fullest / mean if mean else 1.0


def prefill_s(profile: EngineProfile, outcome: Outcome) -> float:
    """What a prompt costs its pod: the linear part and attention's."""
    new = outcome.prompt_tokens - outcome.cached_tokens
    return (
        profile.prefill_token_s * new + profile.attention_s * new * (outcome.prompt_tokens + outcome.cached_tokens) / 2
    )


def prefill_utilisation(run: Run, case: Case) -> float:
    """Share of the pods' time that went into prompts, decoding left out."""
    fleet = case.fleet()
    spent = sum(prefill_s(fleet[each.pod], each) for each in run.outcomes)
    return spent / (case.pods * run.duration_s) if run.duration_s else 0.0


def windows(outcomes: Sequence[Outcome]) -> list[Window]:
    """The run cut into stretches of equal length; those without an arrival are left out."""
    end = max((each.at_s for each in outcomes), default=0.0)
    length = max(end / WINDOWS, 1.0)
    cut: dict[int, list[Outcome]] = {}
    for each in outcomes:
        cut.setdefault(int(each.at_s / length), []).append(each)
    return [
        Window(at * length, len(part), sum(each.ttft_s for each in part) / len(part), hit_rate(part))
        for at, part in sorted(cut.items())
    ]


def _prediction_columns(rows: Sequence[Row]) -> Mapping[str, Sequence[str]]:
    """By how much of the found time to first token the predicted one is wrong; none where there is only `best`."""
    if not any(row.predicted for row in rows):
        return {}
    errors = [row.predicted.error if row.predicted else None for row in rows]
    return {
        "off p50": [f"{error.p50:.0%}" if error else "" for error in errors],
        "off p90": [f"{error.p90:.0%}" if error else "" for error in errors],
    }


def lines(found: Table) -> Mapping[str, Sequence[str]]:
    """The plain table: a column's head -> its cells."""
    rows = found.policies
    failures = {
        "retried": [str(row.retried) for row in rows],
        "lost": [str(row.lost) for row in rows],
    }
    columns: dict[str, Sequence[str]] = {
        "POLICY": [row.policy for row in rows],
        "TTFT mean": [f"{row.ttft_s.mean:.3f}" for row in rows],
        "p50": [f"{row.ttft_s.p50:.3f}" for row in rows],
        "p90": [f"{row.ttft_s.p90:.2f}" for row in rows],
        "p99": [f"{row.ttft_s.p99:.2f}" for row in rows],
        "short p99": [f"{row.ttft_short_s.p99:.2f}" for row in rows],
        "ITL p99": [f"{row.itl_s.p99:.4f}" for row in rows],
        "E2E mean": [f"{row.e2e_s.mean:.2f}" for row in rows],
        "hits": [f"{row.hit_rate:.1%}" for row in rows],
        "imbalance": [f"{row.load_imbalance:.2f}" for row in rows],
        **_prediction_columns(rows),
        **(failures if any(row.retried or row.lost for row in rows) else {}),
    }
    if any(row.shed for row in rows):
        columns["shed"] = [str(row.shed) for row in rows]
    if any(row.goodput is not None for row in rows):
        columns["goodput"] = [f"{row.goodput or 0.0:.1%}" for row in rows]
    levels = [each.priority for each in rows[0].goodput_by_priority]
    for at, level in enumerate(levels if len(levels) > 1 else ()):
        columns[f"of {level:+d}"] = [f"{row.goodput_by_priority[at].met:.1%}" for row in rows]
    return columns
