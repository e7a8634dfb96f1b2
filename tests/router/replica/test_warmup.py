"""Starting with complete state, with late state, and under a name in use."""

from __future__ import annotations

import asyncio
import itertools
import logging

import msgspec
import pytest

from router.lifecycle import Phase
from router.replica import build as build_module
from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Discovery, Pool, Settings
from statesync.errors import StateError
from statesync.store.memory import MemoryStore
from statesync.store.protocol import StateListener
from statesync.tasks import spawn
from tests.fakes.dns_server import serving
from tests.fakes.local_replica import engine, settings
from tests.fakes.waiting import until

_numbers = itertools.count()


class Away(MemoryStore):
    """A store whose server is unavailable until it is `back`; a start that is not awaited goes on."""

    def __init__(self) -> None:
        super().__init__(
            f"away-{next(_numbers)}"
        )  # stores of one name share their state, also with those of other tests
        self.back = asyncio.Event()
        self.asked = 0

    async def start(self, replica: str, listener: StateListener, /) -> None:
        self.asked += 1
        await asyncio.shield(spawn(self._join(replica, listener), "joining"))

    async def _join(self, replica: str, listener: StateListener) -> None:
        await self.back.wait()
        await super().start(replica, listener)


def with_store(given: Settings, store: MemoryStore) -> Replica:
    """A replica with this store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "open_store", lambda *_: store)
        return Replica(build_module.build(given))


def test_a_replica_whose_name_is_in_use_does_not_start() -> None:
    async def run() -> None:
        server, url = await engine()
        first, second = (Replica(build(settings(url, state="memory://taken", warmup_timeout_s=600))) for _ in range(2))
        await first.start()
        with pytest.raises(StateError, match="'r1' is live"):
            await second.start()
        assert second.parts.core.lifecycle.phase is Phase.WARMING
        await second.close()
        await first.close()
        server.close()

    asyncio.run(run())


def test_an_unavailable_store_leaves_it_cold_until_the_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        server, url = await engine()
        store = Away()
        # In this time all but the shared state has to be known.
        replica = with_store(settings(url, warmup_timeout_s=4.0), store)
        await replica.start()
        assert (replica.parts.core.lifecycle.cold, replica.parts.core.lifecycle.ready) == (True, True)
        assert replica.parts.warmup.waits_for() == ["the shared state (being read)"]
        store.back.set()
        await until(lambda: not replica.parts.core.lifecycle.cold)
        assert replica.parts.warmup.waits_for() == []
        assert store.asked == 1
        await replica.close()
        server.close()

    with caplog.at_level(logging.INFO, "turnout.replica"):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert "after 4 s still unknown: the shared state (being read); serving cold" in said
    assert "all is known now: no longer cold" in said


@pytest.mark.parametrize("limit_s", [0.0, 0.1])
def test_pods_that_are_never_discovered_do_not_block_the_other_pools(limit_s: float) -> None:
    async def run() -> None:
        # A pod cannot be in two pools: the second pool never gets any.
        pools = [Pool(name=name, models=[name], pods=["http://127.0.0.1:1"]) for name in ("first", "lost")]
        replica = Replica(build(settings(pools=pools, state="memory://lost", warmup_timeout_s=limit_s)))
        await replica.start()
        assert replica.parts.core.lifecycle.cold
        await until(lambda: bool(replica.parts.state.store.replicas()))
        await until(lambda: len(replica.parts.warmup.waits_for()) == 2)
        assert replica.parts.warmup.waits_for() == ["the pods of pool lost", "the pods' models and first probes"]
        await replica.close()

    asyncio.run(run())


def test_a_warm_up_that_is_no_longer_wanted_ends() -> None:
    async def run() -> None:
        server, url = await engine()
        store = Away()
        replica = with_store(settings(url, warmup_timeout_s=600), store)
        starting = asyncio.get_running_loop().create_task(replica.start())
        await until(lambda: store.asked == 1)
        starting.cancel()
        await replica.drain()
        assert replica.parts.core.lifecycle.phase is Phase.CLOSED
        store.back.set()
        server.close()

    asyncio.run(run())


def lost(nameserver: str, engine_url: str = "", **fields: object) -> Settings:
    """Settings with one pool whose pods a name server lists."""
    port = engine_url.rpartition(":")[2] or "8000"
    found = Discovery(source=f"dns://engines.test:{port}", nameservers=[nameserver], interval_s=1.0)
    return settings(pools=[Pool(name="lost", models=["m"], discovery=found)], **fields)


def test_a_pool_for_which_discovery_finds_nothing_keeps_it_from_being_ready_until_there_is_a_pod() -> None:
    """Case H 38."""

    async def run() -> None:
        server, url = await engine()
        async with serving() as names:
            given = lost(f"127.0.0.1:{names.port}", url, state="memory://lost-name", warmup_timeout_s=600)
            replica = Replica(build(given))
            starting = asyncio.get_running_loop().create_task(replica.start())
            await until(lambda: "lost" in replica.parts.pods.registry.known)
            await until(lambda: bool(replica.parts.state.store.replicas()))
            missing = ["a pod of pool lost (discovery finds none)", "the pods' models and first probes"]
            assert replica.parts.warmup.waits_for() == missing
            assert not replica.parts.core.lifecycle.ready
            names.records["engines.test.", "A"] = (1, ["127.0.0.1"])
            await starting
            assert (replica.parts.core.lifecycle.ready, replica.parts.core.lifecycle.cold) == (True, False)
            await replica.close()
        server.close()

    asyncio.run(run())


def test_a_pool_that_waits_for_its_first_pod_does_not_keep_it_from_being_ready() -> None:
    async def run() -> None:
        async with serving() as names:
            given = lost(f"127.0.0.1:{names.port}", warmup_timeout_s=600)
            pool = msgspec.structs.replace(given.pools[0], scale_from_zero_s=600.0)
            replica = Replica(build(msgspec.structs.replace(given, pools=[pool])))
            await replica.start()
            assert (replica.parts.core.lifecycle.ready, replica.parts.core.lifecycle.cold) == (True, False)
            assert replica.parts.warmup.waits_for() == []
            await replica.close()

    asyncio.run(run())


@pytest.mark.parametrize("answers", [True, False])
def test_once_the_time_is_over_it_serves_cold_without_pods_until_discovery_finds_some(answers: bool) -> None:
    """Case H 38: a name that does not exist, and a name server that does not answer."""

    async def run() -> None:
        server, url = await engine()
        async with serving() as names:
            if not answers:
                names.silent.add("engines.test.")
            nameserver = f"127.0.0.1:{names.port}"
            replica = Replica(build(lost(nameserver, url, state=f"memory://none-{answers}", warmup_timeout_s=0.1)))
            await replica.start()
            assert (replica.parts.core.lifecycle.ready, replica.parts.core.lifecycle.cold) == (True, True)
            names.records["engines.test.", "A"] = (1, ["127.0.0.1"])
            names.silent.clear()
            await until(lambda: not replica.parts.core.lifecycle.cold)
            await replica.close()
        server.close()

    asyncio.run(run())
