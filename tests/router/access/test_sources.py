"""What `auth` names is opened, and nothing without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from router.access.keys import BadKeys
from router.access.sources import open_access
from router.errors import InvalidApiKey, KeysUnread
from router.settings import Auth, Settings, TenantSettings
from statesync.store.memory import MemoryStore
from tests.fakes.control_port import NoReplicas
from tests.fakes.known_keys import KEY, record


def test_without_auth_nothing_is_opened() -> None:
    assert open_access(Settings(tenants=[TenantSettings(name="search")]), MemoryStore(), lambda: 0.0) is None


def test_the_keys_of_the_file_are_known(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    settings = Settings(auth=Auth(keys_file=str(path)), tenants=[TenantSettings(name="search")])
    path.write_text(f"keys: [{{name: ci, tenant: search, sha256: {record().sha256}}}]")
    access = open_access(settings, MemoryStore(), lambda: 0.0)
    assert access is not None
    assert access.control.identify({b"x-api-key": KEY.encode()}).tenant.name == "search"
    path.write_text("keys: 1")
    with pytest.raises(BadKeys):
        open_access(settings, MemoryStore(), lambda: 0.0)


def test_until_the_shared_state_is_read_a_key_may_be_there() -> None:
    settings = Settings(auth=Auth(keys_from="state"), tenants=[TenantSettings(name="search")])
    store = MemoryStore()
    access = open_access(settings, store, lambda: 0.0)
    assert access is not None
    assert access.shared is not None
    with pytest.raises(KeysUnread):
        access.control.identify({b"x-api-key": KEY.encode()})

    async def started() -> None:
        await store.start("one", NoReplicas())
        with pytest.raises(InvalidApiKey):
            access.control.identify({b"x-api-key": KEY.encode()})

    asyncio.run(started())
