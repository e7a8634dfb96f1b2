"""The KV events of vLLM and SGLang: msgpack bytes in, values out. Pure; knows no sequence, no socket and no index.

A payload is `[time, [event, ...], data-parallel rank]`. Newer publishers write an event as a map, older ones and SGLang
as an array; the fields are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

BlockHash = int | bytes
"""As the engine names a block: 64 bits, or a digest of which `number` takes as much."""

GPU: Final = "GPU"
_BITS: Final = (1 << 64) - 1


class BlockStored(msgspec.Struct, tag="BlockStored", gc=False):
    """Blocks that follow each other in a prompt are in the cache from now on."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    """The block before the first of these; None at the beginning of a prompt."""
    token_ids: list[int]
    """Of all of these blocks; empty where an offloading connector does not know them."""
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: list[Any] | None = None
    """For each block what its hash contains beside tokens: images, a salt."""
    group_idx: int | None = None
    """Models with several kinds of attention have a cache of each; the first is followed."""
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None
    """LOCAL or REMOTE, where the medium is not the GPU."""


class BlockRemoved(msgspec.Struct, tag="BlockRemoved", gc=False):
    """Blocks were evicted. One that was stored twice is removed twice."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: int | None = None
    locality: str | None = None


class AllBlocksCleared(msgspec.Struct, tag="AllBlocksCleared", gc=False):
    """The cache is empty."""


class _StoredArray(BlockStored, tag="BlockStored", array_like=True, gc=False):
    """The same as an array."""


class _RemovedArray(BlockRemoved, tag="BlockRemoved", array_like=True, gc=False):
    """The same as an array."""


class _ClearedArray(AllBlocksCleared, tag="AllBlocksCleared", array_like=True, gc=False):
    """The same as an array."""


KvEvent = BlockStored | BlockRemoved | AllBlocksCleared


class _StoredMap(BlockStored, tag="BlockStored", gc=False):
    """The same as a map of SGLang."""

    cache_salt: str | None = None
    """As vLLM has it in `extra_keys`."""

    def __post_init__(self) -> None:
        if self.cache_salt:
            self.extra_keys = [self.cache_salt] * len(self.block_hashes)


class _MapBatch(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[_StoredMap | BlockRemoved | AllBlocksCleared]


class _ArrayBatch(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[_StoredArray | _RemovedArray | _ClearedArray]


class EventBatch(msgspec.Struct, frozen=True, gc=False):
    """The events of one step of an engine."""

    ts: float
    """The publisher's clock: it only grows while the publisher lives, and after a restart it is later."""
    events: Sequence[KvEvent]


_MAPS: Final = msgspec.msgpack.Decoder(_MapBatch)
_ARRAYS: Final = msgspec.msgpack.Decoder(_ArrayBatch)


def decode(payload: bytes) -> EventBatch | None:
    """The batch; None for bytes that are none."""
    try:
        batch: _MapBatch | _ArrayBatch = _MAPS.decode(payload)
    except msgspec.MsgspecError:
        try:
            batch = _ARRAYS.decode(payload)
        except msgspec.MsgspecError:
            return None
    return EventBatch(batch.ts, batch.events)


def number(block: BlockHash) -> int:
    """A block's hash as 64 bits; SGLang's have a sign."""
    return block & _BITS if isinstance(block, int) else int.from_bytes(block[-8:], "big")
