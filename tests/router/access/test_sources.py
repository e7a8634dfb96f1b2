"""What `auth` names is opened, and nothing without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.access.keys import BadKeys
from router.access.sources import open_access
from router.settings import Auth, Settings, TenantSettings
from tests.fakes.known_keys import KEY, record


def test_without_auth_nothing_is_opened() -> None:
    assert open_access(Settings(tenants=[TenantSettings(name="search")]), lambda: 0.0) is None


def test_the_keys_of_the_file_are_known(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    settings = Settings(auth=Auth(keys_file=str(path)), tenants=[TenantSettings(name="search")])
    path.write_text(f"keys: [{{name: ci, tenant: search, sha256: {record().sha256}}}]")
    access = open_access(settings, lambda: 0.0)
    assert access is not None
    assert access.control.identify({b"x-api-key": KEY.encode()}).tenant.name == "search"
    path.write_text("keys: 1")
    with pytest.raises(BadKeys):
        open_access(settings, lambda: 0.0)
