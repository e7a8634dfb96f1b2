"""A connection to real Redis servers, on both event loops; a scripted server for answers Redis never gives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loadtests.processes.stream_server import Handle, stream_server
from loadtests.sim.ports import HOST
from statesync.errors import StoreUnavailable
from statesync.store.redis.commands import pack
from statesync.store.redis.connection import UNSENT_BYTES, Push, ReplyError, RespConnection, ServerAddress
from tests.fakes.redis_server import RedisServer, certificates, free_port, redis_server, tls_options
from tests.fakes.virtual_time import Clock, run_on
from tests.fakes.waiting import DEADLINE_S

SECRET = "s3cret!pass"

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for the tests that do not pause or kill it."""
    with redis_server() as running:
        yield running


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """A server that the test may pause or kill."""
    with redis_server() as running:
        yield running


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on either event loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def running(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(work, DEADLINE_S))

    return running


def at(server: RedisServer) -> ServerAddress:
    return ServerAddress(HOST, server.port)


@contextlib.asynccontextmanager
async def opened(
    address: ServerAddress, *, timeout_s: float = DEADLINE_S, **hooks: Any
) -> AsyncIterator[RespConnection]:
    connection = await RespConnection.open(address, timeout_s=timeout_s, name="test", **hooks)
    try:
        yield connection
    finally:
        connection.close()


async def opened_in_time(address: ServerAddress, *, timeout_s: float, **hooks: Any) -> RespConnection:
    """Opens with a time limit, and tries again when a busy machine exceeds it."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await RespConnection.open(address, timeout_s=timeout_s, name="test", **hooks)


async def refused(address: ServerAddress, timeout_s: float = DEADLINE_S) -> str:
    """Returns the error of a refused `open`."""
    with pytest.raises(StoreUnavailable) as caught:
        await RespConnection.open(address, timeout_s=timeout_s, name="test")
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None or SECRET not in str(caught.value.__context__)
    return str(caught.value)


@contextlib.asynccontextmanager
async def serving(converse: Handle) -> AsyncIterator[ServerAddress]:
    """A server that is not Redis and is silent after `converse`."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer)
        await reader.read()

    async with stream_server(accepted) as port:
        yield ServerAddress(HOST, port)


