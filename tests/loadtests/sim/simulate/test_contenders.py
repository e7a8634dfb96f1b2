"""Routers by name: the gateway's policies with their parameters, and peers as published."""

from __future__ import annotations

import pytest

from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.contenders import contender, title
from loadtests.sim.simulate.replicas import Replicas, Sharing
from schedulers import registry
from schedulers.errors import InvalidParams, UnknownPolicy
from tests.fakes.simulated_world import UNIT, world


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_policy_of_the_gateway_runs_in_its_replicas(name: str) -> None:
    router = contender(name)(world(), UNIT, Sharing(3), 0)
    assert isinstance(router, Replicas)
    assert len(router.replicas) == 3


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_name_gives_the_peer(name: str) -> None:
    assert type(contender(name)(world(), UNIT, Sharing(3), 0)) is PEERS[name]


def test_no_peer_hides_a_policy() -> None:
    assert not PEERS.keys() & registry.BUILT_IN.keys()


def test_parameters_are_checked_by_the_policy() -> None:
    contender("session_affinity:balance_factor=1.5")
    with pytest.raises(InvalidParams, match="no_such"):
        contender("p2c:no_such=1")


def test_parameters_of_more_than_one_level_are_json() -> None:
    spec = 'light=profile:{"scorers": [{"name": "prefix", "weight": 3}, {"name": "queue"}], "sample": 4}'
    router = contender(spec)(world(), UNIT, Sharing(1), 0)
    assert isinstance(router, Replicas)
    params = {"scorers": [{"name": "prefix", "weight": 3}, {"name": "queue"}], "sample": 4}
    assert router.scheduler == registry.create("profile", params)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("p2c", "p2c"),
        ("session_affinity:balance_factor=2", "session_affinity:balance_factor=2"),
        ("mine=p2c", "mine"),
        ('mine=profile:{"sample": 4}', "mine"),
        ('profile:{"sample": 4}', 'profile:{"sample": 4}'),
    ],
)
def test_a_table_shows_the_title_or_the_requested_name(spec: str, expected: str) -> None:
    assert title(spec) == expected


WRONG = {
    "an unknown name": ("prefix_awar", UnknownPolicy, "did you mean 'prefix_aware'.*and peers: oracle"),
    "a parameter without a value": ("p2c:x", InvalidParams, "'x' is not key=value"),
    "parameters that are no JSON object": ('profile:{"sample"}', InvalidParams, "is no JSON object: JSON is malformed"),
    "a composed policy that cannot be": ('profile:{"sample": -1}', InvalidParams, "'sample' must be int from 0"),
    "a parameter of a peer": ("lmetric:x=1", InvalidParams, "published settings"),
}


@pytest.mark.parametrize(("spec", "kind", "words"), list(WRONG.values()), ids=list(WRONG))
def test_an_invalid_name_or_parameter_is_reported(spec: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        contender(spec)
