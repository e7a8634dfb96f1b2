"""One worker: a replica on sockets that its supervisor lent it, which comes when it is ready and goes when told to."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket

import msgspec
import uvloop

from router.replica.process import run
from router.replica.replica import Replica, Sockets
from router.settings import Settings
from router.telemetry import logs
from router.workers import ipc
from router.workers.ipc import WorkerChannel, WorkerSockets


def serve(settings: Settings, place: WorkerSockets, line: WorkerChannel) -> int:
    """Run a replica in this place until the supervisor ends it; the exit status. Raises what a wrong setting raises."""
    logs.configure(settings.logging)
    line.say(ipc.WARMING, str(settings.warmup_timeout_s))
    replica = Replica(of_its_own(settings, place), sockets=_sockets(place))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(replica, Supervised(line)))
    return 0


class Supervised:
    """How a worker is told to go, and by whom: the supervisor's word counts, all else asks for a successor."""

    def __init__(self, line: WorkerChannel) -> None:
        self._line = line
        self._signals = 0

    def attach(self, replica: Replica) -> None:
        """Before it starts."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            """However often, and by whomever: only `hurry` insists."""
            if not replica.stop_asked.is_set():
                replica.stop()

        def hurry() -> None:
            stop()
            replica.hurry.set()

        def ask() -> None:
            """Nobody would accept from this slot's queue while we drain: so first a successor, then go."""
            self._line.say(ipc.LEAVE)

        def signalled() -> None:
            self._signals += 1
            if self._signals > 1:
                hurry()
            elif replica.lifecycle.ready:
                ask()
            else:
                stop()

        words = {ipc.HAND_OVER: replica.hand_over, ipc.STOP: stop, ipc.HURRY: hurry}
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signalled)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor rolls, whoever else hears of it
        replica.asked_to_drain = ask
        self._line.listen(lambda word, rest: words.get(word, _nothing)(), lost=stop)

    def serving(self) -> None:
        """It accepts requests."""
        self._line.say(ipc.READY)


def _nothing() -> None:
    """What a word of a newer supervisor does."""


def _sockets(place: WorkerSockets) -> Sockets:
    return Sockets(socket.socket(fileno=place.inference_fd), socket.socket(fileno=place.control_fd))


def of_its_own(settings: Settings, place: WorkerSockets) -> Settings:
    """Settings in which no two workers have one name, nor has a worker its predecessor's."""
    if not settings.replica:
        return settings
    name = f"{settings.replica}-{place.slot}-{os.getpid()}-{secrets.token_hex(3)}"
    return msgspec.structs.replace(settings, replica=name)