def scripted(*answers: bytes) -> contextlib.AbstractAsyncContextManager[ServerAddress]:
    """A server that sends the first answer after the first bytes it gets, and so on; then nothing."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if await reader.read(65536):
                writer.write(answer)

    return serving(converse)


def _received(redis: RespConnection, count: int) -> bool:
    return redis.bytes_received == count


async def until(met: Callable[[], bool]) -> None:
    """Runs the loop until `met` is true; the runner bounds the time."""
    while not met():  # noqa: ASYNC110 (the condition has no event)
        await asyncio.sleep(0)


# Commands and replies


def test_a_call_returns_the_server_s_reply(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            assert await redis.call("SET", "k", b"v") == b"OK"
            assert await redis.call("GET", "k") == b"v"
            assert await redis.call("GET", "absent") is None
            assert await redis.call("INCRBY", "n", 41) == 41
            assert await redis.call("INCRBYFLOAT", "n", 0.5) == b"41.5"
            assert await redis.call("HSET", "h", "a", 1, "b", 2) == 2
            assert await redis.call("HGETALL", "h") == {b"a": b"1", b"b": b"2"}
            assert await redis.call("EVAL", "return {1, {'a', false}}", 0) == [1, [b"a", None]]
            await redis.call("FLUSHDB")

    run(talk())


def test_a_false_reply_is_a_reply(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            assert await redis.call("EVAL", "redis.setresp(3); return false", 0) in (False, None)
            assert await redis.call("ECHO", "next") == b"next"

    run(talk())


def test_an_error_is_raised_with_its_code(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            with pytest.raises(ReplyError, match=r"^NOSCRIPT No matching script") as caught:
                await redis.call("EVALSHA", "0" * 40, 0)
            assert caught.value.code == "NOSCRIPT"
            assert caught.value.message.startswith("No matching")
            assert await redis.call("ECHO", "next") == b"next"

    run(talk())


def test_an_error_need_not_be_utf8(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            with pytest.raises(ReplyError) as caught:
                await redis.call("EVAL", b"return redis.error_reply('BAD \xff\xfe')", 0)
            assert caught.value.code == "BAD"

    run(talk())


def test_a_pipeline_keeps_errors_in_place_and_is_one_round_trip(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            before = redis.round_trips
            first, second, third = await redis.pipeline([("ECHO", "a"), ("NOPE",), ("ECHO", "b")])
            assert (first, third) == (b"a", b"b")
            assert isinstance(second, ReplyError)
            assert second.code == "ERR"
            assert redis.round_trips == before + 1

    run(talk())


def test_a_pipeline_of_one_is_a_list_and_of_none_is_empty(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            assert await redis.pipeline([("ECHO", "a")]) == [b"a"]
            assert await redis.pipeline([]) == []

    run(talk())


def test_pipelines_larger_than_every_buffer_come_back_in_order(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            count = 50_000
            work = [redis.pipeline([("ECHO", f"{batch}-{i}") for i in range(count)]) for batch in range(2)]
            for batch, replies in enumerate(await asyncio.gather(*work)):
                assert replies == [f"{batch}-{i}".encode() for i in range(count)]

    run(talk())


def test_bytes_are_unchanged(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            for value in (b"", b"\r\n", b"$-1\r\n", bytes(range(256)), bytes(range(256)) * 40_000):
                await redis.call("SET", b"\x00\r\n\xff", value)
                assert await redis.call("GET", b"\x00\r\n\xff") == value
            await redis.call("DEL", b"\x00\r\n\xff")

    run(talk())


def test_concurrent_calls_each_get_their_own_reply(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            replies = await asyncio.gather(*(redis.call("ECHO", i) for i in range(1000)))
            assert replies == [str(i).encode() for i in range(1000)]

    run(talk())


def test_a_cancelled_call_leaves_the_others_their_replies(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            first, second, third = (redis.send(pack("ECHO", word)) for word in "abc")
            second.cancel()
            assert (await first, await third) == (b"a", b"c")
            assert await redis.call("ECHO", "d") == b"d"

    run(talk())


def test_counters_count_bytes_and_round_trips(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            trips, sent, received = redis.round_trips, redis.bytes_sent, redis.bytes_received
            await redis.call("ECHO", "abc")
            assert redis.round_trips - trips == 1
            assert redis.bytes_sent - sent == len(b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n")
            assert redis.bytes_received - received == len(b"$3\r\nabc\r\n")

    run(talk())


# Pushes


def test_pushes_among_replies_reach_the_callback_in_order(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        pushes: list[Push] = []
        async with opened(at(server), on_push=pushes.append) as redis, opened(at(server)) as other:
            assert await redis.call("SUBSCRIBE", "updates") == [b"subscribe", b"updates", 1]
            for i in range(300):
                echo = redis.send(pack("ECHO", i))
                assert await other.call("PUBLISH", "updates", f"{i} \r\n".encode()) == 1
                assert await echo == str(i).encode()
            await redis.call("PING")
            assert pushes == [[b"message", b"updates", f"{i} \r\n".encode()] for i in range(300)]
            assert await redis.call("UNSUBSCRIBE", "updates") == [b"unsubscribe", b"updates", 0]
            assert await other.call("PUBLISH", "updates", "late") == 0

    run(talk())


def test_a_connection_may_receive_what_it_publishes_itself(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        pushes: list[Push] = []
        async with opened(at(server), on_push=pushes.append) as redis:
            assert await redis.pipeline([("SUBSCRIBE", "own"), ("PUBLISH", "own", "x"), ("ECHO", "y")]) == [
                [b"subscribe", b"own", 1],
                1,
                b"y",
            ]
            assert pushes == [[b"message", b"own", b"x"]]

    run(talk())


def test_a_push_callback_that_raises_closes_the_connection(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        given: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: given.append(context))
        lost = asyncio.Event()

        def fail(_: Push) -> None:
            raise RuntimeError("a bug")

        hooks: dict[str, Any] = {"on_push": fail, "on_lost": lambda _: lost.set()}
        async with opened(at(server), **hooks) as redis, opened(at(server)) as other:
            await redis.call("SUBSCRIBE", "bug")
            await other.call("PUBLISH", "bug", "x")
            await lost.wait()
            assert any(isinstance(context.get("exception"), RuntimeError) for context in given)

    run(talk())


def test_close_from_within_a_push_stops_the_pushes(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        pushes: list[Push] = []
        async with opened(at(server)) as other:

            def once(push: Push) -> None:
                pushes.append(push)
                redis.close()

            redis = await RespConnection.open(at(server), timeout_s=DEADLINE_S, name="test", on_push=once)
            await redis.call("SUBSCRIBE", "last")
            await other.pipeline([("MULTI",), *[("PUBLISH", "last", i) for i in range(3)], ("EXEC",)])
            await other.call("PING")
            assert pushes == [[b"message", b"last", b"0"]]

    run(talk())


# Credentials, databases and addresses


def test_the_server_lists_the_connection_by_name_and_database(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        redis = await RespConnection.open(at(server)._replace(db=3), timeout_s=DEADLINE_S, name="replica 1\n\u00e9")
        info = (await redis.call("CLIENT", "INFO")).decode()
        assert " name=replica-1-- " in info
        assert " db=3 " in info
        assert redis.role == "master"
        redis.close()

    run(talk())


def test_a_database_that_does_not_exist_is_refused(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        assert "refuses the login: ERR DB index is out of range" in await refused(at(server)._replace(db=99))

    run(talk())


def test_right_passwords_are_accepted_and_wrong_ones_refused(run: Run) -> None:
    async def talk(address: ServerAddress) -> None:
        async with opened(address._replace(password=SECRET)) as redis:
            assert await redis.call("PING") == b"PONG"
            await redis.call("ACL", "SETUSER", "gate", "on", f">{SECRET}2", "+@all", "~*", "&*")
        assert "it needs a password" in await refused(address)
        assert "refuses the user name or password" in await refused(address._replace(password=SECRET + "x"))
        async with opened(address._replace(username="gate", password=f"{SECRET}2")) as redis:
            assert await redis.call("ACL", "WHOAMI") == b"gate"

    with redis_server("--requirepass", SECRET) as locked:
        run(talk(at(locked)))


def test_an_error_that_quotes_the_password_is_truncated(run: Run) -> None:
    async def talk(address: ServerAddress) -> None:
        assert "refuses the login: ERR unknown command 'HELLO'" in await refused(address._replace(password=SECRET))

    with redis_server("--rename-command", "HELLO", "") as old:
        run(talk(at(old)))


def test_an_address_shows_no_password() -> None:
    address = ServerAddress("host", 1, "user", SECRET, 2, ssl.create_default_context())
    assert (str(address), repr(address)) == ("host:1", "<ServerAddress host:1/2 TLS>")
    assert str(ServerAddress("::1")) == "[::1]:6379"


def test_a_full_server_s_error_is_reported(run: Run) -> None:
    async def talk(address: ServerAddress) -> None:
        async with opened(address):
            assert "max number of clients reached" in await refused(address)

    with redis_server("--maxclients", "1") as small:
        run(talk(at(small)))


def test_a_unix_socket_is_an_address(tmp_path: Path, run: Run) -> None:
    async def talk() -> None:
        path = str(tmp_path / "s")
        async with opened(ServerAddress("", path=path)) as redis:
            assert await redis.call("PING") == b"PONG"
        assert f"cannot connect to {path}x: No such file" in await refused(ServerAddress("", path=f"{path}x"))

    with redis_server("--unixsocket", str(tmp_path / "s")):
        run(talk())


def test_tls_is_checked_against_its_authority(tmp_path: Path, run: Run) -> None:
    async def talk() -> None:
        address = ServerAddress(HOST, port, tls=ssl.create_default_context(cafile=made.ca))
        async with opened(address) as redis:
            assert await redis.call("ECHO", bytes(300_000)) == bytes(300_000)
        assert "certificate is not trusted" in await refused(address._replace(tls=ssl.create_default_context()))
        assert "certificate is not trusted" in await refused(address._replace(host="localhost"))
        assert str(port) in await refused(address._replace(tls=None))

    made, port = certificates(tmp_path), free_port()
    with redis_server(*tls_options(made, port), port=port):
        run(talk())


def test_tls_to_a_server_without_it_fails(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        assert str(server.port) in await refused(at(server)._replace(tls=ssl.create_default_context()), timeout_s=0.1)

    run(talk())


def test_an_unreachable_server_is_an_error_with_the_address(run: Run) -> None:
    async def talk() -> None:
        port = free_port()
        assert f"cannot connect to {HOST}:{port}" in await refused(ServerAddress(HOST, port))
        assert "nowhere.invalid:6379" in await refused(ServerAddress("nowhere.invalid"))
        assert "cannot connect to" in await refused(ServerAddress("a" * 70))

    run(talk())


def test_a_server_that_accepts_connections_and_is_silent_times_out(run: Run) -> None:
    async def talk() -> None:
        with socket.create_server((HOST, 0)) as silent:
            said = await refused(ServerAddress(HOST, silent.getsockname()[1]), timeout_s=0.1)
        assert said.endswith("did not answer within 0.1 s")

    run(talk())


def test_a_server_that_is_not_redis_is_recognised(run: Run) -> None:
    async def talk() -> None:
        async with scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
            assert "does not speak the Redis protocol" in await refused(address)

    run(talk())


def test_a_cancelled_open_leaves_nothing_open(run: Run) -> None:
    async def talk() -> None:
        with socket.create_server((HOST, 0)) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            address = ServerAddress(HOST, silent.getsockname()[1])
            opening = loop.create_task(RespConnection.open(address, timeout_s=DEADLINE_S, name="test"))
            peer, _ = await loop.sock_accept(silent)
            with peer:
                assert (await loop.sock_recv(peer, 100)).startswith(b"*4\r\n$5\r\nHELLO")
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(peer, 100) == b""

    run(talk())


# Loss


def test_a_paused_server_loses_the_connection_after_the_time_limit(mortal: RedisServer, run: Run) -> None:
    async def talk() -> None:
        losses: list[StoreUnavailable] = []
        redis = await opened_in_time(at(mortal), timeout_s=0.2, on_lost=losses.append)
        mortal.pause()
        calls = await asyncio.gather(*(redis.call("PING") for _ in range(3)), return_exceptions=True)
        assert [str(call) for call in calls] == [f"{HOST}:{mortal.port} did not answer within 0.2 s"] * 3
        with pytest.raises(StoreUnavailable, match="did not answer"):
            await redis.call("PING")
        mortal.resume()
        await asyncio.sleep(0)
        assert [str(loss) for loss in losses] == [redis.lost]

    run(talk())


def test_a_killed_server_is_reported_once_and_fails_all_waiting_calls(mortal: RedisServer, run: Run) -> None:
    async def talk() -> None:
        losses: list[StoreUnavailable] = []
        gone = asyncio.Event()

        def on_lost(error: StoreUnavailable) -> None:
            losses.append(error)
            gone.set()

        async with opened(at(mortal), on_lost=on_lost) as redis:
            mortal.pause()
            waiting = redis.send(pack("PING"))
            mortal.kill()
            with pytest.raises(StoreUnavailable, match=f"lost {HOST}:{mortal.port}: "):
                await waiting
            await gone.wait()
            redis.close()
            assert len(losses) == 1
            assert redis.send(pack("PING")).done()

    run(talk())


def test_an_idle_connection_notices_that_its_server_ended(mortal: RedisServer, run: Run) -> None:
    async def talk() -> None:
        given = asyncio.get_running_loop().create_future()
        async with opened(at(mortal), on_lost=given.set_result) as redis:
            await redis.call("PING")
            mortal.kill()
            assert "it closed the connection" in str(await given)

    run(talk())


def test_close_fails_waiting_calls_and_reports_no_loss(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        losses: list[StoreUnavailable] = []
        async with opened(at(server), on_lost=losses.append) as redis, opened(at(server)) as other:
            ident = await redis.call("CLIENT", "ID")
            waiting = redis.send(pack("PING"))
            redis.close()
            redis.close()
            with pytest.raises(StoreUnavailable, match="was closed"):
                await waiting
            while await other.call("CLIENT", "LIST", "ID", ident):
                pass
            assert losses == []

    run(talk())


def test_close_right_after_a_loss_still_reports_no_loss(mortal: RedisServer, run: Run) -> None:
    async def talk() -> None:
        losses: list[StoreUnavailable] = []
        async with opened(at(mortal), on_lost=losses.append) as redis:
            waiting = redis.send(pack("PING"))
            waiting.add_done_callback(lambda _: redis.close())
            mortal.kill()
            with contextlib.suppress(StoreUnavailable):
                await waiting
        await asyncio.sleep(0)
        assert losses == []

    run(talk())


def test_unsent_bytes_are_bounded(mortal: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(mortal), timeout_s=60) as redis:
            mortal.pause()
            megabyte, sent = pack("SET", "k", bytes(1 << 20)), 0
            while not redis.lost:
                redis.send(megabyte)
                sent += 1
            assert "takes no more" in redis.lost
            assert sent < (UNSENT_BYTES >> 20) + 32  # The kernel's buffers hold bytes beyond the bound.

    run(talk())


def test_one_write_larger_than_the_bound_is_sent(server: RedisServer, run: Run) -> None:
    async def talk() -> None:
        async with opened(at(server)) as redis:
            assert await redis.call("SET", "huge", bytes(UNSENT_BYTES + 1)) == b"OK"
            assert await redis.call("DEL", "huge") == 1

    run(talk())


def test_a_reply_without_a_command_closes_the_connection(run: Run) -> None:
    async def talk() -> None:
        given = asyncio.get_running_loop().create_future()
        async with (
            scripted(b"+OK\r\n", b"+PONG\r\n+PONG\r\n") as address,
            opened(address, on_lost=given.set_result) as redis,
        ):
            assert await redis.call("PING") == b"PONG"
            assert "said something unexpected" in str(await given)

    run(talk())


# Time limits, on a virtual clock


def test_a_long_reply_is_not_overdue_while_its_bytes_arrive() -> None:
    clock = Clock()

    async def talk() -> None:
        pieces = [b"$5\r\n", b"h", b"e", b"l", b"l", b"o\r\n"]
        turns: asyncio.Queue[bytes] = asyncio.Queue()

        async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(b"+OK\r\n")
            for _ in pieces:
                writer.write(await turns.get())

        async with serving(dribble) as address, opened(address, timeout_s=1000) as redis:
            reply = redis.send(pack("GET", "k"))
            for piece in pieces:
                expected = redis.bytes_received + len(piece)
                clock.now += 900
                turns.put_nowait(piece)
                await until(partial(_received, redis, expected))
            assert await reply == b"hello"

    run_on(clock, talk())


def test_the_limit_counts_from_the_oldest_command() -> None:
    clock = Clock()

    async def talk() -> None:
        async with scripted(b"+OK\r\n") as address, opened(address, timeout_s=1000) as redis:
            oldest = redis.send(pack("GET", "k"))
            clock.now += 600
            newest = redis.send(pack("GET", "k"))
            clock.now += 600
            for future in (oldest, newest):
                with pytest.raises(StoreUnavailable, match="within 1000 s"):
                    await future

    run_on(clock, talk())


def test_a_quiet_connection_is_never_overdue() -> None:
    clock = Clock()

    async def talk() -> None:
        async with scripted(b"+OK\r\n", b"+PONG\r\n", b"+PONG\r\n") as address, opened(address, timeout_s=9) as redis:
            for _ in range(2):
                assert await redis.call("PING") == b"PONG"
                clock.now += 10_000
                for _ in range(3):
                    await asyncio.sleep(0)
            assert redis.lost == ""

    run_on(clock, talk())
