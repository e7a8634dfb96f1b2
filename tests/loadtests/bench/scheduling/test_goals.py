"""Goals compare figures with bounds; a case that was not run has no goal."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.cases import GPUS, ONE, OURS, shared
from loadtests.bench.scheduling.goals import goals, hits_around
from loadtests.bench.scheduling.live import Agreement
from loadtests.bench.scheduling.regret import SUITE, Suite
from loadtests.bench.scheduling.suite import PAST, Point
from loadtests.report.goals import Goal
from loadtests.sim.simulate.summary import Row, Spread, Window


def row(policy: str, mean: float, *, p99: float = 1.0, hits: float = 0.3, windows: list[Window] | None = None) -> Row:
    ttft = Spread(mean, mean, mean, p99)
    return Row(policy, ttft, Spread(), Spread(), hits, 1.0, ttft, 0.5, 10, 0, windows or [])


AT = Point("rag", 8, 0.9)
PLAYED = Suite([AT, AT._replace(load=0.5), AT._replace(load=PAST)])


def found(
    rows: dict[tuple[str, str, str], Row], suite: Suite = PLAYED, live: Agreement | None = None
) -> dict[str, Goal]:
    return {goal.what: goal for goal in goals(rows, suite, live)}


def at(point: Point, own: Row, *others: Row) -> dict[tuple[str, str, str], Row]:
    return {(SUITE, str(point), each.policy): each for each in (own, *others)}


def test_the_worst_load_below_saturation_counts() -> None:
    met = found(
        {
            **at(AT, row(OURS, 1.04, p99=1.2), row("oracle", 1.0)),
            **at(AT._replace(load=0.5), row(OURS, 1.06), row("oracle", 1.0)),
            **at(AT._replace(load=PAST), row(OURS, 9.0), row("oracle", 1.0)),
        }
    )
    mean, p99 = met["rag, 8 pods: mean over the best"], met["rag, 8 pods: p99 over the best"]
    assert (mean.found, p99.found) == pytest.approx((1.06, 1.2))
    assert not mean.met and not p99.met


def test_hits_past_saturation_are_compared_in_points_with_the_best_peer() -> None:
    past = AT._replace(load=PAST)
    met = found(at(past, row(OURS, 1.0, hits=0.25), row("lmetric", 1.0, hits=0.29)))
    goal = met["rag, 8 pods, past saturation: points of hits below the best"]
    assert goal.found == pytest.approx(4.0)
    assert not goal.met


def test_the_load_held_is_compared_with_the_one_that_the_best_holds() -> None:
    full = AT._replace(load=1.0)
    suite = Suite([], (0.9, 1.0), {"rag": 2.0})
    held = found({**at(AT, row(OURS, 1.0)), **at(full, row(OURS, 2.5))}, suite)["rag: highest load held, of the best's"]
    assert (held.found, held.met) == (0.9, False)


@pytest.mark.parametrize(("mean", "met"), [(0.70, True), (0.71, False)])
def test_the_whole_conversation_trace_is_compared_with_what_it_was(mean: float, met: bool) -> None:
    goal = found({("whole", "conversation x 1.4", OURS): row(OURS, mean)})
    assert goal["whole conversation trace x 1.4: mean over that of before"].met is met


def test_a_pool_of_two_speeds_is_compared_with_the_oracle() -> None:
    met = found({("speeds", GPUS, OURS): row(OURS, 1.04), ("speeds", GPUS, "oracle"): row("oracle", 1.0)})
    assert met[f"{GPUS}: mean over that of the oracle, which knows"].met


def test_all_agents_are_compared_with_the_best_of_all_peers() -> None:
    rows = {
        ("whole", "agentic x 2", name): row(name, mean) for name, mean in ((OURS, 1.2), ("oracle", 2.0), ("chwbl", 1.0))
    }
    goal = found(rows)["all agents x 2: mean over the best"]
    assert (goal.found, goal.met) == (1.2, False)


def test_an_older_view_may_cost_more() -> None:
    rows = {("herding", shared(8, age), OURS): row(OURS, 1.3) for age in (10, 50)}
    met = found({**rows, ("herding", ONE, OURS): row(OURS, 1.0)})
    assert not met["herding, view 10 ms old: mean over one replica's"].met
    assert met["herding, view 50 ms old: mean over one replica's"].met


def test_the_simulator_may_deviate_in_either_direction() -> None:
    live = Agreement(10, 2, 60.0, Spread(1, 1, 1, 0.8), Spread(1, 1.1, 1, 1), 0.1, 0.1, 0.0)
    met = found({}, live=live)
    assert met["real time: simulated p50 over real, apart"].met
    assert not met["real time: simulated p99 over real, apart"].met


def test_hits_around_a_restart_are_those_of_the_windows_on_either_side() -> None:
    windows = [Window(10.0 * at, 1 + at, 0.1, 0.1 * at) for at in range(6)]
    before, after = hits_around(row(OURS, 1.0, windows=windows), 30.0, 20.0, 20.0)
    assert before == pytest.approx((2 * 0.1 + 3 * 0.2) / 5)
    assert after == pytest.approx((4 * 0.3 + 5 * 0.4) / 9)
