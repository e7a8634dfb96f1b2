"""The report in words (Case J 59)."""

from __future__ import annotations

import math

from router.trials.evidence import Interval
from router.trials.figures import ArmFigures, TrialFigures
from router.trials.verdict import Comparison, Verdict
from router.trials.words import DASH, sentences
from statesync.store.policy_record import Canary, PolicyChoice

CANARY = Canary(PolicyChoice("new", {"k": 2}), 20.0)
ARM = ArmFigures(placed=300, placed_by=dict.fromkeys(range(50), 6))
FIGURES = TrialFigures(baseline=ARM, canary=ARM)


def said(verdict: Verdict, canary: Canary = CANARY) -> list[str]:
    return list(sentences(canary, FIGURES, verdict))


def test_the_state_the_size_the_figures_the_certainty_and_the_limits_are_said() -> None:
    below = Comparison("error_rate", Interval(0.001, -0.002, 0.006), 0.01, False, True)
    open_ = Comparison("ttft_p95_ratio", Interval(1.1, 0.9, math.inf), 1.5, False, False, 900)
    lines = said(Verdict("undecided", "undecided, about 900 more requests", (below, open_)))
    assert lines[0] == "The canary is undecided, about 900 more requests."
    assert lines[1].startswith("Canary: 300 requests in about 63 sessions, of which the heaviest has at most 2.0%")
    assert lines[2] == (
        "Error rate, canary minus baseline: 0.1 % (-0.2 % to 0.6 %), certainly below the limit of 1 %."
    ), "Case H 45"
    assert lines[3].endswith(": 1.1 (0.9 or more), undecided, about 900 more requests, the limit of 1.5.")
    assert "at most 0.05 are ever taken back" in lines[4] and "0.025 at this one" in lines[4]
    assert "a full roll-out may differ more" in lines[5]
    assert lines[6] == DASH and "`-`" in DASH


def test_a_slower_pool_that_is_not_certainly_the_candidate_s_doing_is_not_called_close_to_its_limit() -> None:
    pool = Comparison("pool_p95_ratio", Interval(98.1, 98.0, 98.2), 3.0, False, False)
    line = said(Verdict("within", "within its guard", (pool,)))[2]
    assert line.endswith("98.1 (98 to 98.2), not certainly by picks of fuller pods, but certainly over the limit of 3.")


def test_a_later_share_and_a_switchback_are_said() -> None:
    lines = said(Verdict("waiting", "needs 3 more requests"), CANARY._replace(stage=2, switchback_s=60.0))
    assert lines[0] == "The canary needs 3 more requests."
    assert "spans of 60 s" in lines[1] and "share 3 of this candidate" in lines[1]
    assert "All of the pool follows one policy for 60 s" in lines[3] and "the first 25% of each span" in lines[3]


def test_what_was_taken_back_says_why() -> None:
    broken = Comparison("error_rate", Interval(0.2, 0.1, 0.3), 0.01, True, False)
    assert said(Verdict("broken", "broken: error_rate", (broken,)))[0] == (
        "The canary was taken back, as it is broken: error_rate."
    )
