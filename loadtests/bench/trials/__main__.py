"""`make bench-trials`: plays the candidates and prints the table of docs/benchmarks/trials.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from loadtests.bench.trials.optimum import of_quantiles, of_shares
from loadtests.bench.trials.play import (
    Answer,
    Outcome,
    Plan,
    Traffic,
    answers,
    decoding,
    heavy_sessions,
    independent,
    one_pod,
    play,
    share_failed,
)
from router.trials.verdict import EARLY
from statesync.store.policy_record import CanaryGuard

RAMP: Final = (10.0, 25.0, 50.0)
_EQUAL: Final = 1.0 + 1e-9
EDGE: Final = CanaryGuard(
    1e-9, _EQUAL, ttft_p50_ratio=_EQUAL, e2e_p95_ratio=0.0, pool_p95_ratio=0.0, tpot_p50_ratio=_EQUAL
)
"""Limits exactly at a sound candidate's true figures: every excess is random."""

Make = Callable[[int], Traffic]
SOUND: Final[dict[str, tuple[Make, Plan]]] = {
    "independent requests": (lambda _: independent(), Plan(RAMP, 500, EDGE)),
    "20 sessions, 2 always slow": (lambda seed: heavy_sessions(20, 2, 0, seed), Plan(RAMP, 500, EDGE)),
    "40 sessions, 2 always fail": (lambda seed: heavy_sessions(40, 0, 2, seed), Plan(RAMP, 500, EDGE)),
    "streams of 100 tokens": (lambda _: decoding(), Plan(RAMP, 500, EDGE)),
}
STRICT: Final = CanaryGuard(ttft_p95_ratio=_EQUAL, ttft_p50_ratio=_EQUAL, tpot_p50_ratio=_EQUAL)
PART: Final = 0.2
BAD: Final[dict[str, tuple[Callable[[], Traffic], CanaryGuard]]] = {
    "20 % slower, limits 1.0": (lambda: independent(slower=1.2), STRICT),
    "tokens 20 % slower, limits 1.0": (lambda: decoding(slower=1.2), STRICT),
    "tokens twice as slow": (lambda: decoding(slower=2.0), CanaryGuard()),
    "twice as slow": (lambda: independent(slower=2.0), CanaryGuard()),
    "ten times as slow": (lambda: independent(slower=10.0), CanaryGuard()),
    "fails 3 %": (lambda: independent(failing=0.03), CanaryGuard()),
    "all to one pod": (one_pod, CanaryGuard()),
}


def optimum(traffic: Traffic, again: Traffic, guard: CanaryGuard) -> float:
    """The least that any of the guards needs, and no less than the candidate's first 20 requests."""
    arms = answers(traffic, PART, 40_000)
    first, later = ([[read(each) for each in arm] for arm in arms] for read in (_ttft_s, _tpot_s))
    asked = [(first, guard.ttft_p50_ratio, 0.5), (first, guard.ttft_p95_ratio, 0.05)]
    asked += [(later, guard.tpot_p50_ratio, 0.5)] if any(later[0]) else []
    # One guard more judges failures, and the first share may spend half of 5 %.
    alpha = 0.025 / (len(asked) + 1)
    needed = [of_quantiles(of[0], of[1], limit, beyond, PART, alpha) for of, limit, beyond in asked]
    failed = [share_failed(again, tried) for tried in (False, True)]
    if failed[1] > failed[0] + guard.error_rate:
        needed.append(of_shares(failed[0], failed[1], guard.error_rate, PART, alpha))
    return max(EARLY / PART, min(needed))


def _ttft_s(answer: Answer) -> float:
    return answer.ttft_s


def _tpot_s(answer: Answer) -> float:
    return answer.tpot_s


def main() -> int:
    """Play and print."""
    given = argparse.ArgumentParser(description="canaries in virtual time")
    given.add_argument("--sound", type=int, default=1000, help="runs of each sound candidate")
    given.add_argument("--bad", type=int, default=100, help="runs of each bad candidate")
    runs = given.parse_args()
    for name, (make, plan) in SOUND.items():
        outcomes = [play(make(seed), plan, seed) for seed in range(1, runs.sound + 1)]
        taken = sum(bool(each.reason) for each in outcomes)
        _say(f"| {name} | {taken} of {runs.sound} | {taken / max(1, runs.sound):.1%} |")
    for name, (bad, guard) in BAD.items():
        plan = Plan((100 * PART,), 12_000, guard)
        outcomes = [play(bad(), plan, seed) for seed in range(1, runs.bad + 1)]
        if outcomes:
            _say(f"| {name} | {_found(outcomes, plan.per_s)} | {optimum(bad(), bad(), guard):.0f} |")
    return 0


def _found(outcomes: list[Outcome], per_s: float) -> str:
    found = [each for each in outcomes if each.reason]
    if not found:
        return f"0 of {len(outcomes)} | - | - | -"
    mean = sum(each.requests for each in found) / len(found)
    users = sum(each.affected for each in found) / len(found)
    return f"{len(found)} of {len(outcomes)} | {mean:.0f} | {mean / per_s:.0f} s | {users:.0f}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
