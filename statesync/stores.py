"""Which store a --state URL opens: one table, scheme to opener. No store lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from statesync.errors import BadStoreUrl
from statesync.memory import MemoryStore
from statesync.store import StateStore, SyncConfig

_DEFAULTS: Final = SyncConfig()


def open_store(url: str, config: SyncConfig = _DEFAULTS) -> StateStore:
    """The store a URL names; nothing is connected before its `start`. Raises BadStoreUrl.

    No error repeats the URL: it may hold a password.
    """
    scheme, mark, rest = url.partition("://")
    if mark and scheme in _NOT_YET:
        raise BadStoreUrl(f"this build does not have {scheme}:// yet; use memory:// and one replica")
    opener = _OPENERS.get(scheme)
    if not mark or opener is None:
        known = ", ".join(f"{name}://" for name in _OPENERS)
        asked = f"{scheme}://" if mark and scheme.isalnum() else "a URL without a known scheme"
        raise BadStoreUrl(f"cannot open {asked}; there are {known}")
    return opener(rest, config)


def _memory(name: str, _: SyncConfig) -> StateStore:
    if set(name) & set("/?#@: "):
        raise BadStoreUrl("memory:// takes a plain name, or none: memory://name")
    return MemoryStore(name)


_OPENERS: Final[Mapping[str, Callable[[str, SyncConfig], StateStore]]] = MappingProxyType({"memory": _memory})
_NOT_YET: Final = frozenset({"redis", "rediss"})
