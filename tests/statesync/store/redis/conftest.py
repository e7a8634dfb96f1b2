"""One real server for the tests of a file, empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.redis_replicas import client
from tests.fakes.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    with client(running) as admin:
        admin.flushall()
    return running
