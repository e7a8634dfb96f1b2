"""The ledger of shares: level and shares together never exceed a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statesync.shares import LOST_S, ShareAsk, ShareGrant, ShareLedger, share_key
from tests.fakes.each_case import each_case

LIVE = ("a", "b")


def rate(held: float, want: float, **fields: float) -> ShareAsk:
    """A limit of 60 a minute."""
    return ShareAsk("k", 60.0, 1.0, held, want, **fields)


def slots(used: float, want: float, **fields: float) -> ShareAsk:
    """A limit of 10 at a time."""
    return ShareAsk("s", 10.0, 0.0, used, want, **fields)


def grant(ledger: ShareLedger, replica: str, ask: ShareAsk, now: float = 0.0) -> ShareGrant:
    return ledger.grant(replica, LIVE, [ask], now).grants[0]


def test_a_replica_gets_what_it_wants_of_a_limit_that_was_not_used() -> None:
    ledger = ShareLedger()
    answer = ledger.grant("a", LIVE, [rate(0, 20), slots(1, 4)], 0.0)
    assert answer.replicas == 2
    assert answer.grants == [ShareGrant(20, 40, 60), ShareGrant(4, 6, 6)]


def test_replicas_together_get_no_more_than_there_is() -> None:
    ledger = ShareLedger()
    assert grant(ledger, "a", rate(0, 50)).share == 50
    assert grant(ledger, "b", rate(0, 50)) == ShareGrant(10, 0, 60)


def test_units_that_were_used_flow_back_with_time_up_to_what_none_holds() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", rate(0, 60))
    assert grant(ledger, "a", rate(0, 0), 0.0).level == 0
    assert grant(ledger, "b", rate(0, 0), 15.0).level == 15
    assert grant(ledger, "b", rate(0, 20), 30.0) == ShareGrant(20, 10, 30)
    assert grant(ledger, "a", rate(0, 0), 1000.0) == ShareGrant(0, 40, 60)


def test_units_in_hand_that_are_not_wanted_go_to_others() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", rate(0, 60))
    assert grant(ledger, "a", rate(60, 10)).level == 50
    assert grant(ledger, "b", rate(0, 60)).share == 50


def test_a_debt_lowers_the_level_to_a_whole_limit_below_zero_at_most() -> None:
    ledger = ShareLedger()
    assert grant(ledger, "a", rate(0, 10, owed=70)) == ShareGrant(0, -10, -10)
    assert grant(ledger, "a", rate(0, 10, owed=1000)).level == -60
    assert grant(ledger, "a", rate(0, 10), 70.0).share == 10


def test_less_than_is_of_use_is_not_granted() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", rate(0, 55))
    assert grant(ledger, "b", rate(0, 20, least=6)) == ShareGrant(0, 5, 60)
    assert grant(ledger, "b", rate(0, 20, least=5)).share == 5


def test_the_share_of_a_replica_that_is_gone_is_free() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", slots(9, 10))
    assert grant(ledger, "b", slots(0, 4)).share == 0
    assert ledger.grant("b", ["b"], [slots(0, 4)], 0.0).grants == [ShareGrant(4, 6, 6)]


def test_slots_in_use_stay_whatever_the_level_is() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", slots(8, 8))
    assert grant(ledger, "b", slots(5, 6)) == ShareGrant(5, -3, -3)
    assert grant(ledger, "a", slots(2, 8)) == ShareGrant(5, 0, 0)


def test_units_in_hand_beyond_the_limit_are_taken_away() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", rate(0, 40))
    assert grant(ledger, "b", rate(60, 60)).share == 20


@each_case("age_s, level", [(-1.0, 60), (0.0, 0), (20.0, 20), (1000.0, 60)])
def test_a_limit_that_the_ledger_lost_flows_from_the_last_answer_on(age_s: float, level: float) -> None:
    assert grant(ShareLedger(), "a", rate(0, 0, age_s=age_s), 500.0).level == pytest.approx(level)


def test_of_slots_that_the_ledger_lost_only_those_in_use_are_granted_at_first() -> None:
    ledger, known = ShareLedger(), 1.0
    assert grant(ledger, "a", slots(3, 9)._replace(age_s=known)).share == 3
    assert grant(ledger, "b", slots(5, 7)._replace(age_s=known), LOST_S / 2).share == 5
    assert grant(ledger, "a", slots(3, 9)._replace(age_s=known), LOST_S / 2).share == 3
    assert grant(ledger, "a", slots(3, 9)._replace(age_s=known), LOST_S).share == 5


def test_what_a_new_replica_got_of_a_rate_that_the_ledger_lost_is_a_debt_once_an_older_one_asks() -> None:
    ledger = ShareLedger()
    assert grant(ledger, "a", rate(0, 40), 100.0) == ShareGrant(40, 20, 60)
    assert grant(ledger, "b", rate(0, 20, age_s=12.0), 102.0) == ShareGrant(0, -28, 12), "12 flowed, 40 are held"
    assert grant(ledger, "b", rate(0, 20, age_s=1.0), 103.0) == ShareGrant(0, -27, 13), "and only once"
    assert grant(ledger, "a", rate(40, 0, age_s=4.0), 104.0) == ShareGrant(0, 14, 14), "what it did not use is free"


def test_a_new_limit_is_not_taken_for_a_lost_one() -> None:
    ledger = ShareLedger()
    grant(ledger, "a", rate(0, 40), 100.0)
    assert grant(ledger, "a", rate(40, 40, age_s=0.2), 100.2).level == 20
    assert grant(ledger, "b", rate(0, 20), 101.0) == ShareGrant(20, 0, 60)
    assert grant(ledger, "b", rate(20, 20, age_s=1.0), 102.0).level == 0


def test_a_new_replica_gets_no_more_of_slots_that_the_ledger_lost_once_an_older_one_asks() -> None:
    ledger = ShareLedger()
    assert grant(ledger, "a", slots(0, 4), 100.0).share == 4
    assert grant(ledger, "b", slots(5, 8, age_s=7.0), 100.1).share == 5
    assert grant(ledger, "a", slots(4, 9, age_s=0.2), 100.2).share == 4, "others may hold some"
    assert grant(ledger, "a", slots(4, 9, age_s=1.1), 100.1 + LOST_S).share == 5


def test_different_names_never_give_one_key() -> None:
    assert share_key("requests", "a/b") != share_key("requests", "a", "b")
    assert share_key("tokens", "team 1", "0", "m:8b", "ci") == "tokens/team%201/0/m%3A8b/ci"


asks = st.tuples(
    st.sampled_from("abc"),
    st.floats(0, 1),
    st.floats(0, 80),
    st.floats(0, 30),
    st.floats(0, 20),
    st.floats(0, 40),
)


@given(st.lists(asks, max_size=20))
def test_what_all_use_is_never_more_than_a_bucket_of_the_limit_admits(
    steps: list[tuple[str, float, float, float, float, float]],
) -> None:
    ledger, now, used, level = ShareLedger(), 0.0, 0.0, 60.0
    hands = dict.fromkeys("abc", 0.0)
    for replica, used_part, want, later, least, debt in steps:
        now += later
        owed = debt if level > -20 else 0.0  # only debts beyond a whole limit are forgotten
        used += used_part * hands[replica] + owed
        held = hands[replica] * (1 - used_part)
        answer = ledger.grant(replica, hands, [rate(held, want, least=least, owed=owed)], now)
        hands[replica], level, _ = answer.grants[0]
        assert sum(hands.values()) + level <= 60 + 1e-6
        assert used + sum(hands.values()) <= 60 + now + max(0.0, -level) + 1e-6
