"""Which pools' requests have their session read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from router.policy.model import LivePolicies, LivePolicy
from schedulers import registry
from schedulers.named import Named
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from statesync.store.protocol import PolicyRecord


class Foreign:
    """A policy that does not say what it reads."""

    name = "foreign"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        return Rejection("never")


class Trial:
    """Something that runs beside a policy."""

    def objection(self) -> str:
        return ""

    def end(self, note: str) -> None:
        pass


def live(policy: str | Scheduler, params: Mapping[str, object] | None = None, trial: Trial | None = None) -> LivePolicy:
    scheduler = registry.create(policy, params or {}) if isinstance(policy, str) else policy
    return LivePolicy(scheduler, PolicyRecord(scheduler.name, {}, 1), trial)


SESSION_SCORER = {"scorers": [{"name": "session"}]}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        *[(live(name), name == "session_affinity") for name in registry.BUILT_IN],
        (live("profile", SESSION_SCORER), True),
        (live(Named("mine", registry.create("session_affinity"))), True),
        (live(Named("mine", registry.create("least_load"))), False),
        (live(Foreign()), True),
        (live("least_load", trial=Trial()), True),
    ],
)
def test_sessions_are_read_where_the_policy_may_look_at_them(policy: LivePolicy, expected: bool) -> None:
    policies = LivePolicies([("main", policy)])
    assert policies.session_pools == ({"main"} if expected else set())


def test_the_set_follows_every_change_and_stays_the_same_object() -> None:
    policies = LivePolicies([("a", live("least_load")), ("b", live("least_load"))])
    pools = policies.session_pools
    policies["a"] = live("session_affinity")
    assert pools == {"a"}
    policies["a"] = live("p2c")
    assert pools == set()
    policies.read_sessions_of(["b"])
    policies["b"] = live("p2c")
    assert pools == {"b"}
    assert policies.session_pools is pools
