"""A short run of the bench: the real Envoy, picker and gateway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtests.bench.epp.__main__ import ENVOY
from loadtests.bench.epp.measure import Plan, measured, quantiles


def test_quantiles_are_of_the_sorted_times() -> None:
    assert quantiles([3.0, 1.0, 2.0]) == (2.0, 3.0)
    assert quantiles(range(1000)) == (500, 990)
    assert quantiles([]) == (0.0, 0.0)


@pytest.mark.clients
def test_both_have_the_load_and_every_answer_is_good(tmp_path: Path) -> None:
    envoy = next(Path().glob(ENVOY), None)
    if envoy is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Envoy is missing: run `make test-clients`", pytrace=False)
        pytest.skip("Envoy is missing: run `make test-clients`")
    found = list(measured(Plan(envoy, rounds=1, seconds=1.0, rate=50.0), tmp_path))
    assert [each.peer for each in found] == ["gateway", "picker"]
    assert all(each.requests > 20 and each.wrong == 0 for each in found)
    assert found[1].picks_ms[1] > 0
