from __future__ import annotations

import copy

from schedulers.hits import Level, PrefixHits, levels, levels_of
from tests.fakes.scheduler_inputs import pod_ids

A, B, C = pod_ids(3)


def test_hits_without_levels_compute_them_deepest_first() -> None:
    assert levels_of({A: 1, B: 7, C: 1}) == [Level(7, [B]), Level(1, [A, C])]
    assert levels_of({}) == []


def test_hits_are_a_mapping_with_levels() -> None:
    given = (Level(7, (B,)), Level(1, (A, B, C)))
    hits = PrefixHits({A: 1, B: 7, C: 1}, given)
    assert hits == {A: 1, B: 7, C: 1}
    assert levels_of(hits) is given
    twin = copy.deepcopy(hits)
    assert (twin, levels_of(twin)) == (hits, given)


def test_levels_and_hits_agree() -> None:
    hits = {A: 3, B: 5, C: 3}
    assert {pod: level.blocks for level in levels(hits.items()) for pod in level.pods} == hits
