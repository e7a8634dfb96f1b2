"""Where keys come from: a file. Opens what `auth` names and follows it; looks nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.access.followed_file import FollowedFile
from router.access.identity import AccessControl
from router.access.keys import read_keys
from router.access.tenants import tenants_by_name
from router.settings import Settings


class AccessSources:
    """What says whose a request is, and where it learns that from."""

    def __init__(self, control: AccessControl, keys_file: str) -> None:
        """Reads the file, unless its name is empty. Raises OSError and BadKeys."""
        self.control = control
        self._files = [FollowedFile(keys_file, read_keys, control.use)] if keys_file else []

    async def run(self) -> None:
        """Follow the sources; without end."""
        await asyncio.gather(*(each.run() for each in self._files))


def open_access(settings: Settings, wall: Callable[[], float]) -> AccessSources | None:
    """What says whose a request is; None without `auth`. `wall` gives Unix seconds. Raises OSError and BadKeys."""
    if settings.auth is None:
        return None
    return AccessSources(AccessControl(tenants_by_name(settings.tenants), wall), settings.auth.keys_file)
