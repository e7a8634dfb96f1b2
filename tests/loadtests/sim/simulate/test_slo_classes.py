"""Classes of promises: how they are written, and who gets which."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.sim.simulate.slo_classes import BadSlo, SloClass, read_class, with_classes
from loadtests.sim.simulate.traces import Arrival
from schedulers.types import NO_SLO, Slo
from tests.fakes.simulated_world import trace


def test_a_class_is_read_with_its_defaults() -> None:
    assert read_class("ttft=2,tpot=0.1") == SloClass(1.0, None, Slo(2.0, 0.1))
    assert read_class("share=0.3,priority=-1,ttft=5") == SloClass(0.3, -1, Slo(5.0, 0.0))


@pytest.mark.parametrize(
    "text",
    (
        "|ttft|ttft=x|itl=3|ttft=0|ttft=-1|ttft=inf|ttft=nan|share=0,ttft=1|share=2,ttft=1|share=0.5|"
        "priority=0.5,ttft=1|priority=nan,ttft=1|priority=inf,ttft=1"
    ).split("|"),
)
def test_what_is_no_class_is_refused(text: str) -> None:
    with pytest.raises(BadSlo):
        read_class(text)


def test_each_class_gets_its_share_and_the_rest_is_promised_nothing() -> None:
    classes = [read_class("share=0.25,priority=1,ttft=1"), read_class("share=0.5,ttft=2")]
    arrivals = [Arrival(float(at), 10, 10) for at in range(2000)]
    made = with_classes(trace(*arrivals), classes, seed=3).arrivals
    counts = Counter((each.priority, each.slo) for each in made)
    expected = {(1, Slo(1.0)): 500, (0, Slo(2.0)): 1000, (0, NO_SLO): 500}
    assert counts.keys() == expected.keys()
    assert all(abs(counts[key] - count) < 120 for key, count in expected.items())
    assert made == with_classes(trace(*arrivals), classes, seed=3).arrivals
    assert made != with_classes(trace(*arrivals), classes, seed=4).arrivals


def test_a_class_without_a_priority_keeps_the_traces() -> None:
    (made,) = with_classes(trace(Arrival(0.0, 10, 10, priority=-1)), [read_class("ttft=1")], seed=0).arrivals
    assert (made.priority, made.slo) == (-1, Slo(1.0))


def test_a_session_is_of_one_class() -> None:
    classes = [read_class("share=0.5,ttft=1")]
    arrivals = [Arrival(float(at), 10, 10, session=f"s{at % 7}") for at in range(70)]
    made = with_classes(trace(*arrivals), classes, seed=0).arrivals
    assert len({(each.session, each.slo) for each in made}) == 7


def test_shares_of_more_than_all_are_refused() -> None:
    with pytest.raises(BadSlo, match="more than 1"):
        with_classes(trace(), [read_class("ttft=1"), read_class("share=0.1,ttft=2")], seed=0)
