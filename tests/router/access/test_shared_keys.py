"""Keys in the shared state: made and revoked on one replica, in force on all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from router.access.identity import AccessControl
from router.access.keys import KeyNameTaken, KeyRecord, UnknownKey
from router.access.shared_keys import RECORD, SharedKeys
from router.access.tenants import Tenant
from router.errors import InvalidApiKey
from statesync.store.memory import MemoryStore
from statesync.store.protocol import PolicyRecord
from tests.fakes.control_port import NoReplicas
from tests.fakes.known_keys import KEY, record
from tests.fakes.virtual_time import Clock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_names = count()


class Listener(NoReplicas):
    """Passes records to the keys of one replica."""

    def __init__(self, keys: SharedKeys) -> None:
        self._keys = keys

    def policy_changed(self, *update: object) -> None:
        name, changed = update
        assert isinstance(name, str)
        assert isinstance(changed, PolicyRecord)
        self._keys.changed(name, changed)


class Replica:
    """One that shares its keys."""

    def __init__(self, hub: str) -> None:
        clock = Clock(NOW.timestamp())
        self.store = MemoryStore(hub)
        self.control = AccessControl({"search": Tenant("search")}, clock)
        self.keys = SharedKeys(self.store, self.control, clock)

    def lets_in(self, key: str = KEY) -> bool:
        try:
            return self.control.identify({b"x-api-key": key.encode()}).tenant.name == "search"
        except InvalidApiKey:
            return False


def play(story: Callable[[Replica, Replica], Awaitable[None]]) -> None:
    """Two replicas that share one state."""

    async def run() -> None:
        hub = f"keys-{next(_names)}"
        one, two = Replica(hub), Replica(hub)
        await one.store.start("one", Listener(one.keys))
        await two.store.start("two", Listener(two.keys))
        await story(one, two)

    asyncio.run(run())


async def received() -> None:
    """What was announced is received in the loop's next turns."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_key_made_on_one_replica_is_known_on_all_until_it_is_revoked_on_any() -> None:
    async def story(one: Replica, two: Replica) -> None:
        made = await one.keys.create(record(), "ada")
        assert made.created == NOW
        await received()
        assert (one.lets_in(), two.lets_in()) == (True, True)
        assert one.keys.all() == two.keys.all() == [made]
        revoked = await two.keys.revoke("of-search", "bob")
        assert revoked.revoked == NOW
        await received()
        assert (one.lets_in(), two.lets_in()) == (False, False)
        assert await one.keys.revoke("of-search") == revoked
        history = await one.store.policy_history(RECORD + "of-search")
        assert [(each.generation, each.by) for each in history] == [(2, "bob"), (1, "ada")]

    play(story)


def test_a_replica_that_starts_later_knows_the_keys() -> None:
    async def story(one: Replica, two: Replica) -> None:
        await one.keys.create(record())
        three = Replica(one.store._hub.name)
        await three.store.start("three", Listener(three.keys))
        assert three.lets_in()

    play(story)


def test_a_name_and_a_hash_are_taken_once() -> None:
    async def story(one: Replica, two: Replica) -> None:
        await one.keys.create(record())
        with pytest.raises(KeyNameTaken, match="'of-search'"):
            await two.keys.create(KeyRecord("of-search", "search", "a" * 64))
        await received()
        with pytest.raises(KeyNameTaken, match="hash"):
            await two.keys.create(KeyRecord("other", "search", record().sha256))
        with pytest.raises(UnknownKey, match="'none'"):
            await two.keys.revoke("none")

    play(story)


def test_a_key_that_another_took_the_name_of_is_known_no_more() -> None:
    """After two states that were cut apart have become one."""

    async def story(one: Replica, two: Replica) -> None:
        await one.keys.create(record())
        other = record("tok-x")
        params = {"name": "of-search", "tenant": "search", "sha256": other.sha256}
        one.keys.changed(RECORD + "of-search", PolicyRecord("api_key", params, 2))
        assert (one.lets_in(), one.lets_in("tok-x")) == (False, True)

    play(story)


def test_other_records_are_no_keys(caplog: pytest.LogCaptureFixture) -> None:
    async def story(one: Replica, two: Replica) -> None:
        one.keys.changed("pool", PolicyRecord("p2c", {}, 1))
        with caplog.at_level(logging.WARNING, "turnout.access"):
            one.keys.changed(RECORD + "x", PolicyRecord("api_key", {"name": "x"}, 1))
        assert "key:x is no key" in caplog.text
        assert not one.keys.all()

    play(story)
