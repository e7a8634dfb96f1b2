"""API keys in the shared state, the same on all replicas. Each is a record of its own beside those of the pools'
policies: it is compared and set, announced, and put back where the server lost it, as they are. No look-up is here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from router.access.identity import AccessControl
from router.access.keys import KeyNameTaken, KeyRecord, UnknownKey
from statesync.errors import StaleGeneration
from statesync.store.protocol import PolicyRecord, StateStore

RECORD: Final = "key:"
"""What the names of such records begin with; no pool's name has a colon."""

_KIND: Final = "api_key"
"""What such a record has in place of a policy's name."""

_log = logging.getLogger("turnout.access")


class SharedKeys:
    """The keys of the shared state, as this replica knows them."""

    def __init__(self, store: StateStore, control: AccessControl, wall: Callable[[], float]) -> None:
        """`control` is to know the keys; `wall` gives Unix seconds."""
        self._store = store
        self._control = control
        self._wall = wall
        self._keys: dict[str, KeyRecord] = {}

    def changed(self, name: str, record: PolicyRecord) -> None:
        """Take a record of the shared state, if it is a key's."""
        if not name.startswith(RECORD):
            return
        try:
            key = _key(record)
        except msgspec.ValidationError as error:
            _log.warning("the shared state's record %s is no key and is ignored: %s", name, error)
            return
        before = self._keys.get(key.name)
        if before is not None and before.sha256 != key.sha256:
            self._control.forget(before)
        self._keys[key.name] = key
        self._control.learn(key)

    def all(self) -> Sequence[KeyRecord]:
        """Every key, by name."""
        return [self._keys[name] for name in sorted(self._keys)]

    async def create(self, key: KeyRecord, by: str = "") -> KeyRecord:
        """Add a key on every replica; `by` is who did it. Raises KeyNameTaken, StoreUnavailable."""
        if self._control.knows(key.sha256):
            raise KeyNameTaken("there is a key with this hash already: make another one")
        key = msgspec.structs.replace(key, created=self._now())
        try:
            return await self._put(key, 0, by)
        except StaleGeneration:
            raise KeyNameTaken(f"there is a key {key.name!r} already: choose another name") from None

    async def revoke(self, name: str, by: str = "") -> KeyRecord:
        """Refuse a key on every replica, from now on. Raises UnknownKey, StaleGeneration, StoreUnavailable."""
        record = await self._store.policy(RECORD + name)
        if record is None:
            raise UnknownKey(f"there is no key {name!r}")
        key = _key(record)
        return key if key.revoked is not None else await self._put(key.revoke(self._now()), record.generation, by)

    async def _put(self, key: KeyRecord, generation: int, by: str) -> KeyRecord:
        params: Mapping[str, object] = msgspec.to_builtins(key)
        name = RECORD + key.name
        wanted = PolicyRecord(_KIND, params, at=self._wall(), by=by)
        record = await self._store.put_policy(name, wanted, if_generation=generation)
        self.changed(name, record)
        return key

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._wall()), UTC)


def _key(record: PolicyRecord) -> KeyRecord:
    return msgspec.convert(dict(record.params), KeyRecord)
