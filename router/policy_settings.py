"""What a user can configure of policies: which one decides, when one is taken out, which are tried and which come from
files. `settings.py` has the rest. Values only."""

from __future__ import annotations

from statesync.settings import Section


class PolicySpec(Section, frozen=True):
    """A policy by name and parameters."""

    name: str = "prefix_aware"
    """One of the [policies](#policies), a ready-made one of `policies`, or that of a plugin."""
    params: dict[str, object] = {}
    """Its parameters by name; those left out have their defaults."""


class PolicyGuard(Section, frozen=True):
    """When a failing policy is taken out. Until then a safe policy decides the requests at which it fails."""

    failures: int = 5
    """This number within `window_s` takes a policy out, until a policy is set, the same or another."""
    window_s: float = 10.0
    """The time over which failures are counted."""
    slow_s: float = 0.05
    """A pick that takes longer counts as a failure, though its answer is used."""
    stuck_s: float = 0.25
    """A pick that takes longer is interrupted, unless the policy is built in."""


class TrialSettings(Section, frozen=True):
    """Policies that are tried on live traffic: in the shadow of the one that decides, or on a share of it."""

    shadow_per_s: float = 100.0
    """Most requests per second and pool that a shadow sees."""


class Plugins(Section, frozen=True):
    """Policies that are not built in. They run in the gateway's process, with all its rights."""

    entry_points: list[str] = []
    """Policies of installed packages to load at start, by name (group `turnout.schedulers`); `["*"]` for all."""
    directory: str = ""
    """Each `*.py` in it, once checked, is offered as `name@digest`; a mounted ConfigMap will do. Empty is off."""
    interval_s: float = 2.0
    """Between two listings of the directory."""
    check_timeout_s: float = 20.0
    """A check that takes longer has failed. It runs in a process of its own."""
    check_memory_bytes: int = 1073741824
    """Address space of that process."""
