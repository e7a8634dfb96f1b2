"""Decides when this replica's changes are sent: at once after a pause, then in batches, one flush under way at a time.
Dispatches are flushed sooner than first- and last-token updates: a pod that looks idler than it is attracts all
replicas, while one that looks busier for some milliseconds misses a request.

A slow server gets fewer flushes, never more, and their size grows with the pods, not with the traffic. The flush is the
only command sent hundreds of times a second; it is made without a task and without a retry. Its content comes from
`ledger.py`; `receiver.py` is the other end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from statesync.errors import StateError, StoreUnavailable
from statesync.settings import Sync
from statesync.store.redis.commands import Part, PreparedCommand
from statesync.store.redis.commands import pack as command
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import LOG_ENTRIES, LOG_TTL_S, REPORT_TTL_S, SHARE_LEASES, RedisKeys
from statesync.store.redis.lease import LiveReplicas
from statesync.store.redis.ledger import PendingUpdates, UpdateBatch
from statesync.store.redis.messages import (
    SCHEMA,
    ChangesMessage,
    LogEntry,
    PlacementMessage,
    pack,
    pack_blocks,
    report_of,
    standing,
)
from statesync.store.redis.scripts import FLUSH
from statesync.store.redis.view_age import ViewAge

MIN_INTERVAL_S: Final = 0.002
"""Least seconds between two flushes, whatever is configured: at most 500 a second."""

RELIEF_INTERVALS: Final = 4
"""Intervals between two flushes without a dispatch in the second. Two thirds of all changes are no dispatches; most
then go with one: 219 round trips instead of 297 at 200 requests a second, 308 instead of 443 at 400."""

ALONE_S: Final = 0.05
"""Least seconds between two flushes while no other replica is live. Then only replicas that start need them, and they
trigger a flush."""

MESSAGE: Final = 2
ENTRY: Final = 3
"""Indexes among the arguments. The published message ends with these two, so its echo does."""

LostLease = Callable[[StateError | None], None]
"""Called when the lease is gone (None), or with the server's refusal to write."""


