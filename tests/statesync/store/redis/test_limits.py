"""Shares of limits in a real Redis: the script grants what the ledger grants."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from statesync.errors import StoreUnavailable
from statesync.shares import ShareAsk, ShareLedger
from statesync.store.redis.connection import RespConnection, ServerAddress
from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.limits import grant_shares
from tests.fakes.redis_replicas import client
from tests.fakes.redis_server import RedisServer

KEYS = RedisKeys("turnout")
LIVE = ("a", "b", "c")
SLOW = 1e-6
"""Units a second: none flow back while a test runs."""


def play(server: RedisServer, scene: Any) -> None:
    async def run() -> None:
        link = await RespConnection.open(ServerAddress("127.0.0.1", server.port), timeout_s=60.0, name="test")
        try:
            await link.call("HSET", KEYS.tokens, *(part for name in LIVE for part in (f"replica-{name}", name)))
            scened: Coroutine[Any, Any, None] = scene(link)
            await scened
        finally:
            link.close()

    asyncio.run(run())


def ask(rng: Random) -> ShareAsk:
    """Any question about one of two limits."""
    held, want = rng.uniform(0, 60), rng.uniform(0, 60)
    if rng.random() < 0.5:
        return ShareAsk("slots", 40.0, 0.0, float(int(held)), float(int(held + want)))
    owed = rng.choice((0.0, 0.0, rng.uniform(0, 20)))
    return ShareAsk("units", 100.0, SLOW, held, want, least=rng.choice((0.0, 5.0)), owed=owed, age_s=-1.0)


def test_the_script_grants_what_the_ledger_grants(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        ledger, rng = ShareLedger(), Random(7)
        for _ in range(150):
            replica, asks = rng.choice(LIVE), [ask(rng) for _ in range(2)]
            found = await grant_shares(link, KEYS, replica, asks)
            expected = ledger.grant(replica, LIVE, asks, 0.0)
            assert found.replicas == expected.replicas
            for one, other in zip(found.grants, expected.grants, strict=True):
                assert one == pytest.approx(other, abs=0.01)

    play(server, scene)


def test_units_flow_back_by_the_servers_clock(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        units = ShareAsk("units", 100.0, 100.0, 0.0, 100.0)
        assert (await grant_shares(link, KEYS, "a", [units])).grants[0].share == 100
        with client(server) as admin:
            admin.hincrbyfloat(KEYS.limit("units"), "@", -250)
        (grant,) = (await grant_shares(link, KEYS, "b", [ShareAsk("units", 100.0, 100.0, 0.0, 0.0)])).grants
        assert grant.level == 0  # as much as `a` holds does not flow back
        (grant,) = (await grant_shares(link, KEYS, "a", [ShareAsk("units", 100.0, 100.0, 0.0, 0.0)])).grants
        assert 0 <= grant.level <= 100

    play(server, scene)


def test_a_limit_of_which_the_server_knows_nothing_flows_from_the_last_answer_on(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        fresh, known = (ShareAsk(key, 60.0, 1.0, 0.0, 0.0, age_s=age) for key, age in (("x", -1.0), ("y", 12.0)))
        levels = [grant.level for grant in (await grant_shares(link, KEYS, "a", [fresh, known])).grants]
        assert levels == pytest.approx([60, 12], abs=0.01)

    play(server, scene)


def test_the_script_finds_a_limit_that_was_lost_as_the_ledger_does(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        ledger = ShareLedger()
        for replica, age_s in (("a", -1.0), ("b", 12.0), ("b", 0.0), ("c", -1.0), ("a", 0.0)):
            asks = [
                ShareAsk("units", 60.0, SLOW, 30.0, 30.0, age_s=age_s if age_s < 1 else 60.0 / SLOW - 1e6),
                ShareAsk("slots", 40.0, 0.0, 4.0, 9.0, age_s=age_s),
            ]
            found = (await grant_shares(link, KEYS, replica, asks)).grants
            for one, other in zip(found, ledger.grant(replica, LIVE, asks, 0.0).grants, strict=True):
                assert one == pytest.approx(other, abs=0.01)

    play(server, scene)


def test_of_slots_of_which_the_server_knows_nothing_only_those_in_use_are_granted_at_first(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        slots = ShareAsk("slots", 10.0, 0.0, 3.0, 9.0, age_s=1.0)
        for _ in range(2):
            assert (await grant_shares(link, KEYS, "a", [slots])).grants[0] == (3, 7, 7)
        with client(server) as admin:
            admin.hincrbyfloat(KEYS.limit("slots"), "@", -60_000)
        assert (await grant_shares(link, KEYS, "a", [slots])).grants[0].share == 9

    play(server, scene)


def test_shares_of_replicas_that_are_gone_are_removed(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        slots = ShareAsk("slots", 10.0, 0.0, 9.0, 9.0)
        await grant_shares(link, KEYS, "b", [slots])
        await link.call("HDEL", KEYS.tokens, "replica-b")
        (grant,) = (await grant_shares(link, KEYS, "a", [slots])).grants
        assert grant.share == 9
        assert set(await link.call("HKEYS", KEYS.limit("slots"))) == {b"!", b"a"}
        assert 0 < await link.call("PTTL", KEYS.limit("slots")) <= 120_000

    play(server, scene)


def test_a_replica_without_a_lease_gets_nothing(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        with pytest.raises(StoreUnavailable, match="lease"):
            await grant_shares(link, KEYS, "stranger", [ShareAsk("slots", 10.0, 0.0, 0.0, 1.0)])

    play(server, scene)


def test_a_key_of_another_type_is_replaced(server: RedisServer) -> None:
    async def scene(link: RespConnection) -> None:
        await link.call("SET", KEYS.limit("slots"), "x")
        assert (await grant_shares(link, KEYS, "a", [ShareAsk("slots", 10.0, 0.0, 0.0, 4.0)])).grants[0].share == 4

    play(server, scene)
