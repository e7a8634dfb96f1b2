"""KV events as bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from statesync.kv_events.events import AllBlocksCleared, BlockRemoved, BlockStored, decode, number

STORED: dict[str, Any] = {
    "type": "BlockStored",
    "block_hashes": [17761893549506573285, b"\x01" * 24 + (9).to_bytes(8, "big")],
    "parent_block_hash": None,
    "token_ids": [92, 71, 68, 1331],
    "block_size": 2,
    "lora_id": None,
    "medium": "GPU",
}
NEWER = {"lora_name": None, "extra_keys": [None, None], "group_idx": 0, "kv_cache_spec_kind": "full_attention"}
REMOVED: dict[str, Any] = {"type": "BlockRemoved", "block_hashes": [5], "medium": "GPU"}
CLEARED: dict[str, Any] = {"type": "AllBlocksCleared"}


@pytest.mark.parametrize("form", ["maps", "maps of a newer version", "arrays"])
def test_events_are_read_as_maps_and_as_arrays(form: str) -> None:
    events: list[Any] = [STORED | (NEWER if "newer" in form else {}), REMOVED, CLEARED]
    if form == "arrays":
        events = [list(event.values()) for event in events]
    batch = decode(msgspec.msgpack.encode([1.5, events, 0]))
    assert batch is not None
    stored, removed, cleared = batch.events
    assert isinstance(stored, BlockStored)
    assert isinstance(removed, BlockRemoved)
    assert isinstance(cleared, AllBlocksCleared)
    assert (batch.ts, stored.token_ids, stored.block_size, stored.medium) == (1.5, [92, 71, 68, 1331], 2, "GPU")
    assert [number(block) for block in stored.block_hashes] == [17761893549506573285, 9]
    assert removed.block_hashes == [5]


def test_sglangs_maps_leave_out_what_is_none_and_have_signed_hashes_and_a_salt() -> None:
    stored = {key: STORED[key] for key in ("type", "parent_block_hash", "token_ids", "block_size", "lora_id")}
    stored |= {"block_hashes": [-1, 7], "cache_salt": "a", "session_id": "s", "block_hashes_sha256": ["x", "y"]}
    batch = decode(msgspec.msgpack.encode([1.5, [stored, {"type": "BlockRemoved", "block_hashes": [-1]}], 0]))
    assert batch is not None
    event, removed = batch.events
    assert isinstance(event, BlockStored)
    assert isinstance(removed, BlockRemoved)
    assert (event.extra_keys, event.medium, removed.medium) == (["a", "a"], None, None)
    assert number(event.block_hashes[0]) == (1 << 64) - 1


@pytest.mark.parametrize("payload", [b"", b"{}", msgspec.msgpack.encode([1.0, [["Unheard"]]]), b"\x00\xff"])
def test_other_bytes_are_no_batch(payload: bytes) -> None:
    assert decode(payload) is None
