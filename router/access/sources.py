"""Where keys come from: a file. Opens what `auth` names; looks nothing up."""

from __future__ import annotations

from collections.abc import Callable

from router.access.identity import AccessControl
from router.access.keys import read_keys
from router.access.tenants import tenants_by_name
from router.settings import Settings


def open_access(settings: Settings, wall: Callable[[], float]) -> AccessControl | None:
    """What says whose a request is; None without `auth`. `wall` gives Unix seconds. Raises OSError and BadKeys."""
    if settings.auth is None:
        return None
    access = AccessControl(tenants_by_name(settings.tenants), wall)
    if settings.auth.keys_file:
        access.use(read_keys(settings.auth.keys_file))
    return access
