"""The policies that are swapped: all built-in ones, and composed ones of different parts. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from schedulers.registry import BUILT_IN


class Choice(NamedTuple):
    """A policy as the control port takes it."""

    policy: str
    params: Mapping[str, Any]


COMPOSED: Sequence[Choice] = (
    Choice(
        "profile",
        {
            "filters": [{"name": "headroom", "kv_usage": 0.95, "queued": 64}],
            "scorers": [
                {"name": "queue", "weight": 2},
                {"name": "kv_usage", "weight": 2},
                {"name": "prefix", "weight": 3},
            ],
            "picker": {"name": "best"},
        },
    ),
    Choice(
        "profile",
        {"scorers": [{"name": "inflight_tokens"}, {"name": "session", "weight": 2}], "picker": {"name": "weighted"}},
    ),
    Choice(
        "profile",
        {
            "filters": [{"name": "role", "roles": ["both", "decode"]}],
            "scorers": [{"name": "latency"}],
            "picker": {"name": "top_k", "k": 2},
        },
    ),
)

CHOICES: Sequence[Choice] = (*(Choice(name, {}) for name in BUILT_IN if name != "profile"), *COMPOSED)
"""In the order in which they are registered, composed ones last."""
