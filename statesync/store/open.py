"""Opens the store that a --state URL names: one table, scheme to opener. No store lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from statesync.errors import BadStoreUrl
from statesync.settings import Sync
from statesync.store.memory import MemoryStore
from statesync.store.protocol import StateStore
from statesync.store.redis.store import RedisStore
from statesync.store.redis.url import FORMS

_DEFAULTS: Final = Sync()


def open_store(url: str, config: Sync = _DEFAULTS) -> StateStore:
    """The store a URL names; nothing is connected before its `start`. Raises BadStoreUrl.

    No error repeats the URL: it may hold a password.
    """
    scheme, mark, _ = url.partition("://")
    opener = _OPENERS.get(scheme)
    if not mark or opener is None:
        known = ", ".join(f"{name}://" for name in _OPENERS)
        asked = f"{scheme}://" if mark and scheme.isalnum() else "a URL without a known scheme"
        raise BadStoreUrl(f"cannot open {asked}; there are {known}")
    return opener(url, config)


def _memory(url: str, _: Sync) -> StateStore:
    name = url.removeprefix("memory://")
    if set(name) & set("/?#@: "):
        raise BadStoreUrl("memory:// takes a plain name, or none: memory://name")
    return MemoryStore(name)


_OPENERS: Final[Mapping[str, Callable[[str, Sync], StateStore]]] = MappingProxyType(
    {"memory": _memory, **dict.fromkeys(FORMS, RedisStore.open)}
)
