"""The verdict from rounds and scenes that are made up."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from loadtests.prove.judgement import (
    PASSED,
    UNDECIDED,
    WORSE,
    Finding,
    as_json,
    measured,
    seen,
    status_of,
    words,
)
from loadtests.prove.pairs import Round, SideFigures
from loadtests.prove.scene import Scene
from loadtests.prove.wire import Fault

SIDE = SideFigures(200, {}, 0.4, 0.88, 100_000, 0, 0.02)
CUT = Fault("a request failed: truncated", "NEW-3", "pod 127.0.0.1:1, after 3.00 s")


def rounds(change: Callable[[Round], Round], noise: float = 0.01, count: int = 5) -> list[Round]:
    """Rounds of equal sides with noise, each changed."""
    rng = random.Random(3)

    def side() -> SideFigures:
        return SIDE._replace(cpu_s=SIDE.cpu_s * (1 + rng.gauss(0, noise)), hit_rate=SIDE.hit_rate + rng.gauss(0, 0.001))

    return [change(Round(side(), side(), rng.gauss(0, noise))) for _ in range(count)]


def slower(each: Round) -> Round:
    """Half as much CPU time again."""
    return each._replace(new=each.new._replace(cpu_s=each.new.cpu_s * 1.5))


def later(each: Round) -> Round:
    """First tokens after twice the time."""
    return each._replace(ttft_log_ratio=each.ttft_log_ratio + 0.7)


def forgetful(each: Round) -> Round:
    """Half the cache hits."""
    return each._replace(new=each.new._replace(hit_rate=0.44))


def growing(each: Round) -> Round:
    """Eight KiB a request."""
    return each._replace(new=each.new._replace(growth_bytes=SIDE.growth_bytes + 8192 * 200))


def failing(each: Round) -> Round:
    """Five failed requests a round."""
    return each._replace(new=each.new._replace(faults={"http_502": 5}))


def test_equal_sides_pass() -> None:
    assert status_of(measured(rounds(lambda each: each), 2)) == PASSED


@pytest.mark.parametrize("change", [slower, later, forgetful, growing, failing])
def test_one_figure_that_is_clearly_worse_is_a_regression(change: Callable[[Round], Round]) -> None:
    found = measured(rounds(change), 2)
    assert [each.status for each in found].count(WORSE) == 1
    assert status_of(found) == WORSE


def test_a_better_side_passes() -> None:
    def faster(each: Round) -> Round:
        return each._replace(new=each.new._replace(cpu_s=each.new.cpu_s / 2), ttft_log_ratio=-0.5)

    assert status_of(measured(rounds(faster), 2)) == PASSED


def test_noise_that_hides_a_quarter_is_undecided() -> None:
    found = measured(rounds(lambda each: each, noise=0.3), 2)
    assert status_of(found) == UNDECIDED
    assert "too uncertain" in words(found)


def test_one_failed_request_in_all_rounds_is_undecided() -> None:
    found = rounds(lambda each: each)
    found[0] = found[0]._replace(new=found[0].new._replace(faults={"truncated": 1}))
    assert status_of(measured(found, 2)) == UNDECIDED


def test_requests_that_stay_in_flight_every_time_are_a_regression() -> None:
    found = rounds(lambda each: each._replace(new=each.new._replace(stuck=2)))
    assert status_of(measured(found, 2)) == WORSE


def test_a_clean_scene_passes_and_a_fault_that_comes_again_does_not() -> None:
    clean, cut = Scene(requests=900), Scene([CUT], 900)
    assert seen(clean).status == PASSED
    assert seen(cut, cut, clean).status == WORSE
    assert "NEW-3" in seen(cut, cut, clean).words


def test_a_fault_that_does_not_come_again_is_undecided() -> None:
    assert seen(Scene([CUT]), Scene(), Scene()).status == UNDECIDED


def test_new_is_not_charged_with_what_old_does_by_itself() -> None:
    cut = Scene([CUT])
    assert seen(cut, cut, cut).status == PASSED


def test_a_regression_outweighs_what_is_undecided_and_stands_first() -> None:
    found = [Finding("a", PASSED, "x"), Finding("b", UNDECIDED, "y"), Finding("c", WORSE, "z")]
    assert status_of(found) == WORSE
    assert words(found).splitlines()[0].startswith("REGRESSION")
    assert words(found).splitlines()[1].split() == ["WORSE", "c:", "z"]
    assert as_json(found)["verdict"] == "regression"
