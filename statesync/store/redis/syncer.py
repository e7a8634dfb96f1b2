"""When this replica's changes are sent: at once after a quiet moment, then together, one request under way at a time.
A dispatch waits less for company than a first or a last token: a pod that is believed idler than it is draws everybody,
one that is believed busier for some milliseconds misses a request.

So a slow server is asked less often, never more, and what is sent does not grow with the traffic but with the pods.
Here is the only command that is sent hundreds of times a second; it is made without a task and without a retry.
What is in it is `ledger.py`'s, who hears it is `receiver.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from statesync.errors import StateError, StoreUnavailable
from statesync.store.protocol import SyncConfig
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
"""At most 500 flushes a second, whatever is configured."""

RELIEF_INTERVALS: Final = 4
"""So many intervals after the last flush, changes go even if no dispatch is among them. Two thirds of all changes are
none; most then travel with one: 219 round trips instead of 297 at 200 requests a second, 308 instead of 443 at 400."""

ALONE_S: Final = 0.05
"""Between two flushes while no other replica lives. Then they are for whoever starts, and who does says so at once."""

MESSAGE: Final = 2
ENTRY: Final = 3
"""Their places among the arguments. Published one behind the other, they are how the message's echo ends."""

LostLease = Callable[[StateError | None], None]
"""Hears that the lease is gone (None), or that the server refuses to write."""


class Syncer:
    """Sends what the outbox holds, over the link that is open now. Its times are the loop's."""

    def __init__(
        self,
        replica: str,
        pending: PendingUpdates,
        keys: RedisKeys,
        config: SyncConfig,
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
        """Of the last message of this incarnation."""
        self._under_way: UpdateBatch | None = None
        self._answer: asyncio.Future[None] | None = None
        """Done when it is taken or not, where somebody waits for that."""
        self._timer: asyncio.Handle | None = None
        self._noted_at = self._loop.time()
        self._sent_at = float("-inf")
        self._flush_command = PreparedCommand()

    def open(self, link: RespConnection, token: str, on_trouble: LostLease) -> None:
        """Send over this link from now on, beginning with all there is. `on_trouble` is called at most once."""
        if token != self._token:
            self._token, self.seq = token, 0
        self._link, self._on_trouble = link, on_trouble
        self._flush_command = PreparedCommand("EVALSHA", FLUSH.sha, *self._constant_part())
        self._under_way = None
        self._send(self.pending.take(self._loop.time(), full=True))

    def close(self) -> None:
        """Send nothing until the next `open`; what is noted is kept."""
        self._link = self._on_trouble = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def finish(self) -> None:
        """Send what is left, and wait for it to be taken. Nothing happens without a link, or over one that is lost."""
        while self._link is not None and not self._link.lost and (self._under_way is not None or self.pending.waiting):
            if self._under_way is None:
                self._flush()
            if self._under_way is not None:
                self._answer = self._answer or self._loop.create_future()
                await asyncio.wait([self._answer])

    def wake(self) -> None:
        """There is something to send; called by the outbox, see there."""
        now = self._loop.time()
        self._noted_at = now
        self._plan(now)

    def hurry(self) -> None:
        """Others have come, or may have: what waits for nobody goes now."""
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
            self._timer.cancel()  # planned for what was none
        due = self._sent_at + self._pause_s(urgent)
        self._timer = self._loop.call_at(due, self._flush) if due > now else self._loop.call_soon(self._flush)

    def _urgent(self) -> bool:
        """Whether somebody ought to hear of a dispatch."""
        return self.pending.urgent and not self._live_replicas.alone

    def _pause_s(self, urgent: bool) -> float:
        """From one flush to the next."""
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
                # How old the view is, is how late dispatches are seen: one noted in company would have waited so long.
                noted_at = self._loop.time() - max(0.0, self._sent_at + self._interval_s - noted_at)
            self._send(self.pending.take(noted_at, full=False))

    def _send(self, batch: UpdateBatch | None) -> None:
        if batch is None or self._link is None:
            return
        now = self._loop.time()
        self._sent_at = now
        self.seq += 1
        arguments = self._arguments(batch, now)
        self._view_age.sent(batch.noted_at, arguments[MESSAGE] + arguments[ENTRY])
        self._dispatch(self._flush_command.pack(arguments), arguments, batch)

    def _dispatch(self, packed: bytes, arguments: list[bytes], batch: UpdateBatch) -> None:
        assert self._link is not None
        self._under_way = batch
        if not self._link.write(packed, partial(self._answered, arguments, batch)):
            # Not from within: who waits for the last flush would begin anew at once, and nothing else would run.
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
        elif not isinstance(reply, StoreUnavailable):  # a lost link tells its owner itself
            self._trouble(reply if isinstance(reply, ReplyError) else None)

    def _trouble(self, error: StateError | None) -> None:
        told = self._on_trouble
        self.close()
        if told is not None:
            told(error)

    def _constant_part(self) -> tuple[Part, ...]:
        """Number of keys, keys and the arguments that are the same every time."""
        keys = self._keys
        return (
            *(4, keys.tokens, keys.inflight(self._replica), keys.log, keys.reports),
            *(self._replica, self._token, keys.news),
            *(int(self._lease_s * SHARE_LEASES * 1000), LOG_ENTRIES, int(LOG_TTL_S * 1000), int(REPORT_TTL_S * 1000)),
        )

    def _arguments(self, batch: UpdateBatch, now: float) -> list[bytes]:
        """The rest of them, as `flush.lua` says."""
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
