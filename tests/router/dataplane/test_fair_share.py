"""The counters of tenants: what is charged, when it is lifted, and how other replicas' service counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.fair_share import PREFILL_TOKENS, SEPARATOR, FairShares, prefilled

TENANTS = {"a": (1.0, 0), "b": (1.0, 0), "heavy": (4.0, 0)}


def both_wait(shares: FairShares, *tenants: str) -> None:
    for tenant in tenants:
        shares.pool("p").begins(shares.counter("p", tenant))


def test_a_request_is_charged_its_prompt_and_the_expected_answer_and_at_its_end_the_true_one() -> None:
    shares = FairShares(TENANTS)
    both_wait(shares, "a", "b")
    charge = shares.begin("p", "a", 1000, 0)
    assert shares.counter("p", "a").virtual == 1000 + 256
    shares.settle(charge, 40)
    assert shares.counter("p", "a").virtual == 1000 + 40


def test_the_answers_of_a_tenant_are_learned_and_none_is_expected_to_be_longer_than_it_may() -> None:
    shares = FairShares(TENANTS)
    for _ in range(100):
        shares.settle(shares.begin("p", "a", 0, 0), 1000)
    assert 990 < shares.begin("p", "a", 0, 0).answer <= 1000
    assert shares.begin("p", "a", 0, 10).answer == 10
    assert shares.begin("p", "b", 0, 0).answer == 256


def test_an_answer_of_unknown_length_counts_as_it_was_expected() -> None:
    shares = FairShares(TENANTS)
    both_wait(shares, "a")
    shares.settle(shares.begin("p", "a", 10, 100), None)
    assert shares.counter("p", "a").virtual == 110


def test_what_no_pod_served_is_refunded() -> None:
    shares = FairShares(TENANTS)
    both_wait(shares, "a")
    shares.refund(shares.begin("p", "a", 10, 100))
    assert shares.counter("p", "a").virtual == 0


def test_a_weight_divides_what_is_charged() -> None:
    shares = FairShares(TENANTS)
    both_wait(shares, "heavy")
    shares.begin("p", "heavy", 300, 100)
    assert shares.counter("p", "heavy").virtual == 100


def test_a_tenant_that_was_away_starts_where_the_others_are() -> None:
    shares = FairShares(TENANTS)
    both_wait(shares, "a")
    for _ in range(10):
        shares.pool("p").raise_floor(shares.counter("p", "a"))
        shares.begin("p", "a", 900, 100)
    both_wait(shares, "b")
    assert shares.counter("p", "b").virtual == 9000


def test_what_a_tenant_uses_while_none_waits_is_not_held_against_it() -> None:
    shares = FairShares(TENANTS)
    for _ in range(10):
        shares.begin("p", "a", 900, 100)
    both_wait(shares, "a", "b")
    assert shares.counter("p", "a").virtual - shares.counter("p", "b").virtual == 1000


def test_pools_are_counted_apart() -> None:
    shares = FairShares(TENANTS)
    shares.begin("p", "a", 900, 100)
    assert shares.counter("q", "a").virtual == 0


def test_what_another_replica_serves_counts_here_by_its_growth() -> None:
    shares, name = FairShares(TENANTS), f"p{SEPARATOR}a"
    both_wait(shares, "a", "b")
    shares.served_elsewhere("r2", {name: 50_000})
    assert shares.counter("p", "a").virtual == 0, "where counting begins says nothing"
    shares.served_elsewhere("r2", {name: 50_700})
    shares.served_elsewhere("r3", {name: 100})
    shares.served_elsewhere("r3", {name: 400})
    assert shares.counter("p", "a").virtual == 1000


def test_a_replica_that_starts_again_counts_from_nothing() -> None:
    shares, name = FairShares(TENANTS), f"p{SEPARATOR}a"
    both_wait(shares, "a", "b")
    shares.served_elsewhere("r2", {name: 50_000})
    shares.served_elsewhere("r2", {name: 300})
    assert shares.counter("p", "a").virtual == 300


def test_what_a_replica_served_stays_counted_when_it_is_gone() -> None:
    shares, name = FairShares(TENANTS), f"p{SEPARATOR}a"
    both_wait(shares, "a", "b")
    shares.served_elsewhere("r2", {name: 1})
    shares.served_elsewhere("r2", {name: 501})
    shares.replica_gone("r2")
    shares.replica_gone("r2")
    assert shares.counter("p", "a").virtual == 500
    shares.served_elsewhere("r2", {name: 9})
    assert shares.counter("p", "a").virtual == 500


def test_a_tenant_that_is_not_known_here_is_ignored() -> None:
    shares = FairShares(TENANTS)
    shares.served_elsewhere("r2", {f"p{SEPARATOR}z": 1, "nonsense": 1})
    shares.served_elsewhere("r2", {f"p{SEPARATOR}z": 10, "nonsense": 10})
    assert shares.pool("p").counters == {}


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 2000)), max_size=50))
def test_two_replicas_agree_on_what_was_served_and_the_shared_number_never_shrinks(
    requests: list[tuple[int, int]],
) -> None:
    sent: list[dict[str, int]] = [{f"p{SEPARATOR}a": 0}]
    here = FairShares(TENANTS, lambda name, tokens: sent.append({name: tokens}))
    there = FairShares(TENANTS)
    both_wait(here, "a", "b")
    both_wait(there, "a", "b")
    for prompt, answer in requests:
        here.settle(here.begin("p", "a", prompt, 0), answer)
    for message in sent:
        there.served_elsewhere("here", message)
    numbers = [next(iter(message.values())) for message in sent]
    assert numbers == sorted(numbers)
    own = here.counter("p", "a")
    assert there.counter("p", "a").virtual + own.owed == own.virtual == sum(map(sum, requests))


def test_a_tenant_with_far_more_than_its_share_leaves_the_last_places_to_the_others() -> None:
    shares = FairShares(TENANTS)
    pool, a, b = shares.pool("p"), shares.counter("p", "a"), shares.counter("p", "b")
    charges = [shares.begin("p", "a", 100, 10) for _ in range(20)]
    free = {"p": (2, 32, 1)}
    assert not pool.leaves_places(a, free.__getitem__), "it is alone"
    charges += [shares.begin("p", "b", 100, 10) for _ in range(4)]
    assert pool.leaves_places(a, free.__getitem__)
    assert not pool.leaves_places(b, free.__getitem__)
    free["p"] = (9, 32, 1)
    assert not pool.leaves_places(a, free.__getitem__), "more than a quarter is free"
    free["p"] = (2, 32, 1)
    for charge in charges[:10]:
        shares.settle(charge, None)
    assert pool.leaves_places(a, free.__getitem__), "it has 10 of 14"
    free["p"] = (7, 32, 1)
    assert not pool.leaves_places(a, free.__getitem__), "which is not 1.5 times its half: it leaves a part of them"
    free["p"] = (1, 32, 1)
    for charge in charges[10:16]:
        shares.settle(charge, None)
    assert not pool.leaves_places(a, free.__getitem__), "it has its share"


def test_a_tenant_with_far_more_than_its_share_begins_no_prompt_before_the_first_tokens_of_others_have_come() -> None:
    shares, two_pods = FairShares(TENANTS), {"p": (60, 64, 2)}.__getitem__
    pool, a, b = shares.pool("p"), shares.counter("p", "a"), shares.counter("p", "b")
    shares.begin("p", "b", 900, 10, 900)
    whole = [shares.begin("p", "a", 900, 10) for _ in range(8)]
    assert not pool.leaves_places(a, two_pods), "the first token of a whole answer is not seen"
    first = shares.begin("p", "a", 900, 10, 2 * PREFILL_TOKENS)
    assert not pool.leaves_places(a, two_pods), "one pod may be idle"
    second = shares.begin("p", "a", 900, 10, 0)
    assert pool.leaves_places(a, two_pods)
    assert not pool.leaves_places(b, two_pods), "it has less than its share"
    assert prefilled(first), "it waited for that"
    assert not prefilled(first) and not prefilled(whole[0])
    assert not pool.leaves_places(a, two_pods)
    shares.settle(second, 10)
    assert (a.prefilling, a.prefill_tokens) == (0, 0)


def test_a_tenant_that_sends_nothing_for_long_counts_no_more() -> None:
    shares = FairShares(TENANTS)
    shares.refund(shares.begin("p", "b", 1, 1))
    for _ in range(300):
        shares.begin("p", "a", 1, 1)
    assert shares.pool("p").of_share(shares.counter("p", "a")) == 1.0
