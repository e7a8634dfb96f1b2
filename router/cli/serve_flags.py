"""The settings of `turnout serve`: the file's, changed by the environment, changed by the flags. Starts nothing.

A problem of a value that a flag or a variable set names that flag or variable, not a line of the file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from router.config.checks import problems_in
from router.config.environment import FLAGS, attributed, unknown_variables, with_environment, with_login
from router.config.file import ConfigError, described, read
from router.config.problems import Path, Problem
from router.settings import Discovery, PolicySpec, Pool, Settings

DEFAULT_POOL = "default"
"""The pool that `--pod` and `--policy` make."""

COMMAND_LINE = "command line"
"""The source of settings that come from no file, in messages."""

_PLACES: Mapping[str, Path] = {
    "--listen": ("listen",),
    "--control": ("control", "listen"),
    "--state": ("state",),
    "--log-level": ("logging", "level"),
}
"""Flag -> the setting that it replaces; those of a pool depend on its place."""

_PROCESSES = re.compile(r"0*[1-9][0-9]{0,3}", re.ASCII)

_T = TypeVar("_T")


class UsageError(Exception):
    """A command that cannot be carried out; the message is all the user sees."""


def _warn(message: str) -> None:
    sys.stderr.write(f"turnout: {message}\n")


def processes(text: str) -> int:
    """The value of `--workers`."""
    if not _PROCESSES.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds. Raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return found


def settings_for(
    given: argparse.Namespace, environ: Mapping[str, str], warn: Callable[[str], None] = _warn
) -> Settings:
    """The file's settings, changed by the environment and the flags; `given` gets the flags that the environment has.

    Raises UsageError, ConfigError; warnings go to `warn`.
    """
    origins = _from_environment(given, environ)
    overlay = partial(_overlaid, given=given, environ=environ, origins=origins)
    if given.config is not None:
        reading = read(given.config, environ, overlay)
        settings, problems, source = reading.settings, reading.problems, given.config
    else:
        if not given.pod:
            for problem in unknown_variables(environ, Settings()):  # one may be what was meant
                warn(described(COMMAND_LINE, problem))
            raise UsageError("nothing to route to: give --config FILE or --pod URL (or TURNOUT_CONFIG or TURNOUT_PODS)")
        settings = overlay(with_environment(Settings(), environ))
        problems, source = [attributed(each, environ) for each in problems_in(settings)], COMMAND_LINE
    problems = [_attributed(problem, _places(settings, given), origins) for problem in problems]
    problems += unknown_variables(environ, settings)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(source, problems)
    for problem in problems:
        warn(described(source, problem))
    return settings


def _from_environment(given: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, str]:
    """Fill in the flags that were not given and that the environment has; returns flag -> its name in messages."""
    origins = {flag: flag for flag in FLAGS.values()}
    for variable, flag in FLAGS.items():
        name = flag.removeprefix("--").replace("-", "_")
        text = environ.get(variable, "")
        if not text or getattr(given, name, None):
            continue
        origins[flag] = variable
        try:
            value: object = text.replace(",", " ").split() if flag == "--pod" else text
            setattr(given, name, processes(text) if flag == "--workers" else value)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"{variable}: {error}") from None
    return origins


def _overlaid(
    settings: Settings, given: argparse.Namespace, environ: Mapping[str, str], origins: Mapping[str, str]
) -> Settings:
    replace = msgspec.structs.replace
    if given.listen is not None:
        settings = replace(settings, listen=given.listen)
    if given.control is not None:
        settings = replace(settings, control=replace(settings.control, listen=given.control))
    if given.state is not None:
        settings = replace(settings, state=with_login(given.state, environ))
    if given.log_level is not None:
        settings = replace(settings, logging=replace(settings.logging, level=given.log_level))
    if given.pod or given.policy is not None:
        at = _flag_pool(settings.pools, origins["--pod" if given.pod else "--policy"])
        pools = settings.pools or [Pool(name=DEFAULT_POOL)]
        changed = _changed(pools[at], given.pod, given.policy)
        settings = replace(settings, pools=[*pools[:at], changed, *pools[at + 1 :]])
    return settings


def _flag_pool(pools: Sequence[Pool], origin: str) -> int:
    """The place of the pool that `--pod` and `--policy` change: `default`, or the only one. Raises UsageError."""
    names = [pool.name for pool in pools]
    if DEFAULT_POOL in names:
        return names.index(DEFAULT_POOL)
    if len(names) > 1:
        raise UsageError(
            f"{origin} changes the pool `default`, and the file has {', '.join(names)}; "
            "name one of them `default`, or change the file"
        )
    return 0


def _changed(pool: Pool, pods: list[str], policy: str | None) -> Pool:
    replace = msgspec.structs.replace
    if pods:
        pool = replace(pool, pods=pods, discovery=Discovery())
    if policy is not None:
        pool = replace(pool, policy=PolicySpec(name=policy))
    return pool


def _places(settings: Settings, given: argparse.Namespace) -> dict[str, Path]:
    """Given flag -> the settings that it replaced."""
    places = {flag: path for flag, path in _PLACES.items() if getattr(given, flag[2:].replace("-", "_")) is not None}
    if settings.pools and (given.pod or given.policy is not None):
        names = [pool.name for pool in settings.pools]
        at = names.index(DEFAULT_POOL) if DEFAULT_POOL in names else 0
        if given.pod:
            places["--pod"] = ("pools", at, "pods")
        if given.policy is not None:
            places["--policy"] = ("pools", at, "policy")
    return places


def _attributed(problem: Problem, places: Mapping[str, Path], origins: Mapping[str, str]) -> Problem:
    for flag, path in places.items():
        if problem.path[: len(path)] == path:
            return problem._replace(line=None, origin=origins[flag])
    return problem
