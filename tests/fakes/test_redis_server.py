"""The Redis server of the tests: its absence is reported, and it is empty after a restart."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.sim.ports import HOST
from statesync.store.redis.connection import RespConnection, ServerAddress
from tests.fakes import programs
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import DEADLINE_S


def answer_to(server: RedisServer, *command: str) -> object:
    async def ask() -> object:
        connection = await RespConnection.open(ServerAddress(HOST, server.port), timeout_s=DEADLINE_S, name="test")
        try:
            return await connection.call(*command)
        finally:
            connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_program_skips_the_test_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(outcome, match="redis-server is missing"), redis_server():
        pass


def test_a_restarted_server_is_empty_and_on_the_same_port() -> None:
    with redis_server() as server:
        assert answer_to(server, "SET", "k", "v") == b"OK"
        server.kill()
        server.start()
        assert answer_to(server, "GET", "k") is None


def test_a_server_that_cannot_start_reports_why() -> None:
    with pytest.raises(pytest.fail.Exception, match="Bad directive"), redis_server("--no-such-option", "1"):
        pass
