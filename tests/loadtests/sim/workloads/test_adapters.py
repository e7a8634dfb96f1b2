"""Adapters are of unequal popularity and share no prefix."""

from __future__ import annotations

from collections import Counter

from loadtests.sim.workloads.adapters import Adapters, adapters


def test_each_adapter_has_its_own_instructions_and_the_first_is_the_most_popular() -> None:
    trace = adapters(Adapters(requests=3000, adapters=50), 1)
    used = Counter(each.units for each in trace.arrivals)
    assert len(used) == 50
    assert used.most_common(1)[0][1] > 10 * min(used.values())
    assert len({units[0] for units in used}) == 50
