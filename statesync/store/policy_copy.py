"""A policy record that shares no object with another one, for stores that pass records on inside one process."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from statesync.store.policy_record import PolicyChoice
from statesync.store.protocol import PolicyRecord


def own_copy(record: PolicyRecord) -> PolicyRecord:
    """The record with parameters that are shared with no other object."""
    canary = record.canary
    return record._replace(
        params=_own_params(record.params),
        shadow=_own_choice(record.shadow) if record.shadow is not None else None,
        canary=canary._replace(choice=_own_choice(canary.choice)) if canary is not None else None,
    )


def _own_choice(choice: PolicyChoice) -> PolicyChoice:
    return choice._replace(params=_own_params(choice.params))


def _own_params(params: Mapping[str, object]) -> Mapping[str, object]:
    return deepcopy(dict(params))
