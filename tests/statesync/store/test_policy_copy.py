"""A copy of a policy record can be changed without effect on the record."""

from __future__ import annotations

from typing import Any

from statesync.store.policy_copy import own_copy
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord


def test_a_copy_is_equal_and_shares_no_parameter() -> None:
    params: dict[str, Any] = {"weights": [1, 2]}
    canary = Canary(PolicyChoice("b", params), 0.5, CanaryGuard())
    record = PolicyRecord("a", params, 1, PolicyChoice("c", params), canary)
    copy = own_copy(record)
    assert copy == record
    params["weights"].append(3)
    for choice in (copy, copy.shadow, copy.canary and copy.canary.choice):
        assert choice is not None
        assert choice.params == {"weights": [1, 2]}
