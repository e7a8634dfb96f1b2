"""A worker: a real replica on inherited sockets; the test holds the supervisor's end of the channel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from loadtests.sim.ports import HOST, free_ports
from router.address import ListenAddress
from router.lifecycle import Phase, PhaseChange
from router.replica import replica as replica_module
from router.replica.build import build
from router.replica.process import run
from router.replica.replica import Replica, Sockets
from router.settings import Control, Drain, Pool, Settings
from router.workers.ipc import HAND_OVER, HURRY, LEAVE, READY, STOP, WorkerChannel, WorkerSockets
from router.workers.slots import Slot, open_slots
from router.workers.worker import Supervised, of_its_own
from statesync.tasks import spawn


def settings(slot: Slot, drain: Drain) -> Settings:
    return Settings(
        listen=str(slot.listen),
        control=Control(listen=str(slot.control)),
        pools=[Pool(name="main", pods=["http://127.0.0.1:1"], models=["m"])],
        drain=drain,
    )


class Supervision:
    """A worker in this process, and the messages that its supervisor has received."""

    def __init__(self, slot: Slot, drain: Drain) -> None:
        lent = Sockets(slot.inference_socket.dup(), slot.control_socket.dup())
        ours, theirs = socket.socketpair()
        self.slot = slot
        self.worker_line = WorkerChannel(theirs)
        host = Supervised(self.worker_line)
        self.replica = Replica(build(settings(slot, drain)), sockets=lent, on_drain=host.ask_for_successor)
        self.replica.parts.core.lifecycle.listen(lambda step: self.phases.append(step.after))
        self.phases: list[Phase] = []
        self.received: list[str] = []
        self.came = asyncio.Event()
        self.line = WorkerChannel(ours)
        self.line.listen(self._on_message, lambda: None)
        self.life = spawn(run(self.replica, host), "worker")

    def _on_message(self, message: str, argument: str) -> None:
        self.received.append(message)
        self.came.set()

    async def receives(self, message: str) -> None:
        async with asyncio.timeout(60):
            while message not in self.received:
                self.came.clear()
                await self.came.wait()

    async def ends(self) -> None:
        await asyncio.wait_for(self.life, 60)
        self.line.close()
        self.worker_line.close()


def supervised(test: Callable[[Supervision], Awaitable[None]], drain: Drain | None = None) -> None:
    """Run `test` with a worker that is starting."""

    async def all_of_it() -> None:
        (slot,) = open_slots(ListenAddress(HOST, free_ports(1)[0]), ListenAddress(HOST, 0), 1)
        await test(Supervision(slot, drain or Drain(settle_s=600, timeout_s=600)))
        slot.close()

    asyncio.run(all_of_it())


async def status(listen: ListenAddress, path: str, method: str = "GET") -> tuple[int, bool]:
    """Status of a request on a new connection, and whether the answer closes the connection."""
    return await status_on(await asyncio.open_connection(listen.host, listen.port), path, method)


async def status_on(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, method: str = "GET"
) -> tuple[int, bool]:
    reader, writer = connection
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    writer.close()
    return int(head.split()[1]), b"\r\nconnection: close\r\n" in head.lower()


def test_it_listens_only_once_it_is_ready() -> None:
    """Its predecessor accepts on the same socket: no probe may reach a worker that still warms up."""

    async def test(worker: Supervision) -> None:
        refused: list[Phase] = []

        def try_it(step: PhaseChange) -> None:
            try:
                socket.create_connection(worker.slot.listen, timeout=60.0).close()
            except ConnectionRefusedError:
                refused.append(step.after)

        worker.replica.parts.core.lifecycle.listen(try_it)
        await worker.receives(READY)
        assert refused == worker.phases == [Phase.WARMING, Phase.READY]
        assert await status(worker.slot.listen, "/readyz") == (200, False)
        assert (await status(worker.slot.control, "/readyz"))[0] == 200
        worker.line.send(HURRY)
        await worker.ends()

    supervised(test)


def test_a_handed_over_worker_does_not_settle_and_answers_connections_from_before() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        connected = [await asyncio.open_connection(*worker.slot.listen) for _ in range(2)]
        controlled = await asyncio.open_connection(*worker.slot.control)
        assert await status(worker.slot.listen, "/livez") == (200, False)  # so the earlier ones are accepted
        assert (await status(worker.slot.control, "/livez"))[0] == 200
        draining = asyncio.Event()
        worker.replica.parts.core.lifecycle.listen(lambda step: draining.set())
        worker.line.send(HAND_OVER)
        await asyncio.wait_for(draining.wait(), 60)
        assert await status_on(connected[0], "/readyz") == (200, True)
        assert (await status_on(controlled, "/readyz"))[0] == 200
        connected[1][1].close()
        await worker.ends()
        assert worker.phases == [Phase.WARMING, Phase.READY, Phase.DRAINING, Phase.CLOSED]

    supervised(test)


def test_a_handed_over_worker_leaves_its_slots_queue_to_its_successor() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        worker.line.send(HAND_OVER)
        await worker.ends()
        with socket.create_connection(worker.slot.listen, timeout=60.0):
            accepted, _ = await asyncio.wait_for(
                asyncio.get_running_loop().sock_accept(worker.slot.inference_socket), 60
            )
            accepted.close()

    supervised(test)


def test_idle_connections_are_closed_after_a_delay_and_new_ones_have_time_for_their_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica_module, "HAND_OVER_LINGER_S", 0.0)

    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        idle, new = [await asyncio.open_connection(*worker.slot.listen) for _ in range(2)]
        reader, writer = idle
        writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"}"), 60)
        assert await status(worker.slot.listen, "/livez") == (200, False)  # so the earlier ones are accepted
        worker.line.send(HAND_OVER)
        await asyncio.wait_for(reader.read(), 60)  # to the end of the stream
        writer.close()
        assert await status_on(new, "/livez") == (200, True)
        await worker.ends()

    supervised(test)


def test_a_stop_starts_settling_and_a_hurry_ends_it() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        worker.line.send(STOP)
        async with asyncio.timeout(60):
            while (await status(worker.slot.listen, "/readyz")) != (503, True):
                pass
        worker.line.send(HURRY)
        await worker.ends()
        assert worker.phases[2:] == [Phase.SETTLING, Phase.DRAINING, Phase.CLOSED]

    supervised(test)


def test_a_stop_after_a_hand_over_does_not_cut_its_streams_off() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        worker.line.send(HAND_OVER)
        worker.line.send(STOP)
        await worker.ends()
        assert not worker.replica.hurry.is_set()

    supervised(test)


def test_it_drains_when_its_supervisor_has_ended() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        worker.line.close()
        await worker.ends()
        assert worker.phases[2:] == [Phase.SETTLING, Phase.DRAINING, Phase.CLOSED]
        assert not worker.replica.hurry.is_set()

    supervised(test, Drain(settle_s=0.0, timeout_s=600))


def test_a_signal_asks_for_a_successor_and_a_second_one_ends_it() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        await worker.receives(LEAVE)
        assert worker.replica.parts.core.lifecycle.phase is Phase.READY
        signal.raise_signal(signal.SIGTERM)
        await worker.ends()
        assert worker.replica.hurry.is_set()

    supervised(test)


def test_a_signal_to_all_and_the_supervisors_end_do_not_hurry_a_worker_that_is_stopping() -> None:
    """systemd signals every process of a service; the supervisor's message may come first."""

    async def test(worker: Supervision) -> None:
        await worker.receives(READY)

        def settling(step: PhaseChange) -> None:
            if step.after is Phase.SETTLING:
                signal.raise_signal(signal.SIGTERM)
                worker.line.close()

        worker.replica.parts.core.lifecycle.listen(settling)
        worker.line.send(STOP)
        await worker.ends()
        assert not worker.replica.hurry.is_set()

    supervised(test, Drain(settle_s=0.5, timeout_s=600))


def test_an_operators_drain_asks_for_one_successor_even_if_repeated() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        for _ in range(2):
            assert await status(worker.slot.control, "/admin/drain", "POST") == (202, False)
        await worker.receives(LEAVE)
        assert not worker.replica.stop_asked.is_set()
        worker.line.send(HAND_OVER)
        await worker.ends()

    supervised(test)


def test_a_message_of_a_newer_supervisor_does_nothing() -> None:
    async def test(worker: Supervision) -> None:
        await worker.receives(READY)
        worker.line.send("sing", "a song")
        worker.line.send(HAND_OVER)
        await worker.ends()

    supervised(test)


def test_no_two_workers_have_the_same_name() -> None:
    place = WorkerSockets(1, "127.0.0.1:1", "127.0.0.1:2", 3, 4, 5)
    names = {of_its_own(Settings(replica="gw"), place).replica for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith(f"gw-1-{os.getpid()}-") for name in names)
    assert of_its_own(Settings(), place).replica == "", "then a replica names itself"
