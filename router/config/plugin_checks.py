"""Checks of the plugin settings, and of policy names with a digest. Installed policies that the settings name are
loaded here, because other settings may refer to them; a plugin file is only read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.config.problems import Path, Problem
from router.plugins.directory import DirectoryListing, list_plugins
from router.plugins.loading import digest_of
from router.settings import Settings
from schedulers.errors import SchedulerError
from schedulers.registry import load_entry_points


def is_version(name: str) -> bool:
    """Whether this names one version of a plugin file, as `name@digest`."""
    return "@" in name


def plugin_problems(settings: Settings) -> Iterator[Problem]:
    """Problems of the section `plugins`, and of every name with a digest."""
    plugins = settings.plugins
    for at, name in enumerate(plugins.entry_points):
        try:
            load_entry_points([name])
        except SchedulerError as error:
            yield Problem(("plugins", "entry_points", at), str(error))
    found = list_plugins(plugins.directory) if plugins.directory else DirectoryListing({}, {})
    if found.problem:
        # It may be mounted later: the gateway lists it again and again.
        yield Problem(("plugins", "directory"), found.problem, "warning")
    digests = {file: digest_of(source) for file, source in found.sources.items()}
    for path, name in _versions(settings):
        if name.rpartition("@")[2] not in digests.values():
            yield Problem(path, f"{name!r}: {_nowhere(plugins.directory, digests)}")


def _versions(settings: Settings) -> Iterator[tuple[Path, str]]:
    named: list[tuple[Path, str]] = [
        (("policies", name, "name"), spec.name) for name, spec in settings.policies.items()
    ]
    for at, pool in enumerate(settings.pools):
        named.append((("pools", at, "policy", "name"), pool.policy.name))
        named += [(("pools", at, "allowed_policies", n), name) for n, name in enumerate(pool.allowed_policies)]
    return (each for each in named if is_version(each[1]))


def _nowhere(directory: str, digests: Mapping[str, str]) -> str:
    if not directory:
        return "a version of a plugin file needs `plugins.directory`"
    there = ", ".join(f"{file} is {digest}" for file, digest in digests.items()) or "there is none"
    return f"no file in {directory} has that digest; {there}"
