"""Finding the server with the keys: through real Sentinels and cluster nodes, failovers and unreachable nodes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Awaitable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from statesync.errors import BadStoreUrl, StoreUnavailable
from statesync.store.redis.connection import Push, ReplyError, RespConnection, ServerAddress
from statesync.store.redis.locate import SLOTS, ServerLocator, locator, owner_of, slot_of
from tests.fakes.redis_server import (
    RedisServer,
    certificates,
    cluster_nodes,
    free_port,
    redis_server,
    sentinel,
    tls_options,
)
from tests.fakes.virtual_time import RunningClock, run_on
from tests.fakes.waiting import DEADLINE_S, wait_for

SECRET = "s3cret"
T = TypeVar("T")


def at(server: RedisServer, password: str = "") -> ServerAddress:
    return ServerAddress(HOST, server.port, password=password)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def finder_of(url: str, namespace: str) -> ServerLocator:
    """A locator with a time limit that is long enough for a busy machine."""
    return locator(url, namespace, DEADLINE_S)


def received(address: ServerAddress, *command: str | int) -> Any:
    """Returns a server's reply over a new connection."""

    async def ask() -> Any:
        connection = await RespConnection.open(address, timeout_s=DEADLINE_S, name="test")
        try:
            return await connection.call(*command)
        finally:
            connection.close()

    return run(ask())


async def unknown(locating: Awaitable[ServerAddress]) -> str:
    """Returns the error of a failed look-up."""
    with pytest.raises(StoreUnavailable) as caught:
        await locating
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_plain_url_has_the_server_s_address() -> None:
    address = run(finder_of(f"redis://me:{SECRET}@host:1/2", "ns").locate())
    assert address == ServerAddress("host", 1, "me", SECRET, 2)


def test_a_socket_url_is_a_path() -> None:
    assert run(finder_of(f"unix://:{SECRET}@/run/s?db=1", "ns").locate()) == ServerAddress(
        "", 0, "", SECRET, 1, None, "/run/s"
    )


def test_a_bad_url_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(BadStoreUrl):
        finder_of("redis+sentinel://host", "ns")


def test_a_tls_url_opens_a_tls_connection(tmp_path: Path) -> None:
    made, port = certificates(tmp_path), free_port()
    with redis_server(*tls_options(made, port), port=port):
        for query in (f"ssl_ca_certs={made.ca}", "ssl_cert_reqs=none"):
            address = run(finder_of(f"rediss://{HOST}:{port}?{query}", "ns").locate())
            assert isinstance(address.tls, ssl.SSLContext)
            assert received(address, "PING") == b"PONG"


