"""Goals compare figures with bounds; a case that was not run has no goal."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.cases import ONE, OURS, shared
from loadtests.bench.scheduling.goals import Goal, goals, hits_around
from loadtests.bench.scheduling.live import Agreement
from loadtests.sim.simulate.summary import Row, Spread, Window


def row(policy: str, mean: float, *, p99: float = 1.0, hits: float = 0.3, windows: list[Window] | None = None) -> Row:
    ttft = Spread(mean, mean, mean, p99)
    return Row(policy, ttft, Spread(), Spread(), hits, 1.0, ttft, 0.5, 10, 0, windows or [])


def found(rows: dict[tuple[str, str, str], Row], live: Agreement | None = None) -> dict[str, Goal]:
    return {goal.what: goal for goal in goals(rows, live)}


def test_this_gateways_policy_is_compared_with_the_oracle() -> None:
    met = found(
        {("policies", "1.4", OURS): row(OURS, 1.04, p99=1.06), ("policies", "1.4", "oracle"): row("oracle", 1.0)}
    )
    assert met["rate 1.4: mean over oracle's"].met
    assert not met["rate 1.4: p99 over oracle's"].met
    assert met["rate 1.4: short p99 over oracle's"].met


@pytest.mark.parametrize(("theirs", "met"), [(1.75, True), (1.65, False)])
def test_a_peer_must_be_worse_by_its_factor(theirs: float, met: bool) -> None:
    goal = found(
        {
            ("policies", "2.0", OURS): row(OURS, 1.0),
            ("policies", "2.0", "sglang_cache_aware"): row("sglang_cache_aware", theirs),
        }
    )["rate 2.0: sglang_cache_aware's mean over ours"]
    assert (goal.met, goal.found) == (met, theirs)


def test_equal_to_lmetric_is_enough_up_to_the_knee_and_not_beyond_it() -> None:
    rows = {("policies", rate, name): row(name, 1.0) for rate in ("1.7", "2.3") for name in (OURS, "lmetric")}
    met = found(rows)
    assert met["rate 1.7: lmetric's mean over ours"].met
    assert not met["rate 2.3: lmetric's mean over ours"].met


def test_hit_rate_is_compared_in_points_with_the_best_peer() -> None:
    rows = {("policies", "2.0", name): row(name, 1.0, hits=hits) for name, hits in ((OURS, 0.25), ("lmetric", 0.29))}
    goal = found(rows)["rate 2.0: points of hit rate below lmetric's"]
    assert goal.found == pytest.approx(4.0)
    assert not goal.met


def test_an_older_view_may_cost_more() -> None:
    rows = {("herding", shared(8, age), OURS): row(OURS, 1.3) for age in (10, 50)}
    met = found({**rows, ("herding", ONE, OURS): row(OURS, 1.0)})
    assert not met["herding, view 10 ms old: mean over one replica's"].met
    assert met["herding, view 50 ms old: mean over one replica's"].met


def test_the_simulator_may_deviate_in_either_direction() -> None:
    live = Agreement(10, 2, 60.0, Spread(1, 1, 1, 0.8), Spread(1, 1.1, 1, 1), 0.1, 0.1, 0.0)
    met = found({}, live)
    assert met["real time: simulated p50 over real, apart"].met
    assert not met["real time: simulated p99 over real, apart"].met


def test_hits_around_a_restart_are_those_of_the_windows_on_either_side() -> None:
    windows = [Window(10.0 * at, 1 + at, 0.1, 0.1 * at) for at in range(6)]
    before, after = hits_around(row(OURS, 1.0, windows=windows), 30.0, 20.0, 20.0)
    assert before == pytest.approx((2 * 0.1 + 3 * 0.2) / 5)
    assert after == pytest.approx((4 * 0.3 + 5 * 0.4) / 9)
