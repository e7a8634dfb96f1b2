"""Events are read strictly, and those that cannot happen are refused before the run."""

from __future__ import annotations

import pytest

from loadtests.sim.simulate.events import EventError, parse_event, pods_with, schedule
from tests.fakes.simulated_world import ToOnePod, arrival, trace, world


@pytest.mark.parametrize(
    "text", ["600:pod-3:slow=2", "0.5:pod-0:slow=0.25", "9:pod-12:fail", "1:pod-8:join", "2:pod-1:leave"]
)
def test_an_event_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_event(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "600",
        "600:pod-3",
        "600:3:fail",
        "-1:pod-3:fail",
        "600:pod-3:slow",
        "600:pod-3:fail=2",
        "600:pod-3:melt",
        "1:pod-0:slow=0",
    ],
)
def test_anything_else_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(EventError, match=repr(text)):
        parse_event(text)


@pytest.mark.parametrize(
    ("events", "pods"),
    [([], 2), (["1:pod-2:join", "2:pod-3:join"], 4), (["3:pod-0:join", "2:pod-0:fail"], 2), (["1:pod-1:leave"], 2)],
)
def test_pods_that_join_are_counted(events: list[str], pods: int) -> None:
    assert pods_with([parse_event(each) for each in events], 2) == pods


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (["1:pod-2:fail"], "it has not joined"),
        (["1:pod-3:join"], "there is no such pod; pods are pod-0 to pod-1, the next to join is pod-2"),
        (["1:pod-1:join"], "it is there"),
        (["1:pod-1:leave", "2:pod-1:join"], "it has left"),
        (["1:pod-1:fail", "2:pod-1:slow=2"], "it has failed"),
    ],
)
def test_an_event_that_cannot_happen_is_refused(events: list[str], words: str) -> None:
    with pytest.raises(EventError, match=words):
        pods_with([parse_event(each) for each in events], 2)


def test_events_happen_at_their_times_and_the_router_learns_what_discovery_does() -> None:
    here, router = world(2), ToOnePod(1)
    texts = ("4:pod-0:leave", "1:pod-0:fail", "2:pod-0:join", "3:pod-1:slow=2")
    schedule(here, router, [parse_event(each) for each in texts])
    outcomes = here.play(trace(arrival(0.0, 640, 11), arrival(3.5, 640, 11)), router)
    assert [each for each in router.calls if each.startswith("pod")] == ["pod 0 joined", "pod 0 left"]
    assert outcomes[1].e2e_s == pytest.approx(2 * outcomes[0].e2e_s)
