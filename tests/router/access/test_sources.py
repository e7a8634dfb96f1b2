"""What `auth` names is opened, and nothing without it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from router.access.keys import BadKeys
from router.access.sources import open_access
from router.errors import InvalidApiKey, KeysUnread
from router.followed_files import follow
from router.settings import Auth, Settings, TenantSettings
from statesync.store.memory import MemoryStore
from statesync.tasks import spawn
from tests.fakes.control_port import NoReplicas
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.known_keys import KEY, record
from tests.fakes.waiting import until


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


def test_tokens_are_accepted_beside_keys_and_a_new_key_set_is_read(tmp_path: Path) -> None:
    provider, path = IdentityProvider(), tmp_path / "jwks.json"
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys: [{{name: ci, tenant: search, sha256: {record().sha256}}}]")
    auth = Auth(keys_file=str(keys), jwt=provider.write(path))
    access = open_access(Settings(auth=auth, tenants=[TenantSettings(name="search")]), MemoryStore(), time.time)
    assert access is not None

    def who(sent: str) -> str:
        assert access is not None
        return access.control.identify({b"authorization": b"Bearer " + sent.encode()}).key

    assert (who(KEY), who(provider.token())) == ("ci", "jwt:ada")
    provider.rotate("two")
    with pytest.raises(InvalidApiKey, match="not in the key set"):
        who(provider.token())
    provider.write(path)

    async def following() -> None:
        running = spawn(follow(access.files), "access")
        await until(lambda: "two" in str(vars(access.control.tokens)["_keys"]))
        running.cancel()

    asyncio.run(following())
    assert who(provider.token()) == "jwt:ada"
    with pytest.raises(InvalidApiKey, match="not known here"):
        who("tok.two")
