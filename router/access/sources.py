"""Where keys come from: a file, or the shared state. Opens what `auth` names and follows it; looks nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.access.followed_file import FollowedFile
from router.access.identity import AccessControl
from router.access.keys import read_keys
from router.access.shared_keys import SharedKeys
from router.access.tenants import tenants_by_name
from router.settings import Settings
from statesync.store.protocol import StateStore


class AccessSources:
    """What says whose a request is, and where it learns that from."""

    def __init__(self, control: AccessControl, keys_file: str, shared: SharedKeys | None) -> None:
        """Reads the file, unless its name is empty. Raises OSError and BadKeys."""
        self.control = control
        self.shared = shared
        """The keys in the shared state; None where they are not there."""
        self._files = [FollowedFile(keys_file, read_keys, control.use)] if keys_file else []

    async def run(self) -> None:
        """Follow the files; without end."""
        await asyncio.gather(*(each.run() for each in self._files))


def open_access(settings: Settings, store: StateStore, wall: Callable[[], float]) -> AccessSources | None:
    """What says whose a request is; None without `auth`. `wall` gives Unix seconds. Raises OSError and BadKeys."""
    auth = settings.auth
    if auth is None:
        return None
    tenants = tenants_by_name(settings.tenants)
    if not auth.keys_from:
        return AccessSources(AccessControl(tenants, wall), auth.keys_file, None)
    control = AccessControl(tenants, wall, unread=lambda: not store.health().warm)
    return AccessSources(control, "", SharedKeys(store, control, wall))
