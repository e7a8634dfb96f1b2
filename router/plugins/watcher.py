"""Lists the plugin directory at intervals, has new files checked and loaded, and keeps the registry up to date.
Listing, checking and loading run in threads, one file after the other: no request waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from router.plugins.checking import CheckLimits, check
from router.plugins.directory import list_plugins
from router.plugins.examples import Example
from router.plugins.loading import digest_of
from router.plugins.registry import LoadedFile, PluginRegistry, UncheckedFile, load_checked
from router.plugins.types import CheckReport
from router.settings import Plugins

_log = logging.getLogger("turnout.plugins")

SETTLE_S: Final = 0.1
"""Seconds between two listings that must agree on a new file. A file that is copied into place, not renamed, exists
before its content does; one that still changes is looked at again after `interval_s`."""


class PluginListener(Protocol):
    """Follows the policies that plugin files offer."""

    def in_use(self) -> Collection[str]:
        """Names of policies that may still be needed, and are kept when their file is gone."""
        ...

    def offered(self, name: str, /) -> None:
        """The policy can be created from now on."""

    def withdrawn(self, name: str, /) -> None:
        """The policy can no longer be created."""


def load_present(settings: Plugins, plugin_registry: PluginRegistry) -> None:
    """Check and load what is there before the event loop runs: a pool's policy may be among it. Blocks for seconds."""
    if settings.directory:
        for due in plugin_registry.see(list_plugins(settings.directory)):
            plugin_registry.take(_checked(due, (), settings))


class PluginWatcher:
    """Keeps a registry up to date with a directory; does nothing where no directory is configured."""

    def __init__(
        self,
        settings: Plugins,
        plugin_registry: PluginRegistry,
        recent: Callable[[], Sequence[Example]],
        listener: PluginListener,
    ) -> None:
        """Lists nothing yet; `recent` returns requests that the gateway has had, to check new files with."""
        self._settings = settings
        self._plugin_registry = plugin_registry
        self._recent = recent
        self._listener = listener

    async def run(self) -> None:
        """List the directory every `interval_s`."""
        while self._settings.directory:
            await asyncio.sleep(self._settings.interval_s)
            try:
                await self.step()
            except Exception:  # noqa: BLE001  the task must outlive whatever a file brings about
                _log.exception("plugins: the directory could not be gone through; this is tried again")

    async def step(self) -> None:
        """List once, and check and load what is new."""
        for due in await self._settled():
            file = await asyncio.to_thread(_checked, due, self._recent(), self._settings)
            for name in self._plugin_registry.take(file):
                self._listener.offered(name)
        for name in self._plugin_registry.tidy(self._listener.in_use()):
            self._listener.withdrawn(name)

    async def _settled(self) -> list[UncheckedFile]:
        """New files that are no longer being written."""
        if not (seen := await self._new_files()):
            return []
        await asyncio.sleep(SETTLE_S)
        return [due for due in await self._new_files() if due in seen]

    async def _new_files(self) -> list[UncheckedFile]:
        return self._plugin_registry.see(await asyncio.to_thread(list_plugins, self._settings.directory))

    def describe(self) -> dict[str, object]:
        """As `GET /admin/plugins` answers it."""
        return {
            "directory": self._settings.directory,
            **({"problem": self._plugin_registry.problem} if self._settings.directory else {}),
            "entry_points": list(self._settings.entry_points),
            "plugins": self._plugin_registry.describe(),
        }


def _checked(due: UncheckedFile, recorded: Sequence[Example], settings: Plugins) -> LoadedFile:
    """Check a file in a process of its own, and load it in this one if it passes. Blocks. Whatever goes wrong is this
    file's result, so that the other files are gone through."""
    limits = CheckLimits(settings.check_timeout_s, settings.check_memory_bytes)
    try:
        return load_checked(due, check(due.source, due.file, recorded, limits))
    except Exception as error:  # noqa: BLE001  of a file's check nothing is known
        _log.exception("plugin %s: its check failed", due.file)
        return LoadedFile(CheckReport(due.file, digest_of(due.source), problem=f"its check failed: {error!r}"))
