"""Trials in virtual time: the gateway's own trials, arms and guard, with requests that are drawn instead of served.
Seeded; one run is one candidate from its first share of the traffic to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from router.policy.transitions import canary_set
from router.trials.arm import Arm
from router.trials.trials import Trials
from schedulers.registry import create
from schedulers.types import RequestInfo
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

POOL: Final = "default"
TOKENS: Final = 100
"""Tokens of an answer that has more than one."""

OLD, NEW = create("p2c", {}), create("random", {})


class Answer(NamedTuple):
    """How a request ends."""

    ttft_s: float
    failed: bool = False
    tpot_s: float = 0.0
    """Time of each token after the first one; 0.0 for an answer of one token."""


class Traffic(NamedTuple):
    """Requests, and how they end under either policy."""

    session: Callable[[random.Random], str]
    """Of the next request; empty for none."""
    answer: Callable[[random.Random, str, bool], Answer]
    """(random, session, whether the candidate decides) -> how it ends."""


class Plan(NamedTuple):
    """A candidate's way through the shares of the traffic."""

    percents: tuple[float, ...]
    requests: int
    """At each share."""
    guard: CanaryGuard
    per_s: float = 50.0


class Outcome(NamedTuple):
    """The end of a run."""

    requests: int
    """Until it was taken back; all of them if it never was."""
    affected: int
    """Of these, decided by the candidate."""
    reason: str
    """Why it was taken back; empty if it never was."""


class _Request:
    """A request as a trial knows it."""

    __slots__ = ("arm", "stream")

    def __init__(self) -> None:
        self.arm: Arm | None = None
        self.stream = True


def play(traffic: Traffic, plan: Plan, seed: int) -> Outcome:
    """One candidate. A look is taken every second, as the gateway does."""
    rng, now = random.Random(seed), 0.0
    trials = Trials("bench/1", lambda: now, wall=lambda: now)
    # The generation salts the draw, so it differs by run.
    record = PolicyRecord("p2c", {}, seed * 100)
    placed = affected = 0
    for percent in plan.percents:
        choice = Canary(PolicyChoice("random"), percent, plan.guard)
        record = canary_set(choice)(record, ())._replace(generation=record.generation + 1)
        running = trials.make(POOL, record, OLD, None, NEW)
        assert running is not None
        for at in range(plan.requests):
            now += 1.0 / plan.per_s
            session = traffic.session(rng)
            info = RequestInfo("r", "m", 100, 0, now, rng.getrandbits(64), 0, session)
            request = _Request()
            tried = running.trial.candidate(request, info) is not None
            placed, affected = placed + 1, affected + tried
            answer = traffic.answer(rng, session, tried)
            arm = request.arm
            assert arm is not None
            if answer.failed:
                arm.ends(request, 500, now)
            else:
                arm.first_byte(request, answer.ttft_s, token=True)
                ended_at = now + answer.ttft_s + (TOKENS - 1) * answer.tpot_s
                arm.ends(request, 200, ended_at, TOKENS if answer.tpot_s else 1)
            if at % int(plan.per_s) == 0 and (verdict := running.look()) is not None:
                return Outcome(placed, affected, verdict.reason)
    return Outcome(placed, affected, "")


def answers(traffic: Traffic, part: float, requests: int, seed: int = 1) -> tuple[list[Answer], list[Answer]]:
    """Answers of both arms, the baseline's first, where each request is drawn alone."""
    rng = random.Random(seed)
    found: tuple[list[Answer], list[Answer]] = ([], [])
    for _ in range(requests):
        tried = rng.random() < part
        found[tried].append(traffic.answer(rng, "", tried))
    return found


def share_failed(traffic: Traffic, tried: bool, requests: int = 40_000) -> float:
    """Of requests of one arm."""
    rng = random.Random(2)
    return sum(traffic.answer(rng, "", tried).failed for _ in range(requests)) / requests


def independent(slower: float = 1.0, failing: float = 0.0) -> Traffic:
    """Requests without sessions; a candidate may be slower, or fail more often. One request in a hundred fails anyway,
    unless the candidate does."""
    usual = 0.0 if failing else 0.01

    def answer(rng: random.Random, _: str, tried: bool) -> Answer:
        failed = rng.random() < usual + (failing if tried else 0.0)
        return Answer(rng.lognormvariate(-2.0, 0.9) * (slower if tried else 1.0), failed)

    return Traffic(lambda _: "", answer)


def decoding(slower: float = 1.0) -> Traffic:
    """Requests without sessions whose tokens come every 10 ms in the median; a candidate's tokens may be slower."""

    def answer(rng: random.Random, _: str, tried: bool) -> Answer:
        pace = rng.lognormvariate(-4.6, 0.3) * (slower if tried else 1.0)
        return Answer(rng.lognormvariate(-2.0, 0.9), tpot_s=pace)

    return Traffic(lambda _: "", answer)


def heavy_sessions(number: int, slow: int, failing: int, seed: int) -> Traffic:
    """Few sessions of very different weights, some of which are always slow, and some always fail. No candidate changes
    that."""
    rng = random.Random(seed)
    names = [f"{seed}/{at}" for at in range(number)]
    weights = [rng.paretovariate(1.5) for _ in names]
    odd = rng.sample(names, slow + failing)
    factors = {name: rng.lognormvariate(0.0, 0.4) * (8.0 if name in odd[:slow] else 1.0) for name in names}
    failed = set(odd[slow:])

    def answer(rng: random.Random, session: str, _: bool) -> Answer:
        return Answer(rng.lognormvariate(-2.0, 0.6) * factors[session], session in failed or rng.random() < 0.003)

    return Traffic(lambda rng: rng.choices(names, weights)[0], answer)


def one_pod(per_s: float = 50.0) -> Traffic:
    """Four pods that serve one request at a time, at three quarters of what they can. The candidate sends all to the
    first, the policy in force to the less busy of two."""
    free_at = [0.0] * 4
    clock = iter(range(1 << 30))

    def answer(rng: random.Random, _: str, tried: bool) -> Answer:
        now = next(clock) / per_s
        pod = 0 if tried else min(rng.sample(range(4), 2), key=lambda at: free_at[at])
        begins = max(now, free_at[pod])
        free_at[pod] = begins + rng.lognormvariate(-3.0, 0.5)
        return Answer(free_at[pod] - now)

    return Traffic(lambda _: "", answer)
