"""The tenants' arrivals: in order, repeatable, with prompts that go on with earlier ones."""

from __future__ import annotations

from loadtests.bench.fairness.traffic import SYSTEM_UNITS, UNIT, conversations, in_order, steady


def test_conversations_come_in_order_and_most_go_on_with_an_earlier_prompt_of_their_tenant() -> None:
    arrivals = conversations({"a": 5.0, "b": 2.0}, 60.0)
    assert arrivals == in_order(arrivals) == conversations({"a": 5.0, "b": 2.0}, 60.0)
    assert {each.tenant for each in arrivals} == {"a", "b"}
    assert len({each.units[:SYSTEM_UNITS] for each in arrivals}) == 2
    assert sum(len(each.units) > SYSTEM_UNITS + 9 for each in arrivals) > len(arrivals) / 3
    slower = conversations({"a": 5.0, "b": 2.0}, 60.0, 0.5)
    assert [each.at_s for each in slower] == [each.at_s * 2 for each in arrivals]


def test_a_steady_load_has_its_rate_and_no_prompt_in_common() -> None:
    arrivals = steady("a", 10.0, 5.0, 105.0, 2 * UNIT + 1, 7)
    assert 900 < len(arrivals) < 1100
    assert (arrivals[0].at_s > 5.0, arrivals[-1].at_s < 105.0) == (True, True)
    assert len({each.units[0] for each in arrivals}) == len(arrivals)
    assert {(each.prompt_tokens, each.output_tokens, len(each.units)) for each in arrivals} == {(2 * UNIT + 1, 7, 3)}
