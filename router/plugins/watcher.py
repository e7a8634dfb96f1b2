"""Looks at the plugin directory again and again, has what is new checked, and puts it on the shelf. The event loop only
ever waits for it: looks and checks run in threads, one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from router.plugins.checking import CheckLimits, check
from router.plugins.directory import look
from router.plugins.examples import Example
from router.plugins.registry import PluginRegistry, UncheckedFile
from router.settings import Plugins

SETTLE_S: Final = 0.1
"""A file that was copied into place, not renamed, is there before its content is: what has not changed for so long is
whole. What has is looked at again after `interval_s`."""


class PluginWatcher:
    """Keeps a shelf in step with a directory."""

    def __init__(
        self, settings: Plugins, plugin_registry: PluginRegistry, recent: Callable[[], Sequence[Example]]
    ) -> None:
        """Looks at nothing yet; `recent` gives requests that the gateway has had."""
        self._settings = settings
        self._limits = CheckLimits(settings.check_timeout_s, settings.check_memory_bytes)
        self._plugin_registry = plugin_registry
        self._recent = recent

    def look_first(self) -> None:
        """Before there is an event loop, and before the pools' policies are built, which may be among these. Blocks."""
        for due in self._plugin_registry.see(look(self._settings.directory)):
            self._plugin_registry.take(due, check(due.source, due.file, (), self._limits))

    async def run(self) -> None:
        """Look every `interval_s`."""
        while True:
            await asyncio.sleep(self._settings.interval_s)
            await self.step()

    async def step(self) -> None:
        """Look once, and see it through."""
        for due in await self._settled():
            report = await asyncio.to_thread(check, due.source, due.file, self._recent(), self._limits)
            self._plugin_registry.take(due, report)
        self._plugin_registry.tidy()

    async def _settled(self) -> list[UncheckedFile]:
        """What has to be checked and nobody is still writing."""
        if not (seen := await self._look()):
            return []
        await asyncio.sleep(SETTLE_S)
        return [due for due in await self._look() if due in seen]

    async def _look(self) -> list[UncheckedFile]:
        return self._plugin_registry.see(await asyncio.to_thread(look, self._settings.directory))

    def shown(self) -> dict[str, object]:
        """As `GET /admin/plugins` answers it."""
        return {
            "directory": self._settings.directory,
            "problem": self._plugin_registry.problem,
            "entry_points": list(self._settings.entry_points),
            "plugins": self._plugin_registry.shown(),
        }
