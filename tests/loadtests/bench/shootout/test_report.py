"""The page and its numbers, from made-up runs."""

from __future__ import annotations

import json

from loadtests.bench.load.session_load import Sent
from loadtests.bench.shootout.played import Cpu, Played, Pods
from loadtests.bench.shootout.report import Found, as_json, document, goals, of, order, over, twin_rows
from loadtests.bench.shootout.twins import Simulated


def run(router: str, ttft_s: float, traffic: str = "conversation", number: int = 1, late_s: float = 0.0) -> Played:
    sent = [Sent(0, at, 100, float(at), late_s=late_s, ttft_s=ttft_s, e2e_s=9.0) for at in range(4)]
    return Played(router, traffic, number, "s", sent, Pods(1000, 200), Cpu(1.0, 1.0, 1.0, 4.0, 10.0), 50.0)


def found(*runs: Played, **twins: float) -> Found:
    simulated = {("conversation", 1, name): Simulated(name, [mean], 100, 20) for name, mean in twins.items()}
    return Found({"commit": "abc"}, runs, {"smg": "could not be installed"}, simulated)


def test_ratios_are_taken_within_a_stretch() -> None:
    ours = [run("turnout", 1.0), run("turnout", 2.0, number=2)]
    assert over(ours, [run("smg", 3.0), run("smg", 4.0, number=2), run("smg", 9.0, number=3)]) == [3.0, 2.0]


def test_routers_stand_in_the_order_of_the_table() -> None:
    rows = of(found(run("smg", 2.0), run("turnout", 1.0), run("smg", 2.0, "agents")), "conversation")
    assert [*rows] == ["turnout", "smg"]


def test_conversations_want_twice_as_fast_and_agents_not_slower() -> None:
    runs = [run("turnout", 1.0), run("smg", 1.5), run("turnout", 1.0, "agents"), run("smg", 0.9, "agents")]
    assert [(goal.what, goal.found, goal.met) for goal in goals(found(*runs))] == [
        ("conversation: smg's mean over turnout's", 1.5, False),
        ("agents: turnout's mean over smg's", 1 / 0.9, False),
    ]


def test_a_plain_proxy_is_no_rival() -> None:
    assert [*goals(found(run("turnout", 1.0), run("nginx", 1.0)))] == []


def test_a_late_load_generator_is_a_missed_goal() -> None:
    (goal,) = goals(found(run("turnout", 1.0, late_s=0.05)))
    assert (goal.found, goal.met) == (50.0, False)
    assert "lateness" in goal.what


def test_a_router_is_held_against_its_twin() -> None:
    known = found(run("turnout", 1.0), run("sglang-router", 2.0), prefix_aware=1.1, sglang_cache_aware=3.0)
    assert [[row[1], row[5], row[8]] for row in twin_rows(known)] == [
        ["turnout", "1.10", "yes"],
        ["sglang-router", "1.50", "no"],
    ]
    assert order(known) == ("Conversation, fastest first: turnout, sglang-router; simulated: turnout, sglang-router.")


def test_a_router_without_its_simulated_stretch_is_not_compared() -> None:
    assert twin_rows(found(run("turnout", 1.0), run("turnout", 1.0, number=2), prefix_aware=1.0)) == []


def test_the_page_names_who_was_left_out_and_why() -> None:
    text = document(found(run("turnout", 1.0), prefix_aware=1.0))
    assert "Left out: smg: could not be installed" in text
    assert "## Conversation" in text
    assert "## Agents" not in text


def test_the_json_has_each_stretch_and_can_be_written() -> None:
    made = json.loads(json.dumps(as_json(found(run("turnout", 1.0), prefix_aware=1.0))))
    assert made["rows"]["conversation"]["turnout"]["stretches"]["1"]["ttft_s"]["mean"] == 1.0
    assert made["simulated"][0]["hit_rate"] == 0.2
