"""Looks at the plugin directory again and again, has what is new checked, and puts it on the shelf. The event loop only
ever waits for it: looks and checks run in threads, one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from router.plugins.checking import CheckLimits, check
from router.plugins.directory import look
from router.plugins.examples import Example
from router.plugins.shelf import Shelf
from router.settings import Plugins


class PluginWatcher:
    """Keeps a shelf in step with a directory."""

    def __init__(self, settings: Plugins, shelf: Shelf, recent: Callable[[], Sequence[Example]]) -> None:
        """Looks at nothing yet; `recent` gives requests that the gateway has had."""
        self._settings = settings
        self._limits = CheckLimits(settings.check_timeout_s, settings.check_memory_bytes)
        self._shelf = shelf
        self._recent = recent

    def look_first(self) -> None:
        """Before there is an event loop, and before the pools' policies are built, which may be among these. Blocks."""
        for due in self._shelf.see(look(self._settings.directory)):
            self._shelf.take(due, check(due.source, due.file, (), self._limits))

    async def run(self) -> None:
        """Look every `interval_s`."""
        while True:
            await asyncio.sleep(self._settings.interval_s)
            await self.step()

    async def step(self) -> None:
        """Look once, and see it through."""
        for due in self._shelf.see(await asyncio.to_thread(look, self._settings.directory)):
            report = await asyncio.to_thread(check, due.source, due.file, self._recent(), self._limits)
            self._shelf.take(due, report)
        self._shelf.tidy()

    def shown(self) -> dict[str, object]:
        """As `GET /admin/plugins` answers it."""
        return {
            "directory": self._settings.directory,
            "problem": self._shelf.problem,
            "entry_points": list(self._settings.entry_points),
            "plugins": self._shelf.shown(),
        }