# Sentinel


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master behind a password, and a Sentinel behind another."""
    with redis_server("--requirepass", SECRET) as master, sentinel(master, password=SECRET, own="watch") as watching:
        yield master, watching


def test_sentinel_names_the_master(guarded: tuple[RedisServer, RedisServer]) -> None:
    master, watching = guarded
    url = f"redis+sentinel://:{SECRET}@{HOST}:{watching.port}/mymaster/2?sentinel_password=watch"
    assert run(finder_of(url, "ns").locate()) == at(master, SECRET)._replace(db=2)


def test_unreachable_sentinels_are_skipped_and_asked_last(guarded: tuple[RedisServer, RedisServer]) -> None:
    asked: list[bytes] = []
    clock = RunningClock()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))
        clock.now += DEADLINE_S  # it is silent until then
        await reader.read()

    async def twice() -> None:
        async with stream_server(silent) as port:
            url = f"redis+sentinel://:{SECRET}@{HOST}:{port},{HOST}:{watching.port}/mymaster?sentinel_password=watch"
            finder = finder_of(url, "ns")
            for _ in range(2):
                assert await finder.locate() == at(master, SECRET)
                assert len(asked) == 1

    master, watching = guarded
    run_on(clock, twice())


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("other?sentinel_password=watch", "knows no master named other"),
        ("mymaster", "it needs a password"),
        ("mymaster?sentinel_password=s3cret", "refuses the user name or password"),
    ],
)
def test_a_sentinel_without_an_answer_is_an_error(
    guarded: tuple[RedisServer, RedisServer], path: str, why: str
) -> None:
    gone = free_port()
    finder = finder_of(f"redis+sentinel://:{SECRET}@{HOST}:{gone},{HOST}:{guarded[1].port}/{path}", "ns")
    said = run(unknown(finder.locate()))
    assert why in said
    assert f"cannot connect to {HOST}:{gone}" in said


async def force_failover(watching: RespConnection) -> None:
    """Makes Sentinel fail over at once: its own time limit is meaningless on a busy machine. Sentinel refuses until it
    has seen the replica."""
    while True:
        with contextlib.suppress(ReplyError):
            await watching.call("SENTINEL", "FAILOVER", "mymaster")
            return
        await asyncio.sleep(0.05)


def test_after_a_failover_sentinel_names_the_replica() -> None:
    async def fail_over() -> None:
        finder = finder_of(f"redis+sentinel://{HOST}:{watching.port}/mymaster", "ns")
        assert await finder.locate() == at(master)
        switched = asyncio.Event()

        def on_push(push: Push) -> None:
            if push[1] == b"+switch-master":
                switched.set()

        events = await RespConnection.open(at(watching), timeout_s=DEADLINE_S, name="test", on_push=on_push)
        with contextlib.closing(events):
            await events.call("SUBSCRIBE", "+switch-master")
            master.kill()
            assert f"cannot connect to {HOST}:{master.port}" in await unknown(finder.locate())
            await force_failover(events)
            await switched.wait()
        assert await finder.locate() == at(replica)

    replicating = ("--repl-diskless-sync-delay", "0")
    with redis_server(*replicating) as master, redis_server("--replicaof", f"{HOST} {master.port}") as replica:
        wait_for("the replica", lambda: received(at(replica), "ROLE")[3] == b"connected")
        with sentinel(master) as watching:
            wait_for("Sentinel to know the replica", lambda: received(at(watching), "SENTINEL", "REPLICAS", "mymaster"))
            run(fail_over())


def test_a_sentinel_that_names_a_replica_is_not_trusted() -> None:
    with redis_server() as master, redis_server() as fallen, sentinel(fallen) as stale:
        received(at(fallen), "REPLICAOF", HOST, master.port)
        finder = finder_of(f"redis+sentinel://{HOST}:{stale.port}/mymaster", "ns")
        assert f"names {HOST}:{fallen.port}, which is a replica" in run(unknown(finder.locate()))


# Cluster


def _knows_three(node: RedisServer) -> bool:
    return len(received(at(node), "CLUSTER", "SLOTS")) == 3 and b"cluster_state:ok" in received(
        at(node), "CLUSTER", "INFO"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[RedisServer]]:
    """Three masters; the last slot has no owner."""
    with cluster_nodes(3) as nodes:
        bounds = [0, 6000, 12000, SLOTS - 1]
        for epoch, (node, (start, stop)) in enumerate(zip(nodes, itertools.pairwise(bounds), strict=True), 1):
            received(at(node), "CLUSTER", "SET-CONFIG-EPOCH", epoch)
            received(at(node), "CLUSTER", "ADDSLOTS", *range(start, stop))
        for node in nodes[1:]:
            received(at(nodes[0]), "CLUSTER", "MEET", HOST, node.port)
        wait_for("the cluster to meet", lambda: all(map(_knows_three, nodes)))
        yield nodes


def test_the_node_that_owns_the_namespaces_slot_is_found_from_any_other(cluster: list[RedisServer]) -> None:
    found = set()
    for namespace in ("turnout", "a", "b", "c", "d"):
        answers = {run(finder_of(f"redis+cluster://{HOST}:{asked.port}", namespace).locate()) for asked in cluster}
        (owner,) = answers
        assert received(owner, "INCR", f"{{{namespace}}}:n") >= 1, "the owner accepts writes"
        found.add(owner)
    assert len(found) > 1


def test_nodes_other_than_the_owner_redirect(cluster: list[RedisServer]) -> None:
    owner = run(finder_of(f"redis+cluster://{HOST}:{cluster[0].port}", "turnout").locate())
    for node in cluster:
        if at(node) != owner:
            with pytest.raises(ReplyError, match=r"^MOVED"):
                received(at(node), "GET", "{turnout}:n")


def test_an_unreachable_node_is_skipped(cluster: list[RedisServer]) -> None:
    url = f"redis+cluster://{HOST}:{free_port()},{HOST}:{cluster[1].port}"
    assert run(finder_of(url, "turnout").locate()).port in {node.port for node in cluster}


def test_a_slot_without_a_node_is_an_error(cluster: list[RedisServer]) -> None:
    homeless = next(name for name in map(str, range(10**6)) if slot_of(name.encode()) == SLOTS - 1)
    finder = finder_of(f"redis+cluster://{HOST}:{cluster[0].port}", homeless)
    assert f"knows no node that serves slot {SLOTS - 1}" in run(unknown(finder.locate()))


def test_a_server_that_is_not_a_cluster_is_an_error() -> None:
    with redis_server() as alone:
        said = run(unknown(finder_of(f"redis+cluster://{HOST}:{alone.port}", "ns").locate()))
    assert "cluster support disabled" in said


@given(st.one_of(st.text(alphabet="{}ab", max_size=8).map(str.encode), st.binary(max_size=16)))
def test_slots_equal_those_of_redis_py(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)


@pytest.mark.parametrize(
    ("host", "found"), [(b"10.0.0.1", ("10.0.0.1", 7)), (b"", ("asked", 7)), (None, ("asked", 7)), (b"?", None)]
)
def test_a_node_without_a_host_is_the_one_that_was_asked(host: bytes | None, found: tuple[str, int] | None) -> None:
    ranges = [[0, 99, [b"x", 6, b"id"]], [100, 200, [host, 7, b"id", {}], [b"replica", 8, b"id"]]]
    assert owner_of(100, ranges, "asked") == found
    assert owner_of(201, ranges, "asked") is None
