"""The scripts are packaged, and they run with and without the server's cache."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from statesync.store.redis import scripts
from statesync.store.redis.connection import ReplyError, RespConnection, ServerAddress
from statesync.store.redis.scripts import PRUNE_REPORTS, LuaScript
from tests.fakes.redis_server import redis_server

SHARED = {"keep_type", "policy_list"}
"""Functions of several scripts, sent in front of them."""

SOURCES = Path(scripts.__file__).with_name("lua")
KNOWN = {script.name: script for script in vars(scripts).values() if isinstance(script, LuaScript)}


def test_every_script_file_is_loaded_and_there_are_no_others() -> None:
    assert {path.stem for path in SOURCES.glob("*.lua")} == KNOWN.keys() | SHARED
    assert len({script.sha for script in KNOWN.values()}) == len(KNOWN)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_script_opens_with_its_keys_arguments_and_answer(name: str) -> None:
    head = [line for line in KNOWN[name].source.decode().splitlines() if line.startswith("--")]
    for part in ("KEYS", "ARGV", "Returns"):
        assert any(part in line for line in head), f"{name}.lua does not document its {part}"


def test_scripts_compile_and_are_sent_whole_only_when_they_are_not_cached() -> None:
    async def run() -> None:
        with redis_server() as server:
            link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=5.0, name="test")
            for script in KNOWN.values():
                assert await link.call("SCRIPT", "LOAD", script.source) == script.sha.encode()
            await link.call("SCRIPT", "FLUSH")
            before = link.round_trips
            assert await PRUNE_REPORTS.run(link, ("reports",), 1000) == 0
            assert link.round_trips == before + 2
            assert await PRUNE_REPORTS.run(link, ("reports",), 1000) == 0
            assert link.round_trips == before + 3
            link.close()

    asyncio.run(run())


def test_old_reports_are_pruned_and_other_errors_are_raised() -> None:
    async def run() -> None:
        with redis_server() as server:
            link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=5.0, name="test")
            await link.call("HSET", "reports", "old", "1000:x", "torn", "x", "new", "99999999999999:x")
            assert await PRUNE_REPORTS.run(link, ("reports",), 1000) == 2
            assert await link.call("HKEYS", "reports") == [b"new"]
            await link.call("SET", "text", "x")
            with pytest.raises(ReplyError, match="WRONGTYPE"):
                await PRUNE_REPORTS.run(link, ("text",), 1000)
            link.close()

    asyncio.run(run())
