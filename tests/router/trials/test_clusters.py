"""Sessions by cluster: how many there are, how heavy, and how alike their requests (Case J 55)."""

from __future__ import annotations

import random

import pytest

from router.trials.clusters import CLUSTERS, MANY_SESSIONS, Clustered, cell, effects, heaviest, longer, sessions
from tests.fakes.chance import five_deviations


def drawn(rng: random.Random, number: int, each: int, share: float, *, alike: bool) -> Clustered:
    """The requests of some sessions; those of a session are all hits or none if they are alike."""
    hits: dict[int, int] = {}
    of: dict[int, int] = {}
    for _ in range(number):
        cluster, is_hit = rng.randrange(CLUSTERS), rng.random() < share
        found = each * is_hit if alike else sum(rng.random() < share for _ in range(each))
        hits[cluster] = hits.get(cluster, 0) + found
        of[cluster] = of.get(cluster, 0) + each
    return Clustered(hits, of)


@pytest.mark.parametrize("number", [5, 20, 100, 300])
def test_sessions_are_counted_though_some_share_a_cluster(number: int) -> None:
    rng = random.Random(number)
    counts = [sessions(dict.fromkeys(rng.randrange(CLUSTERS) for _ in range(number))) for _ in range(50)]  # type: ignore[arg-type]
    assert abs(sum(counts) / 50 - number) < 0.1 * number + 1


def test_more_sessions_than_can_be_counted_are_many() -> None:
    assert sessions(dict.fromkeys(range(CLUSTERS), 9)) == MANY_SESSIONS > 600


def test_the_heaviest_session_is_shown() -> None:
    assert heaviest({1: 30, 2: 50, 3: 20}) == 0.5
    assert heaviest({}) == 0.0


def test_independent_requests_count_in_full() -> None:
    rng = random.Random(1)
    arms = [drawn(rng, number, 1, 0.05, alike=False) for number in (4000, 20_000)]
    assert all(1.0 <= each < 1.0 + five_deviations(CLUSTERS, 0.5) / CLUSTERS * 2 for each in effects(arms))


def test_a_session_whose_requests_are_all_the_same_counts_as_one() -> None:
    rng = random.Random(2)
    found = effects([drawn(rng, 1000, 10, 0.1, alike=True), drawn(rng, 1000, 10, 0.1, alike=True)])
    assert all(6.0 < each < 15.0 for each in found)


def test_one_session_that_fails_is_one_observation() -> None:
    one = Clustered({3: 40}, {3: 40, 4: 30, 5: 30})
    assert effects([one, Clustered({}, {6: 400})])[0] == pytest.approx((40**2 + 30**2 + 30**2) / 100)


def test_no_requests_have_an_effect_of_one() -> None:
    assert effects([Clustered({}, {}), Clustered({}, {1: 5})]) == [1.0, 1.0]


def test_durations_of_a_cluster_are_split_at_a_group_of_buckets() -> None:
    cells = {cell(0, 100): 5, cell(0, 140): 2, cell(7, 140): 1, cell(7, 139): 3}
    assert longer(cells, 140) == Clustered({0: 2, 7: 1}, {0: 7, 7: 4})
