"""The age of the view, measured by echoes."""

from __future__ import annotations

import pytest

from statesync.store.redis.view_age import ViewAge


def linked(now: float) -> ViewAge:
    view_age = ViewAge(now)
    view_age.linked()
    return view_age


def test_the_age_is_the_usual_delay_of_echoes() -> None:
    view_age = linked(0.0)
    view_age.sent(1.0)
    view_age.echoed(1.002)
    assert view_age.age_s(5.0) == pytest.approx(0.002)
    view_age.sent(6.0)
    view_age.echoed(6.012)
    assert view_age.age_s(7.0) == pytest.approx(0.003)


def test_the_view_ages_while_an_echo_is_missing() -> None:
    view_age = linked(0.0)
    view_age.sent(1.0)
    view_age.sent(2.0)
    assert view_age.silent_s(4.0) == view_age.age_s(4.0) == 3.0
    view_age.echoed(4.0)
    assert view_age.silent_s(4.0) == 2.0


def test_a_quiet_replica_s_view_does_not_age_while_it_is_linked() -> None:
    view_age = linked(0.0)
    view_age.sent(1.0)
    view_age.echoed(1.001)
    assert view_age.silent_s(100.0) == 0.0
    assert view_age.age_s(100.0) == pytest.approx(0.001)


def test_without_a_link_the_view_ages_since_the_last_echo() -> None:
    view_age = linked(0.0)
    view_age.sent(1.0)
    view_age.echoed(1.5)
    view_age.sent(2.0)
    view_age.unlinked()
    assert view_age.age_s(4.5) == 3.0
    view_age.linked()
    assert view_age.age_s(4.5) == pytest.approx(0.5)
