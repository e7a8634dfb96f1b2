"""The names of streams' logs."""

from __future__ import annotations

from statesync.streams import FREE, OWNER_BYTES, stream_name


def test_a_stream_of_one_tenant_has_another_name_for_every_other_tenant() -> None:
    names = {stream_name("abc", tenant) for tenant in ("", "one", "two")}
    assert len(names) == 3
    assert stream_name("abc", "one") in names
    assert all(len(name) == 32 for name in names)


def test_no_owner_is_as_long_as_an_owner() -> None:
    assert len(FREE) == OWNER_BYTES
