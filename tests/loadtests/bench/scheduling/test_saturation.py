"""Rates of saturation are in a file, for every half that the suite plays."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.halves import HALVES
from loadtests.bench.scheduling.saturation import COMMAND, FILE, read_saturations, saturation
from loadtests.bench.scheduling.suite import NAMES
from loadtests.sim.simulate.traces import TraceError
from tests.fakes.each_case import each_case


@each_case("name", NAMES)
def test_every_half_of_the_suite_has_a_rate(name: str) -> None:
    for half in HALVES:
        found = saturation(name, half)
        assert found.rate > 0 and found.limit_s >= 2.0


def test_the_file_names_the_command_that_found_it() -> None:
    assert COMMAND in FILE.read_text()
    assert read_saturations()


def test_an_unknown_workload_is_an_error_with_the_command() -> None:
    with pytest.raises(TraceError, match=r"no rate for the tune half of nothing: run .* --traces nothing"):
        saturation("nothing", "tune")
