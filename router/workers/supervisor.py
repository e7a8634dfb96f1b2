"""The parent of the workers: passes signals, messages and exits to the roster, and carries out the actions it returns.

Every worker is a new process that runs the command this one was started with, so that a roll brings in what is
installed and configured by then. The supervisor itself does not change: other addresses or another number of workers
need a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from router.address import parse_listen
from router.settings import Settings
from router.telemetry import logs
from router.workers import ipc
from router.workers.actions import Action, Exit, Kill, Log, Park, Send, Start
from router.workers.ipc import WorkerChannel, WorkerSockets
from router.workers.roster import WorkerRoster, WorkerTiming
from router.workers.slots import Slot, open_slots
from statesync.tasks import spawn

_log = logging.getLogger("turnout.workers")

CANNOT_RUN = 127
"""The status, as shells have it, of a worker whose program could not be started."""


def supervise(settings: Settings, workers: int, command: Sequence[str]) -> int:
    """Serve with this number of processes, each started by `command`; returns the exit status. Raises OSError where a
    port is taken.
    """
    logs.configure(settings.logging)
    slots = open_slots(parse_listen(settings.listen), parse_listen(settings.control.listen), workers)
    _log.info("%d workers on %s, control ports %s", workers, slots[0].listen, ", ".join(str(s.control) for s in slots))
    timing = WorkerTiming(settings.warmup_timeout_s)
    try:
        return asyncio.run(Supervisor(command, slots, WorkerRoster(workers, timing, random.random)).run())
    finally:
        for slot in slots:
            slot.close()


class _Child:
    """A worker's process and its channel, which exists first."""

    def __init__(self, line: WorkerChannel) -> None:
        self.line = line
        self.process: asyncio.subprocess.Process | None = None
        self.doomed = False


class Supervisor:
    """Carries out what a roster decides."""

    def __init__(
        self,
        command: Sequence[str],
        slots: Sequence[Slot],
        roster: WorkerRoster,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The caller closes the slots."""
        self._command = command
        self._slots = slots
        self._roster = roster
        self._clock = clock
        self._children: dict[int, _Child] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._exit_status: asyncio.Future[int] | None = None
        self._handlers = cast(
            "dict[type[Action], Callable[[Action], None]]",
            {
                Start: self._begin,
                Send: lambda it: self._children[it.worker].line.send(it.command),
                Kill: lambda it: self._end(self._children[it.worker]),
                Park: lambda it: self._slots[it.slot].park(),
                Log: lambda it: _log.log(it.level, it.message),
                Exit: self._exit,
            },
        )

    async def run(self) -> int:
        """Run until a SIGTERM or SIGINT has ended every worker; returns the exit status. SIGHUP rolls the workers."""
        loop = asyncio.get_running_loop()
        self._exit_status = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._act(self._roster.stop()))
        loop.add_signal_handler(signal.SIGHUP, lambda: self._act(self._roster.roll(self._clock())))
        self._act(self._roster.begin(self._clock()))
        status = await self._exit_status
        if self._timer is not None:
            self._timer.cancel()
        return status

    # Actions

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._handlers[type(action)](action)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due := self._roster.due) is not None:
            delay_s = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._act(self._roster.wake(self._clock()))

    def _begin(self, start: Start) -> None:
        ours, theirs = socket.socketpair()
        child = self._children[start.worker] = _Child(WorkerChannel(ours))
        child.line.listen(partial(self._on_message, start.worker), lambda: None)
        spawn(self._live(start.worker, child, self._slots[start.slot], theirs), f"worker-{start.worker}")

    async def _live(self, worker: int, child: _Child, slot: Slot, theirs: socket.socket) -> None:
        """A worker's process, from its start to its end."""
        try:
            with theirs:
                child.process = await self._spawned(slot, theirs)
            if child.doomed:
                self._end(child)
            status = await child.process.wait()
        except OSError as error:
            status = CANNOT_RUN
            self._act(self._roster.failed(worker, f"{self._command[0]}: {error.strerror or error}"))
        child.line.close()  # reads its last messages
        self._act(self._roster.ended(worker, status, self._clock()))
        del self._children[worker]

    async def _spawned(self, slot: Slot, theirs: socket.socket) -> asyncio.subprocess.Process:
        lent = (slot.inference_socket.fileno(), slot.control_socket.fileno(), theirs.fileno())
        place = WorkerSockets(slot.number, str(slot.listen), str(slot.control), *lent)
        return await asyncio.create_subprocess_exec(
            *self._command,
            env=os.environ | place.as_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=lent,
            # Ctrl-C in a terminal is for the supervisor, which then stops its workers.
            start_new_session=True,
        )

    def _end(self, child: _Child) -> None:
        child.doomed = True
        if child.process is not None:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()

    def _exit(self, exit_: Exit) -> None:
        assert self._exit_status is not None
        if not self._exit_status.done():
            self._exit_status.set_result(exit_.status)

    # Messages of a worker

    def _on_message(self, worker: int, message: str, argument: str) -> None:
        now = self._clock()
        if message == ipc.WARMING:
            self._act(self._roster.warming(worker, float(argument), now))
        elif message == ipc.READY:
            self._act(self._roster.ready(worker, now))
        elif message == ipc.LEAVE:
            self._act(self._roster.leaves(worker, now))
        elif message == ipc.FAILED:
            self._act(self._roster.failed(worker, argument))
