"""What a --state URL opens, and what it says when it cannot."""

from __future__ import annotations

import pytest

from statesync.errors import BadStoreUrl
from statesync.memory import MemoryStore
from statesync.stores import open_store


@pytest.mark.parametrize("url", ["memory://", "memory://twins"])
def test_memory_urls_open_a_memory_store(url: str) -> None:
    assert isinstance(open_store(url), MemoryStore)


@pytest.mark.parametrize("url", ["etcd://host", "memory", "", "://", "Redis host"])
def test_an_unknown_scheme_is_told_which_exist(url: str) -> None:
    with pytest.raises(BadStoreUrl, match=r"there are memory://$"):
        open_store(url)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_redis_is_told_apart_as_not_there_yet_and_its_password_is_not_repeated(scheme: str) -> None:
    with pytest.raises(BadStoreUrl, match=f"does not have {scheme}:// yet") as caught:
        open_store(f"{scheme}://:s3cret@host:6379/0")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://host:1", "memory://a/b", "memory://a?b=c", "memory://me@a"])
def test_a_memory_name_that_looks_like_an_address_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrl, match="plain name"):
        open_store(url)
