"""Which failures are logged."""

from __future__ import annotations

from statesync.engines.failure_log import AGAIN_S, SOONEST_S, FailureLog


def test_a_failure_is_logged_once_and_again_when_it_lasts() -> None:
    log = FailureLog()
    assert log.failed("a", "refused", 0.0)
    assert not log.failed("a", "refused", AGAIN_S - 1)
    assert log.failed("b", "refused", AGAIN_S - 1), "each thing for itself"
    assert log.failed("a", "refused", AGAIN_S)


def test_a_new_reason_is_logged_but_alternating_reasons_do_not_fill_the_log() -> None:
    log = FailureLog()
    said = [log.failed("a", f"reason {at % 2}", at * 0.1) for at in range(100)]
    assert said[0]
    assert sum(said) <= 10 / SOONEST_S + 1
    assert log.failed("a", "another", 100 * 0.1 + SOONEST_S)


def test_an_end_is_known_and_what_is_gone_is_forgotten() -> None:
    log = FailureLog()
    assert not log.ended("a")
    log.failed("a", "x", 0.0)
    log.failed("b", "x", 0.0)
    assert log.ended("a")
    log.forget(["b", "c"])
    assert log.failing == {}
    assert log.failed("a", "x", 1.0), "a new failure after the end of one"
