"""Replicas whose policies are under test: real stores and controllers on a simulated network, a real redis-server that
loses and restores what it holds, operators, and the promises that must hold whatever happens.

A change is known by its note, which no other change has.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, Final, NamedTuple

import redis as redis_py

from router.policy.controller import PolicyController
from router.policy.model import ChangeOptions
from router.policy.transitions import ChangeRefused
from router.settings import PolicySpec
from schedulers.protocols import Scheduler
from schedulers.registry import create
from statesync.errors import StaleGeneration, StoreUnavailable
from statesync.settings import Sync
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import PolicyRecord
from statesync.store.redis.connection import ServerAddress
from statesync.store.redis.locate import FixedServer
from statesync.store.redis.store import RedisStore
from statesync.tasks import spawn
from statesync.types import PrefixPage
from tests.fakes.recording_listener import RecordingListener
from tests.fakes.simulated_network import HOP_S, ServerEnd, SimulatedPath, running

POOL: Final = "chat"
KEY: Final = "{turnout}:policy:chat"
POLICIES: Final = ("p2c", "random", "round_robin", "least_load")
CONVERGED_S: Final = 1.0
"""Seconds after the last fault is mended in which all replicas must agree."""
CONFIG: Final = Sync(lease_s=5.0, timeout_s=1.0, checkpoint_s=30.0)


class Move(NamedTuple):
    """A replica went from one record to another."""

    at: float
    before: PolicyRecord
    after: PolicyRecord
    descends: bool
    """Whether the server's list had the record before when it moved."""


class LogLines(logging.Handler):
    """Warnings by the loop's time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((running().time(), record.getMessage()))


class Listener(RecordingListener):
    """Passes policies on to the controller, as a replica's does."""

    policies_of: PolicyController

    def policy_changed(self, pool: str, record: PolicyRecord, /) -> None:
        self.policies_of.policy_changed(pool, record)

    def checkpoint(self) -> Iterable[PrefixPage]:
        return ()


class SimulatedReplica:
    """A store and a controller."""

    def __init__(self, world: PolicyWorld, name: str, path: SimulatedPath) -> None:
        self.name, self.path, self._world = name, path, world
        running().paths[name] = path
        where = FixedServer(ServerAddress("", path=name))
        self.store = RedisStore(where, CONFIG, Random(name))
        self.disturbed_at = 0.0
        """When a fault of its path or of the server was last there."""
        self.killed = False
        self.moves: list[Move] = []
        self._at: PolicyRecord | None = None
        configured = {POOL: PolicySpec(name="p2c")}
        self.policies = PolicyController(self.store, configured, create, self._swapped)
        self._at = self.policies.record(POOL)
        listener = Listener()
        listener.policies_of = self.policies
        self._starting = spawn(self.store.start(name, listener), f"start of {name}")

    def _swapped(self, pool: str, record: PolicyRecord, *_: Scheduler | None) -> None:
        assert self._at is not None
        notes = self._world.notes()
        descends = self._at.generation == 0 or self._at.note in notes
        self.moves.append(Move(running().time(), self._at, record, descends))
        self._at = record

    @property
    def record(self) -> PolicyRecord:
        """What it serves by."""
        return self.policies.record(POOL)

    async def end(self) -> None:
        """It is killed."""
        self.policies.stop()
        self._starting.cancel()
        background = self.store._background
        if background is not None:
            background.cancel()
            await asyncio.wait([background])
        if self.store._session is not None:
            self.store._session.stop()


