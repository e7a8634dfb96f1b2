"""Replicas of an older version and of this one share their state: this version reads what the older one wrote, and
writes the same bytes.

`tests/data/replica-4dba2e3.json` says how it was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.recorded_replica import (
    BUSY,
    EARLY,
    FIGURES,
    IDLE,
    LATE,
    NAME,
    ON_TRIAL,
    PAGES,
    PLAIN,
    POLICIES,
    REPORTS,
    comparable,
    load,
    publish,
    put,
    recording,
)
from tests.fakes.recording_listener import eventually
from tests.fakes.redis_replicas import RARE, client, replica
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.virtual_time import RunningClock, run_on

OLD = load(Path(__file__).parents[3] / "data" / "replica-4dba2e3.json")
*SAID, GOODBYE = OLD.published


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as made:
        yield made


def test_this_version_writes_the_same_bytes(server: RedisServer) -> None:
    assert comparable(run_on(RunningClock(), recording(server))) == comparable(OLD)


def test_a_recording_has_every_kind_of_message_and_key() -> None:
    kinds = {kind for kind, _ in OLD.keys.values()}
    assert kinds == {"zset", "hash", "stream", "list", "set", "string"}
    for kind in ("changes", "beat", "policy", "gone"):
        assert any(f"\xa1t{chr(0xA0 + len(kind))}{kind}" in message for message in OLD.published), kind


def test_a_replica_that_joins_reads_all_keys_of_the_older_one(server: RedisServer) -> None:
    async def scene() -> None:
        with client(server) as admin:
            put(admin, OLD)
            async with replica(server, "reader", RARE) as (store, listener):
                assert listener.inflight == {NAME: IDLE}
                assert listener.restored_pages == PAGES
                assert listener.placed == [LATE]
                assert listener.reports == REPORTS
                assert listener.policies == POLICIES
                assert [each.id for each in store.replicas()] == ["reader", NAME]
                assert await store.policy_history("chat") == [ON_TRIAL, PLAIN._replace(generation=1)]
                assert await store.share_trial("chat", 2, "reader", b"own") == {NAME: FIGURES, "reader": b"own"}
                publish(admin, GOODBYE)
                await eventually(lambda: listener.gone == [NAME])
                assert listener.inflight == {}
                assert store.health().unreadable == 0

    run_on(RunningClock(), scene())


def test_a_live_replica_takes_each_message_of_the_older_one(server: RedisServer) -> None:
    async def scene() -> None:
        with client(server) as admin:
            async with replica(server, "reader", RARE) as (store, listener):
                for message in SAID[:2]:
                    publish(admin, message)
                await eventually(lambda: listener.inflight == {NAME: BUSY})
                for message in SAID[2:]:
                    publish(admin, message)
                await eventually(lambda: LATE in listener.placed and listener.policies == POLICIES)
                assert listener.inflight == {NAME: IDLE}
                assert listener.placed == [*EARLY, LATE]
                assert listener.reports == REPORTS
                assert [each.id for each in store.replicas()] == ["reader", NAME]
                publish(admin, GOODBYE)
                await eventually(lambda: listener.gone == [NAME])
                assert listener.inflight == {}
                assert store.health().unreadable == 0

    run_on(RunningClock(), scene())


def test_missed_messages_of_the_older_one_are_read_from_the_keys(server: RedisServer) -> None:
    async def scene() -> None:
        with client(server) as admin:
            async with replica(server, "reader", RARE) as (_, listener):
                put(admin, OLD)
                publish(admin, SAID[3])  # the fourth message of an unknown replica
                await eventually(lambda: listener.inflight == {NAME: IDLE} and listener.placed == [LATE])
                assert listener.restored_pages == PAGES

    run_on(RunningClock(), scene())
