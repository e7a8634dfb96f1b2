"""Blocks outside GPU memory: in a pod's host memory, on its disk, or in a store that all pods of a pool read. Pure.

A tier's blocks have the keys that they had on the GPU. A connector's event may give tokens or not, and one hash for
several of the engine's blocks; a key is found by the engine's hash, else by the tokens after the block before.

Stores such as LMCache's and Mooncake's announce no removals, so a tier forgets what was stored longest ago, and what an
engine turns out not to find there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from statesync.kv_events.events import GPU, BlockRemoved, BlockStored, number
from statesync.kv_events.holders import Holders, keys_of

CPU: Final = "cpu"
DISK: Final = "disk"
SHARED: Final = "shared"

MOST: Final = 1 << 18
"""Entries of a pod's tier that are kept; of a shared store, `STORE_MOST`."""
STORE_MOST: Final = 1 << 20

_KEY: Final = (1 << 64) - 1
_WORDS: Final = ((SHARED, ("external", "remote", "shared")), (CPU, ("cpu", "host", "dram", "pinned")))


class TierSettings(NamedTuple):
    """What a pool says of its tiers."""

    load: Mapping[str, float]
    """Tier -> time to load a block to the GPU, of the time to compute it. A tier that is not there does not count."""
    shared: Sequence[str] = ()
    """Tiers that are one store, which all pods of the pool read."""


def tier_of(medium: str, locality: str | None, shared: Sequence[str]) -> str:
    """The tier that an event means."""
    word = medium.lower()
    tier = next((tier for tier, words in _WORDS if any(each in word for each in words)), DISK)
    return SHARED if locality == "REMOTE" or tier in shared else tier


class TierBlocks:
    """One tier of one publisher, or a store of a pool."""

    def __init__(self, holders: Holders, load: float, most: int) -> None:
        self._holders = holders
        self._most = most
        self.load = load
        """See TierSettings.load."""
        self.bit = holders.new_bit()
        self.keys: dict[int, tuple[int, ...]] = {}
        """The engine's hash -> keys of its blocks; oldest first."""
        self._more: dict[int, int] = {}

    def add(self, link: int, keys: tuple[int, ...], *, counted: bool) -> None:
        """The tier has these blocks. `counted`: what is stored twice is removed twice."""
        before = self.keys.pop(link, ())
        if before and counted:
            self._more[link] = self._more.get(link, 0) + 1
        if before != keys:  # the block before was not known then; nothing else would clear their bit
            for key in before:
                self._holders.remove(key, self.bit)
        self.keys[link] = keys
        for key in keys:
            self._holders.add(key, self.bit)
        if len(self.keys) > self._most:
            self._drop(next(iter(self.keys)))

    def remove(self, link: int) -> None:
        """The tier has them no more."""
        if self._more.get(link):
            self._more[link] -= 1
        else:
            self._drop(link)

    def missed(self, keys: Sequence[int]) -> None:
        """An engine did not find these blocks here."""
        for key in keys:
            self._holders.remove(key, self.bit)

    def retire(self) -> None:
        """It is not followed any more."""
        self._holders.retire(self.bit, {key: key for keys in self.keys.values() for key in keys})
        self.keys = {}

    def _drop(self, link: int) -> None:
        self._more.pop(link, None)
        for key in self.keys.pop(link, ()):
            self._holders.remove(key, self.bit)


class SharedStore:
    """The store of a pool, made at its first event."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self.blocks: TierBlocks | None = None
        self.block_size = 0
        """Tokens a block of the engines that write to it; 0 before the first."""

    def opened(self, load: float) -> TierBlocks:
        """The same for all publishers: what pods share has the same hashes on all of them."""
        if self.blocks is None:
            self.blocks = TierBlocks(self._holders, load, STORE_MOST)
        return self.blocks


class Tiers:
    """The tiers of one publisher."""

    def __init__(self, holders: Holders, settings: TierSettings, store: SharedStore) -> None:
        self._holders = holders
        self._settings = settings
        self._store = store
        self._own: dict[str, TierBlocks] = {}

    @property
    def block_size(self) -> int:
        """Tokens a block, as other pods wrote them to the store; 0 if none did."""
        return self._store.block_size

    def stored(self, event: BlockStored, gpu: Mapping[int, int], size: int) -> None:
        """Take an event of another medium than the GPU. `gpu` has the keys (lower 64 bits) of what is there, whose
        blocks have `size` tokens (0: nothing was there yet)."""
        tier = self._tier(event.medium, event.locality)
        if tier is None:
            return
        if tier is self._store.blocks:
            self._store.block_size = size
        links = [number(block) for block in event.block_hashes]
        for link, keys in zip(links, self._keys(event, links, tier, gpu, size), strict=False):
            tier.add(link, keys, counted=tier is not self._store.blocks)

    def removed(self, event: BlockRemoved) -> None:
        """Likewise."""
        tier = self._tier(event.medium, event.locality)
        if tier is not None:
            for block in event.block_hashes:
                tier.remove(number(block))

    def reset(self) -> None:
        """What the pod itself holds is unknown, or gone."""
        for tier in self._own.values():
            tier.retire()
        self._own = {}

    def reach(self, keys: Sequence[int], depth: int) -> tuple[int, float]:
        """Of a prompt's keys the GPU holds the first `depth`. Returns how many can be read from somewhere, and the
        time to load those after that, in blocks computed."""
        if not self._own and self._store.blocks is None:
            return depth, 0.0
        cost = 0.0
        for tier in self._all():
            further = self._holders.run(keys, depth, tier.bit)
            cost += (further - depth) * tier.load
            depth = further
        return depth, cost

    def missed(self, keys: Sequence[int]) -> None:
        """The engine found none of these blocks."""
        for tier in self._all():
            tier.missed(keys)

    def _all(self) -> list[TierBlocks]:
        """The fastest first."""
        shared = [self._store.blocks] if self._store.blocks is not None else []
        return sorted([*self._own.values(), *shared], key=lambda tier: tier.load)

    def _tier(self, medium: str | None, locality: str | None) -> TierBlocks | None:
        name = tier_of(medium or GPU, locality, self._settings.shared)
        load = self._settings.load.get(name, 1.0)
        if load >= 1.0:
            return None  # computing is as fast
        if name == SHARED:
            return self._store.opened(load)
        if name not in self._own:
            self._own[name] = TierBlocks(self._holders, load, MOST)
        return self._own[name]

    def _keys(
        self, event: BlockStored, links: Sequence[int], tier: TierBlocks, gpu: Mapping[int, int], size: int
    ) -> list[tuple[int, ...]]:
        """For each hash the keys of its blocks; empty where they cannot be known."""
        size = size or event.block_size
        blocks, odd = divmod(event.block_size, size) if size else (0, 0)
        if blocks < 2 and all(link in gpu for link in links):
            return [(gpu[link] & _KEY,) for link in links]
        if odd or not blocks or len(event.token_ids) != event.block_size * len(links):
            return []
        before = 0
        if event.parent_block_hash is not None:
            parent = number(event.parent_block_hash)
            before = tier.keys.get(parent, (0,))[-1] or gpu.get(parent, 0) & _KEY or parent or 1
        keys = list(keys_of(event, before, size))
        return [tuple(keys[at : at + blocks]) for at in range(0, len(keys), blocks)]
