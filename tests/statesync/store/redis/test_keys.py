"""The names of the keys."""

from __future__ import annotations

import pytest

from statesync.errors import StateError
from statesync.store.redis import keys
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.locate import slot_of


def names(of: RedisKeys) -> list[str]:
    fixed = [name for name in vars(of).values() if name != of.prefix]
    return [
        *fixed,
        of.inflight("gw-1"),
        of.pages("abc"),
        of.policy("default"),
        of.trial("default", 3),
        of.limit("a/requests"),
    ]


def test_all_keys_and_the_channel_of_a_namespace_live_in_one_slot() -> None:
    assert {slot_of(name.encode()) for name in names(RedisKeys("blue"))} == {slot_of(b"blue")}


def test_no_two_keys_have_one_name_and_namespaces_share_none() -> None:
    blue, green = names(RedisKeys("blue")), names(RedisKeys("green"))
    assert len(set(blue)) == len(blue)
    assert not set(blue) & set(green)


def test_every_key_is_in_the_documented_table() -> None:
    written = keys.__doc__ or ""
    for name in names(RedisKeys("ns")):
        kind = name.removeprefix("{ns}:").partition(":")[0]
        assert f"{{ns}}:{kind}" in written, f"{kind} is not in the table"


def test_the_channel_has_the_database_in_its_name() -> None:
    here = RedisKeys("ns")
    here.in_database(3)
    assert here.channel == "{ns}:news:3"


@pytest.mark.parametrize("namespace", ["", "a{b", "a}b"])
def test_a_namespace_that_would_break_the_hash_tag_is_refused(namespace: str) -> None:
    with pytest.raises(StateError, match="namespace"):
        RedisKeys(namespace)
