"""`request_router_kwargs` of a deployment -> settings and the wanted policy, checked as strictly as the YAML file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from router.config.file import ConfigError, read_text
from router.settings import PolicySpec, Section, Settings
from statesync.store.policy_record import Canary, PolicyChoice

SOURCE: Final = "request_router_kwargs"


class CanarySpec(PolicySpec, frozen=True):
    """A policy that decides a share of the requests."""

    percent: float = 5.0
    """Of the sessions, 0 to 100."""


class RouterArguments(Section, frozen=True):
    """What a deployment's `request_router_kwargs` may have."""

    policy: str = "prefix_aware"
    """One of the policies, a ready-made one of `settings.policies`, or a plugin's `NAME@DIGEST`."""
    params: dict[str, object] = {}
    shadow: PolicySpec | None = None
    """Decides beside it, without effect."""
    canary: CanarySpec | None = None
    pool: str = ""
    """Its name in metrics and the shared state; empty: that of the deployment."""
    settings: dict[str, object] = {}
    """Sections of the YAML file that apply here: `state`, `sync`, `plugins`, `policies`, `prefix`, `trials`,
    `policy_guard`, `sessions`."""

    @property
    def wanted_canary(self) -> Canary | None:
        """The canary as a record has it."""
        canary = self.canary
        return None if canary is None else Canary(PolicyChoice(canary.name, canary.params), canary.percent)

    @property
    def wanted_shadow(self) -> PolicyChoice | None:
        """The shadow as a record has it."""
        return None if self.shadow is None else PolicyChoice(self.shadow.name, self.shadow.params)


def read_arguments(given: Mapping[str, object]) -> RouterArguments:
    """Raises ValueError, which names the argument and what is wrong with it."""
    unknown = sorted(given.keys() - {field.name for field in msgspec.structs.fields(RouterArguments)})
    if unknown:
        names = ", ".join(field.name for field in msgspec.structs.fields(RouterArguments))
        raise ValueError(f"{SOURCE}: unknown argument {unknown[0]!r}; there are {names}")
    try:
        arguments = msgspec.convert(dict(given), RouterArguments)
    except msgspec.ValidationError as error:
        raise ValueError(f"{SOURCE}: {error}") from None
    if arguments.canary is not None and not 0 <= arguments.canary.percent <= 100:
        raise ValueError(f"{SOURCE}.canary.percent: must be from 0 to 100, not {arguments.canary.percent:g}")
    return arguments


def settings_of(arguments: RouterArguments, pool: str) -> Settings:
    """The settings of a router whose one pool is the deployment. Raises ConfigError with every mistake in them."""
    name = arguments.pool or pool
    sections = {
        **arguments.settings,
        # Its pods are Ray's replicas: Ray names them, so that this one is never asked for.
        "pools": [
            {
                "name": name,
                "pods": ["http://ray-serve:1"],
                "policy": {"name": arguments.policy, "params": arguments.params},
            }
        ],
        "default_pool": name,
    }
    reading = read_text(json.dumps(sections), os.environ)
    errors = [each for each in reading.problems if each.severity == "error"]
    if errors:
        raise ConfigError(SOURCE, errors)
    return reading.settings