class Syncer:
    """Sends the pending updates over the current link. Its times are the loop's."""

    def __init__(
        self,
        replica: str,
        pending: PendingUpdates,
        keys: RedisKeys,
        config: Sync,
        view_age: ViewAge,
        live_replicas: LiveReplicas,
    ) -> None:
        self.pending = pending
        pending.wake = self.wake
        self._replica = replica
        self._keys = keys
        self._interval_s = max(config.interval_s, MIN_INTERVAL_S)
        self._lease_s = config.lease_s
        self._view_age = view_age
        self._live_replicas = live_replicas
        self._loop = asyncio.get_running_loop()
        self._link: RespConnection | None = None
        self._on_trouble: LostLease | None = None
        self._token = ""
        self.seq = 0
        """Sequence number of this incarnation's last message."""
        self._under_way: UpdateBatch | None = None
        self._answer: asyncio.Future[None] | None = None
        """Done when the flush under way is answered; None while `finish` does not wait."""
        self._timer: asyncio.Handle | None = None
        self._noted_at = self._loop.time()
        self._sent_at = float("-inf")
        self._flush_command = PreparedCommand()

    def open(self, link: RespConnection, token: str, on_trouble: LostLease) -> None:
        """Send over this link from now on, starting with everything. `on_trouble` is called at most once."""
        if token != self._token:
            self._token, self.seq = token, 0
        self._link, self._on_trouble = link, on_trouble
        self._flush_command = PreparedCommand("EVALSHA", FLUSH.sha, *self._constant_part())
        self._under_way = None
        self._send(self.pending.take(self._loop.time(), full=True))

    def close(self) -> None:
        """Send nothing until the next `open`; pending updates are kept."""
        self._link = self._on_trouble = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def finish(self) -> None:
        """Send all pending updates and wait for the answer. Does nothing without a working link."""
        while self._link is not None and not self._link.lost and (self._under_way is not None or self.pending.waiting):
            if self._under_way is None:
                self._flush()
            if self._under_way is not None:
                self._answer = self._answer or self._loop.create_future()
                await asyncio.wait([self._answer])

    def wake(self) -> None:
        """There are updates to send; see `PendingUpdates.wake`."""
        now = self._loop.time()
        self._noted_at = now
        self._plan(now)

    def hurry(self) -> None:
        """Another replica has come, or may have: send now what had time while this replica was alone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.wake()

    def _plan(self, now: float) -> None:
        if self._link is None or self._under_way is not None:
            return
        urgent = self._urgent()
        if self._timer is not None:
            if not urgent:
                return
            self._timer.cancel()  # it was planned without a dispatch
        due = self._sent_at + self._pause_s(urgent)
        self._timer = self._loop.call_at(due, self._flush) if due > now else self._loop.call_soon(self._flush)

    def _urgent(self) -> bool:
        """Whether there is a dispatch to send, and another replica to receive it."""
        return self.pending.urgent and not self._live_replicas.alone

    def _pause_s(self, urgent: bool) -> float:
        """Seconds from one flush to the next."""
        if self._live_replicas.alone:
            return max(ALONE_S, self._interval_s)
        return self._interval_s if urgent else RELIEF_INTERVALS * self._interval_s

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._link is not None and self._under_way is None:
            noted_at = self._noted_at
            if not self._urgent():
                # The view's age is the delay of dispatches: take the time that a dispatch would have waited here.
                noted_at = self._loop.time() - max(0.0, self._sent_at + self._interval_s - noted_at)
            self._send(self.pending.take(noted_at, full=False))

    def _send(self, batch: UpdateBatch | None) -> None:
        if batch is None or self._link is None:
            return
        now = self._loop.time()
        # Placements that did not fit wait on without another `wake`. They say nothing of loads: every number is in this
        # batch, so those that follow cannot have been noted before now.
        self._sent_at = self._noted_at = now
        self.seq += 1
        arguments = self._arguments(batch, now)
        self._view_age.sent(batch.noted_at, arguments[MESSAGE] + arguments[ENTRY])
        self._dispatch(self._flush_command.pack(arguments), arguments, batch)

    def _dispatch(self, packed: bytes, arguments: list[bytes], batch: UpdateBatch) -> None:
        assert self._link is not None
        self._under_way = batch
        if not self._link.write(packed, partial(self._answered, arguments, batch)):
            # Not from here: `finish` would start the next flush at once, and nothing else would run.
            self._loop.call_soon(self._answered, arguments, batch, StoreUnavailable(self._link.lost))

    def _answered(self, arguments: list[bytes], batch: UpdateBatch, reply: object) -> None:
        current = batch is self._under_way
        if current:
            self._under_way = None
        if self._answer is not None:
            self._answer.set_result(None)
            self._answer = None
        if reply == 1:
            if self.pending.waiting:
                self._plan(self._loop.time())
            return
        if isinstance(reply, ReplyError) and reply.code == "NOSCRIPT" and current and self._link is not None:
            self._dispatch(command("EVAL", FLUSH.source, *self._constant_part(), *arguments), arguments, batch)
            return
        self.pending.give_back(batch)
        if not current:
            self._plan(self._loop.time())
        elif not isinstance(reply, StoreUnavailable):  # a lost link reports itself
            self._trouble(reply if isinstance(reply, ReplyError) else None)

    def _trouble(self, error: StateError | None) -> None:
        on_trouble = self._on_trouble
        self.close()
        if on_trouble is not None:
            on_trouble(error)

    def _constant_part(self) -> tuple[Part, ...]:
        """The number of keys, the keys, and the arguments that never change."""
        keys = self._keys
        return (
            *(4, keys.tokens, keys.inflight(self._replica), keys.log, keys.reports),
            *(self._replica, self._token, keys.channel),
            *(int(self._lease_s * SHARE_LEASES * 1000), LOG_ENTRIES, int(LOG_TTL_S * 1000), int(REPORT_TTL_S * 1000)),
        )

    def _arguments(self, batch: UpdateBatch, now: float) -> list[bytes]:
        """The other arguments, as documented in `flush.lua`."""
        replica, token, seq = self._replica, self._token, self.seq
        placements = [PlacementMessage(pod, pack_blocks(blocks) if blocks else b"") for pod, blocks in batch.placements]
        reports = {pod: report_of(report, now - at, replica) for pod, (report, at) in batch.reports.items()}
        message = ChangesMessage(
            v=SCHEMA,
            replica=replica,
            token=token,
            seq=seq,
            full=batch.full,
            numbers=batch.numbers,
            reports=reports,
            models=tuple(batch.models),
            served=batch.served,
        )
        arguments = [
            standing(token, seq).encode(),
            b"1" if batch.full else b"0",
            pack(message),
            pack(LogEntry(SCHEMA, replica, token, placements)) if placements else b"",
            b"%d" % (2 * len(batch.numbers)),
            b"%d" % len(batch.dropped),
        ]
        for pod, numbers in batch.numbers.items():
            arguments += (pod.encode(), pack(numbers))
        arguments += [pod.encode() for pod in batch.dropped]
        for reported, report in reports.items():
            arguments += (reported.encode(), pack(report))
        return arguments

    def __repr__(self) -> str:
        state = "no link" if self._link is None else "waiting for an answer" if self._under_way else "idle"
        return f"<Syncer of {self._replica}, message {self.seq}: {state}; {self.pending!r}>"
