"""Which store a --state URL opens, and the errors for a wrong one."""

from __future__ import annotations

import pytest

from statesync.errors import BadStoreUrl
from statesync.store.memory import MemoryStore
from statesync.store.open import open_store
from statesync.store.redis.store import RedisStore


@pytest.mark.parametrize("url", ["memory://", "memory://twins"])
def test_memory_urls_open_a_memory_store(url: str) -> None:
    assert isinstance(open_store(url), MemoryStore)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@host:6379/0",
        "rediss://host",
        "unix:///run/redis.sock",
        "redis+sentinel://a:26379,b:26379/mymaster",
        "redis+cluster://a:7000,b:7000",
    ],
)
def test_redis_urls_open_a_redis_store_without_connecting(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, RedisStore)
    assert "s3cret" not in repr(store)
    assert not store.health().connected


@pytest.mark.parametrize("url", ["etcd://host", "memory", "", "://", "Redis host"])
def test_an_unknown_scheme_is_an_error_that_lists_the_known_schemes(url: str) -> None:
    with pytest.raises(BadStoreUrl, match=r"there are memory://, redis://, rediss://"):
        open_store(url)


def test_a_wrong_redis_url_is_refused_without_its_password() -> None:
    with pytest.raises(BadStoreUrl) as caught:
        open_store("redis://:s3cret@host:6379/not-a-number")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://host:1", "memory://a/b", "memory://a?b=c", "memory://me@a"])
def test_a_memory_name_that_looks_like_an_address_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrl, match="plain name"):
        open_store(url)
