"""Which worker serves which slot, and what to do when a worker is ready, leaves or dies. Pure: knows no process, socket
or clock. Times are parameters, and every method returns the actions for the supervisor.

A slot is one listening socket of the shared port. It has one worker; while it is rolled also that worker's successor,
which takes over once it is ready; and any number of former workers that finish their last streams.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from router.workers.actions import Action, Exit, Kill, Log, Park, Send, Start
from router.workers.ipc import HAND_OVER, HURRY, STOP


class WorkerTiming(NamedTuple):
    """Seconds."""

    warmup_s: float
    """How long a worker may take to warm up, unless it reports another time."""
    margin_s: float = 30.0
    """Added to it; a worker that is not ready then is killed."""
    backoff_s: float = 0.1
    """Before a worker that died is replaced; doubles with each death in a row."""
    backoff_max_s: float = 10.0
    healthy_s: float = 30.0
    """A worker that was ready for this long starts a new count of deaths in a row."""


class _State(Enum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Worker:
    number: int
    slot: int
    since: float
    """When its state last changed."""
    deadline: float
    """By when it must be ready."""
    state: _State = _State.STARTING
    late: bool = False
    """Its deadline passed and it is being killed."""
    reason: str = ""
    """Why it failed, as it reported."""


@dataclass(slots=True)
class _Slot:
    number: int
    worker: _Worker | None = None
    successor: _Worker | None = None
    deaths: int = 0
    """In a row."""
    restart_at: float | None = None


class WorkerRoster:
    """The slots of one supervisor, from the first start to the last exit."""

    def __init__(self, slots: int, timing: WorkerTiming, rng: Callable[[], float]) -> None:
        """`rng` returns numbers from 0 to 1, for restart times that differ among workers that died together."""
        self._slots = [_Slot(number) for number in range(slots)]
        self._timing = timing
        self._rng = rng
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._false_starts = 0
        """Workers that ended before any was ever ready."""
        self._ever_ready = False
        self._stops = 0
        self._status = 0
        self._roll_from: int | None = None
        """While rolling: workers with this number or a higher one are new."""
        self._roll_again = False
        self._actions: list[Action] = []

    @property
    def due(self) -> float | None:
        """When `wake` has to be called; None if only after another event."""
        starting = [each.deadline for each in self._workers.values() if each.state is _State.STARTING and not each.late]
        restarts = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        return min(starting + restarts, default=None)

    # Events

    def begin(self, now: float) -> list[Action]:
        """Start a worker on every slot."""
        for slot in self._slots:
            slot.worker = self._start(slot, now)
        return self._taken()

    def warming(self, number: int, limit_s: float, now: float) -> list[Action]:
        """A worker reports how long its warm-up may take: its settings may be newer than the supervisor's."""
        if (worker := self._workers.get(number)) is not None:
            worker.deadline = now + limit_s + self._timing.margin_s
        return self._taken()

    def ready(self, number: int, now: float) -> list[Action]:
        """A worker accepts requests: its predecessor can leave."""
        worker = self._workers.get(number)
        if worker is None or worker.state is not _State.STARTING or self._stops:
            return self._taken()
        worker.state, worker.since = _State.READY, now
        self._ever_ready = True
        slot = self._slots[worker.slot]
        if slot.successor is worker:
            if slot.worker is not None:
                self._hand_over(slot.worker, worker, now)
            slot.worker, slot.successor, slot.deaths = worker, None, 0
        self._log(logging.INFO, f"worker {number} serves slot {slot.number}")
        self._roll_on(now)
        return self._taken()

    def leaves(self, number: int, now: float) -> list[Action]:
        """A worker was asked to drain, and not by this supervisor: it serves on until it has a successor."""
        slot = self._slot_of(number)
        if slot is None or slot.successor is not None or self._stops:
            return self._taken()
        self._log(logging.INFO, f"worker {number} was asked to drain: starting its successor")
        slot.successor = self._start(slot, now)
        return self._taken()

    def failed(self, number: int, reason: str) -> list[Action]:
        """A worker reports why it is about to end."""
        if (worker := self._workers.get(number)) is not None:
            worker.reason = reason
        return self._taken()

    def ended(self, number: int, status: int, now: float) -> list[Action]:
        """A worker's process is gone; `status` is negative for the signal that ended it."""
        worker = self._workers.pop(number)
        slot = self._slots[worker.slot]
        if worker.state is _State.LEAVING or self._stops:
            level = logging.WARNING if status else logging.INFO
            self._log(level, f"worker {number} {_how(status)}")
        elif slot.successor is worker:
            slot.successor = None
            self._log(logging.ERROR, f"worker {number} did not start ({_why(worker, status)}): its predecessor stays")
            self._stop_rolling(now)
        else:
            self._replace(slot, worker, status, now)
        self._exit_when_alone()
        return self._taken()

    def roll(self, now: float) -> list[Action]:
        """Replace every worker, one after the other. During a roll one more roll is queued."""
        if self._stops:
            return self._taken()
        if self._roll_from is not None:
            self._roll_again = True
            self._log(logging.INFO, "a roll is under way: another follows it")
        else:
            self._begin_rolling(now)
        return self._taken()

    def stop(self) -> list[Action]:
        """Drain all workers; the second call makes them end at once; the third kills them."""
        self._stops += 1
        for slot in self._slots:
            slot.restart_at = None
        for number in self._workers:
            self._actions.append(Kill(number) if self._stops > 2 else Send(number, STOP if self._stops == 1 else HURRY))
        self._exit_when_alone()
        return self._taken()

    def wake(self, now: float) -> list[Action]:
        """Time has passed: start the workers that are due, kill those that are late."""
        for slot in self._slots:
            if slot.restart_at is not None and slot.restart_at <= now:
                slot.restart_at = None
                slot.worker = self._start(slot, now)
        for worker in self._workers.values():
            if worker.state is _State.STARTING and worker.deadline <= now and not worker.late:
                worker.late = True
                worker.reason = worker.reason or "it was not ready in time"
                self._actions.append(Kill(worker.number))
        return self._taken()

    # Decisions

    def _start(self, slot: _Slot, now: float) -> _Worker:
        worker = _Worker(self._started, slot.number, now, now + self._timing.warmup_s + self._timing.margin_s)
        self._started += 1
        self._workers[worker.number] = worker
        self._actions.append(Start(worker.number, slot.number))
        return worker

    def _hand_over(self, old: _Worker, new: _Worker, now: float) -> None:
        old.state, old.since = _State.LEAVING, now
        self._actions.append(Send(old.number, HAND_OVER))
        self._log(logging.INFO, f"worker {old.number} hands slot {old.slot} over to worker {new.number}")

    def _replace(self, slot: _Slot, worker: _Worker, status: int, now: float) -> None:
        """The slot's own worker died."""
        was_ready = worker.state is _State.READY
        if was_ready and now - worker.since >= self._timing.healthy_s:
            slot.deaths = 0
        slot.deaths += 1
        slot.worker, slot.successor = slot.successor, None
        if not self._ever_ready:
            self._false_starts += 1
        what = "died" if was_ready else "did not start"
        self._log(logging.ERROR, f"worker {worker.number} of slot {slot.number} {what} ({_why(worker, status)})")
        if self._false_starts >= len(self._slots):
            self._give_up(status)
            return
        if slot.deaths > 1 and slot.worker is None:
            # After the first death the successor serves the connections that wait; now they might wait for long.
            self._actions.append(Park(slot.number))
        if slot.worker is None:
            slot.restart_at = now + self._backoff_s(slot.deaths)
        if not was_ready:
            self._stop_rolling(now)

    def _backoff_s(self, deaths: int) -> float:
        """Between the shortest time and one that doubles with each death."""
        shortest, longest = self._timing.backoff_s, self._timing.backoff_max_s
        return shortest + self._rng() * (min(shortest * 2.0 ** min(deaths, 30), longest) - shortest)

    def _give_up(self, status: int) -> None:
        self._log(logging.ERROR, "no worker can start: giving up")
        self._status = status if status > 0 else 128 - status if status else 1
        self._stops = 1
        for slot in self._slots:
            slot.restart_at = None
        self._actions += [Send(number, STOP) for number in self._workers]

    def _begin_rolling(self, now: float) -> None:
        self._roll_from = self._started
        self._log(logging.INFO, f"rolling {len(self._slots)} workers")
        self._roll_on(now)

    def _roll_on(self, now: float) -> None:
        """Start a new worker for the next slot that has an old one, unless a start is under way."""
        if self._roll_from is None:
            return
        for slot in self._old_slots(self._roll_from):
            if slot.worker is None:
                # The restart that it waits for would bring in what the roll brings.
                slot.restart_at = None
                slot.worker = self._start(slot, now)
            elif slot.worker.state is _State.READY and slot.successor is None:
                slot.successor = self._start(slot, now)
            return
        self._roll_from = None
        self._log(logging.INFO, "all workers are new")
        self._roll_again_if_asked(now)

    def _old_slots(self, first_new: int) -> Iterator[_Slot]:
        """Slots that no new worker serves yet."""
        for slot in self._slots:
            worker = slot.worker
            if worker is None or worker.number < first_new or worker.state is not _State.READY:
                yield slot

    def _stop_rolling(self, now: float) -> None:
        if self._roll_from is not None:
            self._roll_from = None
            self._log(logging.ERROR, "the roll stops here; the other workers stay as they are")
            self._roll_again_if_asked(now)

    def _roll_again_if_asked(self, now: float) -> None:
        if self._roll_again:
            self._roll_again = False
            self._begin_rolling(now)

    def _slot_of(self, number: int) -> _Slot | None:
        """The slot that this worker serves, or None if it serves none."""
        for slot in self._slots:
            if slot.worker is not None and slot.worker.number == number and slot.worker.state is _State.READY:
                return slot
        return None

    def _exit_when_alone(self) -> None:
        if self._stops and not self._workers:
            self._actions.append(Exit(self._status))

    def _log(self, level: int, message: str) -> None:
        self._actions.append(Log(level, message))

    def _taken(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions


def _why(worker: _Worker, status: int) -> str:
    return f"{worker.reason}; it {_how(status)}" if worker.reason else f"it {_how(status)}"


def _how(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
