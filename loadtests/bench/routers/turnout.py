"""This gateway as a peer: each variant is a settings file. A new variant is one row of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.processes.replica import listening, pool, serve
from loadtests.sim.ports import HOST

NEVER_S = 3600.0
"""Longer than any bench."""

QUIET: Mapping[str, Any] = {
    "health": {"interval_s": NEVER_S},
    "scrape": {"interval_s": NEVER_S},
    "retries": {"attempts": 0},
    "timeouts": {"idle_s": 0, "client_write_s": 0},
}
"""The least work beside the request itself that the settings allow."""

EVERYTHING: Mapping[str, Any] = {
    "health": {"interval_s": 1.0},
    "scrape": {"interval_s": 0.5},
    "timeouts": {"total_s": 600.0},
    "limits": {"max_inflight": 15_000},
}
"""Probes, engine scrapes, every timeout and every limit; the bench also scrapes /metrics."""


class Variant(NamedTuple):
    """A way to run this gateway."""

    policy: str
    settings: Mapping[str, Any] = {}
    pool: Mapping[str, Any] = {}
    shared: bool = False
    """State in Redis."""
    pair: bool = False
    """With a second replica on the same Redis, which gets no requests."""


_ALL = Variant("prefix_aware", EVERYTHING, {"max_inflight_per_pod": 10_000, "allowed_policies": ["*"]}, shared=True)

VARIANTS: Mapping[str, Variant] = {
    "turnout-random": Variant("random", QUIET),
    "turnout": Variant("prefix_aware"),
    "turnout-all": _ALL,
    "turnout-pair": _ALL._replace(pair=True),
}
"""By the name in the report."""


def settings(name: str, port: int, control: int, engines: Sequence[int], state: str = "") -> dict[str, Any]:
    """The settings file of a variant; `state` is the URL of the Redis for variants that share it."""
    variant = VARIANTS[name]
    pods = [f"http://{HOST}:{engine}" for engine in engines]
    return {
        **listening(port, control),
        "pools": [{**pool(pods, variant.policy), **variant.pool}],
        "default_pool": "default",
        **({"state": state} if variant.shared and state else {}),
        **variant.settings,
    }


def command(
    name: str, python: str, directory: Path, port: int, control: int, engines: Sequence[int], state: str = ""
) -> list[str]:
    """Write the settings into `directory` and return the command that serves them on that Python."""
    return serve(python, settings(name, port, control, engines, state), directory / "turnout.yaml")