class PolicyWorld:
    """Everything, on the running `SimulatedLoop`."""

    def __init__(self, port: int, replicas: int = 3) -> None:
        self.admin: Any = redis_py.Redis(port=port)
        self.admin.flushall()
        self.end = ServerEnd(port)
        self.log = LogLines()
        logging.getLogger("turnout").addHandler(self.log)
        self.started = 0
        self.changes = 0
        self.acknowledged: dict[str, PolicyRecord] = {}
        self.lost: set[str] = set()
        """Notes of records that the server itself lost."""
        self.answers: list[str] = []
        self.wrong: list[str] = []
        """Answers against the contract."""
        running().set_exception_handler(lambda _, context: self.wrong.append(f"{context}"))
        self.snapshots: list[Mapping[bytes, bytes]] = [{}]
        self.replicas = [self._start() for _ in range(replicas)]
        self._operators: set[asyncio.Task[None]] = set()

    def _start(self, path: SimulatedPath | None = None) -> SimulatedReplica:
        self.started += 1
        return SimulatedReplica(self, f"replica-{self.started}", path or SimulatedPath(running(), self.end))

    async def close(self) -> None:
        """End everything."""
        logging.getLogger("turnout").removeHandler(self.log)
        for operator in tuple(self._operators):
            operator.cancel()
        for each in self.replicas:
            await each.end()
        await asyncio.sleep(10 * HOP_S)
        for link in tuple(self.end.links):
            link.abort()
        await asyncio.sleep(0)
        self.admin.close()

    # What happens

    def change(self, at: int, kind: str, policy: str, known: bool) -> None:
        """An operator changes the policy or its shadow; `known`: with the generation that this replica shows."""
        self.changes += 1
        replica, note = self.replicas[at], f"change-{self.changes}."
        operator = asyncio.get_running_loop().create_task(self._operate(replica, kind, policy, known, note))
        self._operators.add(operator)
        operator.add_done_callback(self._operators.discard)

    async def _operate(self, replica: SimulatedReplica, kind: str, policy: str, known: bool, note: str) -> None:
        began, policies = running().time(), replica.policies
        before = replica.store.health()
        how = ChangeOptions(replica.record.generation if known else None, note)
        try:
            if kind == "shadow":
                record = await policies.set_shadow(POOL, PolicyChoice(policy), how)
            elif kind == "canary":
                record = await policies.set_canary(POOL, Canary(PolicyChoice(policy), 20.0), how)
            elif kind == "rollback":
                record = await policies.rollback(POOL, how)
            else:
                record = await policies.set(POOL, policy, {}, how)
        except (StaleGeneration, ChangeRefused) as error:
            self.answers.append(type(error).__name__)
        except StoreUnavailable as error:
            self.answers.append("StoreUnavailable")
            # A lease ends by the server's clock, which is the machine's: on a busy one it may, in mid-history.
            held = before.connected and replica.store.health().lease_losses == before.lease_losses
            whole = self.end.up and not replica.killed and not replica.path.cut and replica.disturbed_at < began
            if held and whole:
                self.wrong.append(f"{replica.name}, {note}: the server answered all the time, yet: {error}")
        except Exception as error:
            self.wrong.append(f"{replica.name}, {note}: {error!r}")
            raise
        else:
            self.answers.append("changed")
            self.acknowledged[note] = record

    def restart_replica(self, at: int) -> None:
        """kill -9, and a new process in its place."""
        old = self.replicas[at]
        old.killed = True
        spawn(old.end(), f"end of {old.name}")
        self.replicas[at] = self._start(old.path)

    def cut(self, at: int) -> None:
        """A silent partition of one replica."""
        self.replicas[at].path.part()

    def heal(self, at: int) -> None:
        """Its end."""
        self.replicas[at].disturbed_at = running().time()
        self.replicas[at].path.heal()

    def delay(self, at: int, seconds: float) -> None:
        """Make one replica's path slow."""
        self.replicas[at].disturbed_at = running().time()
        self.replicas[at].path.delay_s = seconds

    def snapshot(self) -> None:
        """The server saves what it holds."""
        self.snapshots.append({key: self.admin.dump(key) for key in self.admin.keys("*")})

    def stop_server(self) -> None:
        """The server is gone."""
        self.end.go_down()

    def start_server(self, back_to: int | None) -> None:
        """It is back: as it was, or with a snapshot (0: empty)."""
        before = self.notes()
        if back_to is not None:
            self.admin.flushall()
            for key, value in self.snapshots[back_to % len(self.snapshots)].items():
                self.admin.restore(key, 0, value)
        self.lost |= before - self.notes()
        for each in self.replicas:
            each.disturbed_at = running().time()
        self.end.up = True

    # What must hold

    def notes(self) -> set[str]:
        """The changes in the server's list."""
        return {self._decoded(data)["note"] for data in self.admin.lrange(KEY, 0, -1)}

    def _decoded(self, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(data)
        return {"note": "", **found}

    async def settle(self) -> None:
        """Mend everything, give the replicas `CONVERGED_S`, and check the promises."""
        if not self.end.up:
            self.start_server(None)
        for at in range(len(self.replicas)):
            self.delay(at, HOP_S)
            self.heal(at)
        await asyncio.sleep(CONVERGED_S)
        self._check()

    def _check(self) -> None:
        stored = [self._decoded(data) for data in self.admin.lrange(KEY, 0, -1)]
        wanted = (stored[0]["generation"], stored[0]["name"], stored[0]["note"]) if stored else (0, "p2c", "")
        served = {each.name: (each.record.generation, each.record.name, each.record.note) for each in self.replicas}
        assert all(each == wanted for each in served.values()), f"the server has {wanted}, replicas serve {served}"
        notes = {each["note"] for each in stored}
        undone = [note for note in self.acknowledged if note not in notes and note not in self.lost]
        assert not undone, f"{undone} were acknowledged, the server never lost them, and they are not in {notes}"
        for replica in self.replicas:
            for move in replica.moves:
                given_up = not move.descends and move.before.generation > 0
                assert not given_up or self._logged(move), f"{replica.name} gave up a record in silence: {move}"
            replica.moves.clear()
        assert not self.wrong, self.wrong
        said = sum("putting back generation" in text for _, text in self.log.lines)
        assert said >= self.end.restores, f"{self.end.restores} restores, {said} lines about them"

    def _logged(self, move: Move) -> bool:
        return any(
            abs(at - move.at) < 0.25 and f"generation {move.before.generation}" in text for at, text in self.log.lines
        )
