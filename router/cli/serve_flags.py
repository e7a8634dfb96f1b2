"""The settings of `turnout serve`: the file's, changed by the flags. Starts nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from router.config.checks import problems_in
from router.config.file import ConfigError, described, read, with_environment
from router.settings import PolicySpec, Pool, Settings

DEFAULT_POOL = "default"
"""The pool that `--pod` and `--policy` make."""

COMMAND_LINE = "command line"
"""The source of settings that come from no file, in messages."""


class UsageError(Exception):
    """A command that cannot be carried out; the message is all the user sees."""


def _warn(message: str) -> None:
    sys.stderr.write(f"turnout: {message}\n")


def settings_for(
    given: argparse.Namespace, environ: Mapping[str, str], warn: Callable[[str], None] = _warn
) -> Settings:
    """The file's settings, changed by the flags. Raises UsageError, ConfigError; warnings go to `warn`."""
    overlay = partial(_overlaid, given=given)
    if given.config is not None:
        reading = read(given.config, environ, overlay)
        settings, problems, source = reading.settings, reading.problems, given.config
    else:
        if not given.pod:
            raise UsageError("nothing to route to: give --config FILE or --pod URL")
        settings = with_environment(overlay(Settings()), environ)
        problems, source = problems_in(settings), COMMAND_LINE
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(source, problems)
    for problem in problems:
        warn(described(source, problem))
    return settings


def _overlaid(settings: Settings, given: argparse.Namespace) -> Settings:
    replace = msgspec.structs.replace
    if given.listen is not None:
        settings = replace(settings, listen=given.listen)
    if given.control is not None:
        settings = replace(settings, control=replace(settings.control, listen=given.control))
    if given.state is not None:
        settings = replace(settings, state=given.state)
    if given.pod or given.policy is not None:
        settings = replace(settings, pools=_with_default(settings.pools, given.pod, given.policy))
    return settings


def _with_default(pools: Sequence[Pool], pods: list[str], policy: str | None) -> list[Pool]:
    """The pools with `default` changed, or added where the file has none."""
    replace = msgspec.structs.replace
    changed = next((pool for pool in pools if pool.name == DEFAULT_POOL), Pool(name=DEFAULT_POOL))
    if pods:
        changed = replace(changed, pods=pods, discovery=Pool(name=DEFAULT_POOL).discovery)
    if policy is not None:
        changed = replace(changed, policy=PolicySpec(name=policy))
    if all(pool.name != DEFAULT_POOL for pool in pools):
        return [*pools, changed]
    return [changed if pool.name == DEFAULT_POOL else pool for pool in pools]
