"""A fleet of several kinds of pods, in words and back."""

from __future__ import annotations

import pytest

from loadtests.sim.engine.profiles import A100_8B, H100_8B
from loadtests.sim.simulate.fleet import FleetError, fleet_name, parse_fleet


@pytest.mark.parametrize(
    ("text", "pods", "fleet"),
    [
        ("h100-8b", None, [H100_8B] * 3),
        ("h100-8b", 2, [H100_8B] * 2),
        ("h100-8b:2,a100-8b:1", None, [H100_8B, H100_8B, A100_8B]),
        ("h100-8b:1,a100-8b:1", 2, [H100_8B, A100_8B]),
    ],
)
def test_each_pod_has_its_profile(text: str, pods: int | None, fleet: list[object]) -> None:
    found = parse_fleet(text, pods, 3)
    assert found == fleet
    assert fleet_name(found) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("h200", "no profile 'h200'; there are: a100-8b"),
        ("h100-8b,a100-8b", "needs its number"),
        ("h100-8b:0,a100-8b:1", "needs its number"),
        ("h100-8b:6,a100-8b:1", "has 7 pods, and --pods says 8"),
    ],
)
def test_a_fleet_that_does_not_add_up_is_refused(text: str, words: str) -> None:
    with pytest.raises(FleetError, match=words):
        parse_fleet(text, 8, 8)
