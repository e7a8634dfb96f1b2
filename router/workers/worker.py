"""One worker: a replica on sockets that its supervisor lends it, which the supervisor's commands end."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable
from functools import partial

import msgspec
import uvloop

from router.replica.build import build
from router.replica.process import run
from router.replica.replica import Replica, Sockets
from router.settings import Settings
from router.telemetry import logs
from router.workers import ipc
from router.workers.ipc import WorkerChannel, WorkerSockets


def serve(settings: Settings, place: WorkerSockets, line: WorkerChannel) -> int:
    """Run a replica on these sockets until the supervisor ends it; returns the exit status. Raises what a wrong setting
    raises.
    """
    logs.configure(settings.logging)
    line.send(ipc.WARMING, str(settings.warmup_timeout_s))
    host = Supervised(line)
    components = build(of_its_own(settings, place))
    replica = Replica(components, sockets=_sockets(place), on_drain=host.ask_for_successor)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(replica, host))
    return 0


class Supervised:
    """Ends a worker's replica: by the supervisor's commands, and by signals once the supervisor has a successor."""

    def __init__(self, line: WorkerChannel) -> None:
        """`line` leads to the supervisor."""
        self._line = line
        self._signals = 0

    def attach(self, replica: Replica, /) -> None:
        """Install the signal handlers and listen to the supervisor. A supervisor that is gone stops the replica."""
        loop = asyncio.get_running_loop()
        commands: dict[str, Callable[[], None]] = {
            ipc.HAND_OVER: replica.hand_over,
            ipc.STOP: replica.stop,
            ipc.HURRY: partial(replica.stop, hurry=True),
        }
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, replica)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # the supervisor got it too, and rolls the workers
        # A command of a newer supervisor may be unknown here.
        self._line.listen(lambda command, _: commands.get(command, _ignore)(), on_lost=replica.stop)

    def serving(self) -> None:
        """Report to the supervisor that the replica accepts requests."""
        self._line.send(ipc.READY)

    def ask_for_successor(self) -> None:
        """Ask to be replaced before the replica drains: its slot's connections would wait unaccepted otherwise."""
        self._line.send(ipc.LEAVE)

    def _signalled(self, replica: Replica) -> None:
        self._signals += 1
        if self._signals == 1 and replica.parts.core.lifecycle.ready:
            self.ask_for_successor()
        else:
            replica.stop(hurry=self._signals > 1)


def _ignore() -> None:
    """Do nothing."""


def _sockets(place: WorkerSockets) -> Sockets:
    return Sockets(socket.socket(fileno=place.inference_fd), socket.socket(fileno=place.control_fd))


def of_its_own(settings: Settings, place: WorkerSockets) -> Settings:
    """The settings with a replica name that no other worker has, nor had."""
    if not settings.replica:
        return settings
    name = f"{settings.replica}-{place.slot}-{os.getpid()}-{secrets.token_hex(3)}"
    return msgspec.structs.replace(settings, replica=name)
