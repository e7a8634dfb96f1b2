"""The pods of a run in words: `h100-8b`, or `h100-8b:6,a100-8b:2`. Knows no trace and no policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from loadtests.sim.engine.profiles import PROFILES, EngineProfile


class FleetError(ValueError):
    """A description of a fleet that cannot be read; the message says why."""


def parse_fleet(text: str, pods: int | None, default_pods: int) -> list[EngineProfile]:
    """The profile of each pod. `pods` is their number if it was given, which counts in `text` must add up to.

    Raises FleetError.
    """
    kinds = [part.partition(":") for part in text.split(",")]
    for name, _, _ in kinds:
        if name not in PROFILES:
            raise FleetError(f"no profile {name!r}; there are: {', '.join(sorted(PROFILES))}")
    if len(kinds) == 1 and not kinds[0][1]:
        return [PROFILES[text]] * (default_pods if pods is None else pods)
    fleet: list[EngineProfile] = []
    for name, _, count in kinds:
        if not count.isdigit() or not int(count):
            raise FleetError(f"{text!r}: each kind of pods needs its number, as in h100-8b:6,a100-8b:2")
        fleet += [PROFILES[name]] * int(count)
    if pods not in (None, len(fleet)):
        raise FleetError(f"{text!r} has {len(fleet)} pods, and --pods says {pods}: leave out --pods")
    return fleet


def fleet_name(fleet: Sequence[EngineProfile]) -> str:
    """The fleet in words, as `parse_fleet` takes them; one name if all pods are of one kind."""
    kinds = [(name, len(list(same))) for name, same in groupby(profile.name for profile in fleet)]
    return kinds[0][0] if len(kinds) == 1 else ",".join(f"{name}:{count}" for name, count in kinds)
