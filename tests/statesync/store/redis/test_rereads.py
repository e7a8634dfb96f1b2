"""Each thing is read again once, however often it is asked for while that has not begun."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.repair import KeyRepair, Rereads
from tests.fakes.redis_server import redis_server


def test_what_is_asked_for_twice_before_it_is_read_is_read_once_and_later_again() -> None:
    read: list[str] = []
    work: list[Coroutine[Any, Any, None]] = []

    async def run(port: int) -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", port), timeout_s=60.0, name="me")
        rereads = Rereads(KeyRepair("me", RedisKeys("turnout")), work.append)

        async def note(over: RespConnection, name: str) -> None:
            assert over is link
            read.append(name)

        def ask(kind: str, name: str, over: RespConnection | None = link) -> None:
            rereads.soon(over, kind, name, lambda link: note(link, f"{kind} {name}"))

        ask("numbers", "a", None)
        for _ in range(2):
            ask("numbers", "a")
            ask("policy", "a")
        while work:
            await work.pop(0)
        assert read == ["numbers a", "policy a"]
        ask("policy", "a")
        rereads.clear()
        ask("policy", "a")
        assert len(work) == 2
        while work:
            await work.pop(0)
        link.close()

    with redis_server() as server:
        asyncio.run(run(server.port))
