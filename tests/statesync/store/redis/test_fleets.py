"""Which replicas are of another fleet, and what the log says of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from schedulers.types import PodId
from statesync.store.redis.fleets import REPEAT_S, SETTLE_LEASES, FleetWatch, difference
from statesync.store.redis.presence import Pools

LEASE_S = 5.0
SETTLED_S = SETTLE_LEASES * LEASE_S


def pools(**named: str) -> Pools:
    """Pools whose pods are letters."""
    return {pool: [PodId(letter) for letter in letters] for pool, letters in named.items()}


@pytest.mark.parametrize(
    ("own", "others"),
    [
        (pools(chat="abc"), pools(chat="cde")),
        (pools(chat="abc"), pools(chat="abc", code="x")),
        (pools(chat="abc", code=""), pools(chat="c", code="xyz")),
        (pools(chat="abc"), pools(chat="")),
        (pools(chat=""), pools(chat="abc")),
        (pools(chat="abc"), pools(other="abc")),
        (pools(chat="abc", code=""), pools(chat="", code="xyz")),
        (pools(chat="abc"), pools(chat="", code="xyz")),
        (pools(), pools()),
    ],
)
def test_replicas_that_share_a_pod_of_each_common_pool_are_one_fleet(own: Pools, others: Pools) -> None:
    assert difference(own, others) == ""
    assert difference(others, own) == ""


@pytest.mark.parametrize(
    ("own", "others", "said"),
    [
        (pools(chat="abc"), pools(chat="xy"), "pool chat has 3 pods here and 2 there"),
        (pools(chat="abc", code="d"), pools(chat="xy", code="d"), "pool chat has"),
        (pools(chat="abc"), pools(code="xy", more=""), "other pools (code)"),
    ],
)
def test_replicas_with_other_pods_are_two_fleets(own: Pools, others: Pools, said: str) -> None:
    assert said in difference(own, others)
    assert difference(others, own)


def test_another_fleet_is_logged_after_a_while_again_and_again_until_it_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    watch, own, others = FleetWatch("turnout", LEASE_S), pools(chat="abc"), {"far": pools(chat="xy")}
    watch.look(own, others, 100.0)
    watch.look(own, others, 99.9 + SETTLED_S)
    assert (watch.strangers, caplog.messages) == (0, [])
    watch.look(own, others, 100.0 + SETTLED_S)
    watch.look(own, others, 101.0 + SETTLED_S)
    assert watch.strangers == 1
    (message,) = caplog.messages
    assert all(part in message for part in ("far", "namespace turnout", "pool chat", "policy", "sync.namespace"))
    watch.look(own, others, 100.0 + SETTLED_S + REPEAT_S)
    assert len(caplog.messages) == 2
    watch.look(own, {}, 101.0 + SETTLED_S + REPEAT_S)
    assert watch.strangers == 0
    assert "far is gone" in caplog.messages[-1]


def test_a_change_of_pods_that_discovery_shows_one_replica_first_is_no_other_fleet() -> None:
    watch, own = FleetWatch("turnout", LEASE_S), pools(chat="abc")
    watch.look(own, {"far": pools(chat="xy")}, 100.0)
    watch.look(own, {}, 101.0)
    watch.look(own, {"far": pools(chat="xy")}, 100.0 + SETTLED_S)
    assert watch.strangers == 0


def test_replicas_of_one_fleet_are_compared_up_to_the_first_common_pod() -> None:
    looked: list[PodId] = []

    class Counted(tuple[PodId, ...]):
        """Pods that note each look at one."""

        def __iter__(self) -> Iterator[PodId]:
            for pod in super().__iter__():
                looked.append(pod)
                yield pod

    assert difference(pools(chat="abcdef"), {"chat": Counted(map(PodId, "xbcdef"))}) == ""
    assert looked == ["x", "b"]
