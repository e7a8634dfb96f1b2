"""The control port's paths for API keys that are in the shared state. Keys are made by who asks: what comes here is the
hash of one, so that no key is in the gateway's memory, answers or logs.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from router.access.keys import NAME, KeyNameTaken, KeyRecord, UnknownKey
from router.access.shared_keys import SharedKeys
from router.control.answers import ControlError, in_slices
from router.control.author import Maker
from router.control.plane import ControlPlane

_Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class KeyBody(BaseModel):
    """A new key, by its hash."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    tenant: _Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None

    def record(self, now: datetime) -> KeyRecord:
        """As it is stored. Raises ControlError for a key that is never accepted."""
        if self.expires is not None and self.expires <= now:
            raise ControlError(422, "invalid_request", "expires: is over", "expires")
        return KeyRecord(self.name, self.tenant, self.sha256, expires=self.expires)


def key_routes(plane: ControlPlane) -> APIRouter:
    """API keys: list, create, revoke."""
    router = APIRouter(prefix="/admin/keys", tags=["keys"])

    @router.get("", response_model=list[dict[str, object]])
    async def keys() -> Response:
        """Every key: its tenant, state and times."""
        now = time.time()
        text = await in_slices(_shared(plane).all(), lambda key: key.describe(now))
        return Response(text, media_type="application/json")

    @router.post("", status_code=201)
    async def create(body: KeyBody, by: Maker) -> dict[str, object]:
        """Let in, on every replica, who has the key of this SHA-256."""
        tenants = [tenant.name for tenant in plane.settings.tenants]
        if body.tenant not in tenants:
            why = f"there is no tenant {body.tenant!r}; there are: {', '.join(tenants)}"
            raise ControlError(422, "unknown_tenant", why, "tenant")
        now = datetime.now().astimezone()
        try:
            key = await _shared(plane).create(body.record(now), by)
        except KeyNameTaken as error:
            raise ControlError(409, "key_exists", str(error), "name") from None
        return key.describe(now.timestamp())

    @router.delete("/{name}")
    async def revoke(name: str, by: Maker) -> dict[str, object]:
        """Refuse the key on every replica."""
        try:
            key = await _shared(plane).revoke(name, by)
        except UnknownKey as error:
            raise ControlError(404, "key_not_found", str(error), "name") from None
        return key.describe(time.time())

    return router


def _shared(plane: ControlPlane) -> SharedKeys:
    """The keys in the shared state. Raises ControlError where they are not there."""
    if plane.keys is not None:
        return plane.keys
    file = plane.settings.auth.keys_file if plane.settings.auth is not None else ""
    where = f"in {file}, which `turnout keys` changes with --file" if file else "not in use"
    raise ControlError(409, "keys_not_shared", f"API keys are {where}; `auth.keys_from: state` puts them here")
