"""The report of the bench of endpoint pickers."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.epp.__main__ import main, page, rows, table
from loadtests.bench.epp.measure import Cost, Plan

COSTS = [
    Cost(peer, number, 100, base + number, envoy, (1.0, 2.0), picks, 0)
    for number in (1, 2, 9)
    for peer, base, envoy, picks in (("gateway", 150, 0.0, (0.0, 0.0)), ("picker", 400, 250.0, (0.25, 0.5)))
]


def test_figures_are_medians_over_the_rounds_and_what_one_has_not_is_left_out() -> None:
    found = rows(COSTS)
    assert found["CPU a request, us"] == [152, 402]
    assert found["pick, p99, ms"] == [0, 0.5]
    assert "| pick, p99, ms             |               - |                      0.5 |" in table(COSTS)
    text = page({"cpu": "x"}, COSTS, Plan(Path("envoy")))
    assert "600 answers; missing or wrong: 0. Envoy " in text.replace("\n", " ")


def test_without_envoy_it_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="make test-clients"):
        main([])
