"""One policy decides alike in every host: the gateway, the endpoint picker, Ray Serve's routers and the simulator.

`make same-decisions` does the same for a million requests.
"""

from __future__ import annotations

import os

import pytest

from router.settings import PolicySpec
from schedulers import registry
from tests.fakes.decision_hosts import play

DECISIONS = int(os.environ.get("TURNOUT_DECISIONS", "10000"))
"""Requests in all, a snapshot and a pick by every host for each."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240 + DECISIONS // 100)]

POLICIES = [
    *[PolicySpec(name=name) for name in registry.BUILT_IN],
    PolicySpec(name="session_affinity", params={"balance_factor": 2}),
    PolicySpec(
        name="profile",
        params={"scorers": [{"name": "prefix"}, {"name": "outlook"}], "picker": {"name": "weighted"}, "sample": 0},
    ),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{policy.name}{'*' if policy.params else ''}")
def test_every_host_picks_the_same_pod_for_every_request(policy: PolicySpec) -> None:
    lockstep = play(policy, DECISIONS // len(POLICIES), seed=len(policy.name))
    assert lockstep.decided == DECISIONS // len(POLICIES)
    assert not lockstep.differing[:3]
    assert {host.digest for host in lockstep.hosts.values()} == {lockstep.simulator.digest}
    assert len(lockstep.picked) > 3


def test_a_host_that_misses_first_tokens_is_found_to_differ() -> None:
    lockstep = play(PolicySpec(name="prefix_aware"), 300, deaf="ray")
    assert lockstep.differing
