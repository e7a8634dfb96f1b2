from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from hypothesis import given
from hypothesis import strategies as st
from schedulers_strategies import idle, pod_ids, unhurried

from schedulers.hits import Level, PrefixHits, levels
from schedulers.selection import cheapest
from schedulers.types import PodId

MOST = 6


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[float], Mapping[PodId, int], list[float]]:
    """A column, hits on known and unknown pods in either form, and what is added by blocks held: flat in places."""
    count = draw(st.integers(1, 9))
    column = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=count, max_size=count))
    pods = [*pod_ids(count), PodId("gone:1")]
    hits: Mapping[PodId, int] = draw(st.dictionaries(st.sampled_from(pods), st.integers(1, MOST)))
    steps = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=MOST, max_size=MOST))
    added = [sum(steps[at:]) for at in range(MOST + 1)]
    if draw(st.booleans()):
        own = levels(hits.items())
        # As an index finds them: a shallow level may list those that hold more too.
        nested = [
            Level(own[at].blocks, [pod for level in own[: at + 1] for pod in level.pods]) for at in range(len(own))
        ]
        hits = PrefixHits(hits, nested)
    return column, hits, added


@unhurried
@given(questions(), st.integers(0, 2**64 - 1))
def test_it_is_the_least_of_what_is_there_and_what_is_added(
    question: tuple[list[float], Mapping[PodId, int], list[float]], dice: int
) -> None:
    column, hits, added = question
    snapshot = idle(len(column))
    costs = [column[at] + added[hits.get(pod.id, 0)] for at, (pod, _) in enumerate(snapshot.candidates)]
    found = cheapest(snapshot, column, hits, added.__getitem__, dice)
    assert found == (costs.index(min(costs), found.at), min(costs), column[found.at] == min(column))


@unhurried
@given(questions())
def test_equal_ones_are_as_likely(question: tuple[list[float], Mapping[PodId, int], list[float]]) -> None:
    column, hits, added = question
    snapshot = idle(len(column))
    costs = [column[at] + added[hits.get(pod.id, 0)] for at, (pod, _) in enumerate(snapshot.candidates)]
    equal = {at for at, cost in enumerate(costs) if cost == min(costs)}
    share = Counter(cheapest(snapshot, column, hits, added.__getitem__, bits).at for bits in range(60 * len(equal)))
    assert set(share) == equal
    assert all(25 <= count <= 110 for count in share.values()), share


def test_what_cannot_win_is_not_even_looked_at() -> None:
    class Watched(list[float]):
        looks = 0

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            Watched.looks += 1
            return super().__getitem__(at)

    pods = pod_ids(1000)
    hits = {pod: 1 + at % 40 for at, pod in enumerate(pods)}
    added: Callable[[int], float] = lambda blocks: 100.0 - blocks  # noqa: E731  one line says it
    column = Watched([float(at % 10) for at in range(1000)])
    found = cheapest(idle(1000), column, PrefixHits(hits, levels(hits.items())), added, 7)
    assert found.cost == min(column[at] + added(1 + at % 40) for at in range(1000))
    assert Watched.looks < 1000 + 300
