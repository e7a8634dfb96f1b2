"""A shadow: the requests it gets, its counts, and when it is turned off."""

from __future__ import annotations

import logging

import pytest

from router.trials.durations import total
from router.trials.shadow import BACKLOG, MOST_FAILURES, SLICE_S, Shadow, ShadowSample
from schedulers.guard import PolicyTimeout
from schedulers.types import Decision, PodId, Rejection
from tests.fakes.trial_inputs import SNAPSHOT, A, B, Fixed, request
from tests.fakes.virtual_time import Clock, Later

LIVE = Decision(A, "live")
EVERY_S = 0.01


def shadow_of(answer: object, ticks: Clock | None = None, wants: list[bool] | None = None) -> tuple[Shadow, Later]:
    later = Later()
    changes = wants if wants is not None else []

    def on_wants(shadow: Shadow, wanted: bool) -> None:
        changes.append(wanted)

    return Shadow("main", Fixed(answer), later, ticks or Clock(), 1 / EVERY_S, on_wants), later


def shown(shadow: Shadow, later: Later, count: int = 1, live: Decision | Rejection = LIVE) -> None:
    """Offer requests one after the other until the shadow wants none, before it has decided any."""
    for _ in range(count):
        shadow.sample(ShadowSample(request(prefix_hits={A: 5}), SNAPSHOT, live, 2e-6))
        later.run_all_of(EVERY_S)


def test_it_decides_later_and_one_request_at_a_time() -> None:
    shadow, later = shadow_of(LIVE)
    shown(shadow, later, 3)
    assert shadow.figures().compared == 0
    for compared in (1, 2, 3):
        assert len(later.due) == 1
        later.run_all_of(SLICE_S)
        assert shadow.figures().compared == compared
    assert not later.due


def test_the_next_request_is_wanted_only_after_its_fraction_of_a_second() -> None:
    wants: list[bool] = []
    shadow, later = shadow_of(LIVE, wants=wants)
    for _ in range(3):
        shadow.sample(ShadowSample(request(), SNAPSHOT, LIVE, 2e-6))
    assert (shadow.wants, shadow.figures().sampled, wants) == (False, 1, [False])
    later.run_all_of(EVERY_S)
    assert (shadow.wants, wants) == (True, [False, True])


def test_a_stopped_shadow_wants_no_requests() -> None:
    shadow, later = shadow_of(LIVE)
    shadow.sample(ShadowSample(request(), SNAPSHOT, LIVE, 2e-6))
    shadow.stop("ended")
    later.run()
    assert not shadow.wants
    assert shadow.figures().compared == 0


def test_a_request_above_the_queue_limit_is_dropped_and_counted() -> None:
    shadow, later = shadow_of(LIVE)
    shown(shadow, later, BACKLOG + 7)
    later.run()
    figures = shadow.figures()
    assert (figures.sampled, figures.dropped, figures.compared) == (BACKLOG + 7, 7, BACKLOG)


def test_agreement_and_the_load_at_both_choices_are_counted() -> None:
    shadow, later = shadow_of(Decision(B, "shadow"))
    shown(shadow, later)
    shown(shadow, later, live=Decision(B, "live"))
    later.run()
    figures = shadow.figures()
    assert (figures.compared, figures.agreed, figures.queries) == (2, 1, 1280.0)
    assert (figures.live.tokens, figures.shadow.tokens) == (100.0, 0.0)
    assert figures.live.ttft_s > figures.shadow.ttft_s / 2 > 0.0, "of a prompt that A holds a half of, and B nothing"
    assert (figures.live.hits, figures.shadow.hits) == (320.0, 0.0)
    assert (figures.live.pods, figures.shadow.pods) == ({A: 1, B: 1}, {B: 2})
    assert total(figures.shadow.took) == 2


def test_rejections_of_either_side_are_counted_and_not_compared() -> None:
    shadow, later = shadow_of(Rejection("saturated"))
    shown(shadow, later, 2)
    shown(shadow, later, live=Rejection("no_untried_pod"))
    later.run()
    figures = shadow.figures()
    assert (figures.compared, figures.shadow.rejections, figures.live.rejections) == (0, 3, 1)


@pytest.mark.parametrize("answer", [RuntimeError("no idea"), Decision(PodId("elsewhere"), "x"), None, 7])
def test_a_shadow_that_fails_repeatedly_is_turned_off(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    shadow, later = shadow_of(answer)
    with caplog.at_level(logging.ERROR, "turnout.trials"):
        shown(shadow, later, MOST_FAILURES + 3)
        later.run()
    assert shadow.off.startswith(f"turned off after {MOST_FAILURES} failures")
    assert shadow.figures().failures == MOST_FAILURES
    assert not shadow.wants
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    shown(shadow, later)
    assert not later.due


def test_failures_with_successes_in_between_do_not_turn_it_off() -> None:
    shadow, later = shadow_of(LIVE)
    policy = shadow.scheduler
    assert isinstance(policy, Fixed)
    for at in range(4 * MOST_FAILURES):
        policy.answer = RuntimeError() if at % 2 else LIVE
        shown(shadow, later)
        later.run()
    assert not shadow.off
    assert shadow.figures().failures == 2 * MOST_FAILURES


def test_an_interrupted_shadow_is_turned_off_so_that_it_delays_no_further_request() -> None:
    shadow, later = shadow_of(PolicyTimeout("did not return within 0.25 s"))
    shown(shadow, later, 2)
    later.run()
    assert shadow.off == "turned off after 1 failures, the last: it did not return within 0.25 s"


def test_a_shadow_that_is_slow_is_turned_off_at_once() -> None:
    shadow, later = shadow_of(LIVE, Clock(each=0.08))
    shown(shadow, later, 2)
    later.run()
    assert shadow.off == "turned off after 1 failures, the last: it took 80 ms"
