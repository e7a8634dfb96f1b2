"""The known policy records, for a server that lost some."""

from __future__ import annotations

from types import MappingProxyType

from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import POLICY_HISTORY, PolicyRecord
from statesync.store.redis.policy_cache import PolicyCache, own_copy


def record(generation: int) -> PolicyRecord:
    return PolicyRecord("p2c", {}, generation)


def test_a_record_is_new_once_and_an_older_one_never() -> None:
    cache = PolicyCache()
    assert cache.learn("a", record(2))
    assert not cache.learn("a", record(2))
    assert not cache.learn("a", record(1))
    assert cache.learn("a", record(3))
    assert cache.lost({}) == {"a": [record(3), record(2)]}


def test_a_read_record_is_new_if_its_generation_is_newer() -> None:
    cache = PolicyCache()
    assert cache.read("a", []) is None
    assert cache.read("a", [record(2), record(1)]) == record(2)
    assert cache.read("a", [record(2), record(1)]) is None
    assert cache.read("a", [record(1)]) is None


def test_only_records_that_the_server_lost_are_put_back() -> None:
    cache = PolicyCache()
    cache.learn("a", record(2))
    cache.learn("b", record(5))
    assert cache.lost({"a": 2, "b": 4}) == {"b": [record(5)]}
    assert cache.lost({"a": 3, "b": 5}) == {}


def test_the_cache_keeps_as_many_records_as_the_server() -> None:
    cache = PolicyCache()
    for generation in range(1, POLICY_HISTORY + 5):
        cache.learn("a", record(generation))
    assert len(cache.lost({})["a"]) == POLICY_HISTORY


def test_a_copy_shares_no_parameters_with_its_record() -> None:
    names = ["a"]
    choice = PolicyChoice("p2c", MappingProxyType({"names": names}))
    copied = own_copy(PolicyRecord(choice.name, choice.params, 1, choice, Canary(choice, 5.0), "why"))
    names.append("b")
    kept = PolicyChoice("p2c", {"names": ["a"]})
    assert copied == PolicyRecord(*kept, 1, kept, Canary(kept, 5.0), "why")
    assert own_copy(PolicyRecord("p2c", {}, 1)) == PolicyRecord("p2c", {}, 1)
