"""This replica's part in the shared state, over one link after another: it registers, sends and reads everything, and
keeps its lease.

A link is two connections to the same server. One is subscribed to the channel and carries the flushes: a flush's echo
and its reply arrive together, so it costs one read of a socket instead of two. The other carries everything else, such
as replies of megabytes, for which a server disconnects subscribers. If the lease is found gone (this process stood
still, or the server was emptied), a new incarnation begins over the same link. If the link is lost, `live` ends and its
caller opens another one. Data read before stays: only what is new is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Final

from statesync.errors import StateError, StoreUnavailable
from statesync.settings import Sync
from statesync.store.protocol import PolicyRecord, StateListener
from statesync.store.redis.catch_up import CatchUp
from statesync.store.redis.checkpoints import Checkpoints
from statesync.store.redis.connection import ReplyError, RespConnection, ServerAddress
from statesync.store.redis.keys import REPORT_TTL_S, SHARE_LEASES, RedisKeys
from statesync.store.redis.lease import LapseTimer, LiveReplicas
from statesync.store.redis.ledger import PendingUpdates
from statesync.store.redis.messages import SCHEMA, GoneMessage, HeartbeatMessage, pack
from statesync.store.redis.pod_sharing import PodSharing
from statesync.store.redis.presence import OwnPods
from statesync.store.redis.receiver import UpdateReceiver
from statesync.store.redis.repair import KeyRepair, Rereads, is_damage
from statesync.store.redis.scripts import PRUNE_REPORTS, REGISTER, RELEASE, RENEW
from statesync.store.redis.shared_policies import SharedPolicies
from statesync.store.redis.syncer import Syncer
from statesync.store.redis.view_age import ViewAge
from statesync.tasks import spawn

RENEWALS: Final = 5
"""Renewals of the lease in the time of one lease."""

SWEEP_S: Final = 60.0
"""Seconds after which an idle pod is removed from the numbers that a joining replica reads."""

_log = logging.getLogger("turnout.state")


class NameTaken(StateError):
    """Another live replica has this one's name."""


class _LeaseLost(StateError):
    """The lease was gone although it should have been held."""


class Session:
    """A replica's part in the shared state. Everything but `live` and what it calls is synchronous."""

    def __init__(
        self,
        replica: str,
        listener: StateListener,
        pending: PendingUpdates,
        own_pods: OwnPods,
        keys: RedisKeys,
        config: Sync,
        rng: Random,
    ) -> None:
        self.replica = replica
        self._listener = listener
        self._keys = keys
        self._config = config
        self._rng = rng
        self._loop = loop = asyncio.get_running_loop()
        self.live_replicas = LiveReplicas(replica, config.lease_s)
        self.view_age = ViewAge(loop.time())
        self.receiver = receiver = UpdateReceiver(replica, listener, self.live_replicas, self.view_age, loop.time)
        receiver.missed, receiver.joined = self._missed, self._joined
        receiver.other_pods, receiver.suggested = self._pods_differ, self._suggested
        self.pods = PodSharing(replica, own_pods, keys, config, self.live_replicas, self.receiver.reader)
        self.policies = SharedPolicies(replica, lambda: self.token, keys, receiver.reader, receiver.policy)
        self.syncer = Syncer(replica, pending, keys, config, self.view_age, self.live_replicas)
        self._checkpoints = Checkpoints(keys, self.receiver)
        self._repair = KeyRepair(replica, keys)
        self._rereads = Rereads(self._repair, self._do)
        parts = (self.live_replicas, self.pods, self._checkpoints, self.policies)
        self._warmup = CatchUp(replica, keys, receiver, *parts)
        self.token = self._new_token()
        self.link: RespConnection | None = None
        """The connection for commands, once registered; None otherwise."""
        self.warm = False
        self.links = 0
        """Counter: links opened."""
        self.lease_losses = 0
        self._epoch = b""
        self._trouble: asyncio.Future[StateError] = loop.create_future()
        self._work: set[asyncio.Task[None]] = set()
        self._lapses = LapseTimer(self.live_replicas, config.lease_s, self.receiver.drop)
        self._swept_at = loop.time()
        self._spent: tuple[int, int, int] = (0, 0, 0)
        """`traffic` of the closed connections."""
        self._open: list[RespConnection] = []
        self._channel: RespConnection | None = None
        """The connection of the flushes, in an incarnation."""

    async def live(self, address: ServerAddress, on_warm: Callable[[], None]) -> None:
        """Be a replica over this link until it is lost: never returns, raises StateError."""
        self._trouble = self._loop.create_future()
        self._keys.in_database(address.db)
        self.receiver.hold()
        try:
            channel = await self._connect(address, self.receiver.push)
            await channel.call("SUBSCRIBE", self._keys.channel)
            link = await self._connect(address, None)
            self.links += 1
            while True:
                with contextlib.suppress(_LeaseLost):
                    await self._incarnation(link, channel, on_warm)
                self._lose_lease()
        finally:
            self._unlink()

    async def leave(self) -> None:
        """Send the remaining changes and give the lease back. Raises StateError."""
        link = self.link
        if link is None:
            return
        await self.syncer.finish()
        self.syncer.close()
        gone = pack(GoneMessage(v=SCHEMA, replica=self.replica, token=self.token))
        await RELEASE.run(link, self._own_keys(), self.replica, self.token, self._keys.channel, gone)

    def stop(self) -> None:
        """End all links and timers."""
        self._unlink()
        self._lapses.stop()

    def traffic(self) -> tuple[int, int, int]:
        """Round trips, bytes sent, bytes received, over all links so far."""
        each = [self._spent, *((link.round_trips, link.bytes_sent, link.bytes_received) for link in self._open)]
        trips, sent, received = map(sum, zip(*each, strict=True))
        return trips, sent, received

    # One link.

    async def _connect(self, address: ServerAddress, on_push: Callable[[list[object]], None] | None) -> RespConnection:
        connection = await RespConnection.open(
            address,
            timeout_s=self._config.timeout_s,
            name=f"turnout:{self.replica}",
            on_push=on_push,
            on_lost=self._fail,
        )
        self._open.append(connection)
        return connection

    def _unlink(self) -> None:
        self._end_incarnation()
        self.view_age.unlinked()
        self._spent = self.traffic()
        connections, self._open = self._open, []
        for connection in connections:
            connection.close()

    def _fail(self, error: StateError) -> None:
        if not self._trouble.done():
            self._trouble.set_result(error)

    def _refused(self, error: StateError | None) -> None:
        """The server refused a flush."""
        if isinstance(error, ReplyError) and is_damage(error):
            self._do(self._mend(error))
        else:
            self._fail(error or _LeaseLost("the lease was gone at a flush"))

    async def _mend(self, error: ReplyError) -> None:
        """A key has other content than a replica writes: repair it and send everything again, over the same link."""
        if self.link is None or self._channel is None or not await self._repair.mend(self.link):
            raise error
        self.syncer.open(self._channel, self.token, self._refused)

    # One incarnation.

    async def _incarnation(self, link: RespConnection, channel: RespConnection, on_warm: Callable[[], None]) -> None:
        """Run from registering to the first failure, which it raises."""
        self._trouble = self._loop.create_future()
        for connection in self._open:
            if connection.lost:  # before there was this future
                raise StoreUnavailable(connection.lost)
        emptied = await self._register(link)
        self.view_age.linked()
        self.link, self._channel = link, channel
        self.syncer.open(channel, self.token, self._refused)
        try:
            self._do(self._keep_lease(channel))
            self._do(self._serve(link, emptied, on_warm))
            raise await self._trouble
        finally:
            self._end_incarnation()

    def _end_incarnation(self) -> None:
        self.link = self._channel = None
        self.syncer.close()
        work, self._work = self._work, set()
        for task in work:
            task.cancel()
        self._rereads.clear()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background until this incarnation ends; an error of it ends the incarnation."""

        async def guarded() -> None:
            try:
                await work
            except StateError as error:
                self._fail(error)

        task = spawn(guarded(), f"state of {self.replica}")
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """A bug in here or in the listener costs the link, and is logged; it does not end the process's tasks."""
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(StateError(f"the link was given up after {error!r}"))

    async def _register(self, link: RespConnection) -> bool:
        """Take the lease, once an earlier incarnation's lease has lapsed. True if the server was emptied since.

        Raises NameTaken if that lease is renewed meanwhile.
        """
        self.receiver.own_tokens.add(self.token)
        lease_ms, keys = int(self._config.lease_s * 1000), self._keys
        expected_ms = float("inf")
        while True:
            reply = await REGISTER.run(
                link,
                (keys.leases, keys.tokens, keys.inflight(self.replica), keys.epoch),
                *(self.replica, self.token, lease_ms, lease_ms * SHARE_LEASES, self._new_token()),
            )
            if reply[0] == 1:
                break
            left_ms = reply[1]
            if left_ms > expected_ms:
                raise NameTaken(f"a replica named {self.replica!r} is live")
            pause_ms = min(left_ms, lease_ms / RENEWALS)
            expected_ms = left_ms - pause_ms + lease_ms / (4 * RENEWALS)
            await asyncio.sleep(pause_ms / 1000)
        emptied = bool(self._epoch) and reply[1] != self._epoch
        self._epoch = reply[1]
        return emptied

    async def _keep_lease(self, channel: RespConnection) -> None:
        """Renew the lease, over the connection of the flushes: a beat has their number and must not overtake one."""
        lease_ms, keys = int(self._config.lease_s * 1000), self._keys
        await self.pods.send(channel, full=True)
        while True:
            await asyncio.sleep(self._config.lease_s / RENEWALS)
            pods = await self.pods.send(channel, full=False)
            self.pods.look(self._loop.time())
            self.view_age.sent(self._loop.time())
            seq = self.syncer.seq
            beat = pack(HeartbeatMessage(v=SCHEMA, replica=self.replica, token=self.token, seq=seq, pods=pods))
            taken = await RENEW.run(
                channel,
                self._own_keys(),
                *(self.replica, self.token, keys.channel, lease_ms, lease_ms * SHARE_LEASES, keys.inflight("")),
                *(SCHEMA, beat, keys.pods("")),
            )
            if not taken:
                raise _LeaseLost("the lease was gone when it was to be renewed")
            if self.view_age.silent_s(self._loop.time()) > self._config.timeout_s:
                raise StoreUnavailable("what is published does not come back")

    def _lose_lease(self) -> None:
        self.lease_losses += 1
        self.token = self._new_token()
        self.receiver.hold()
        _log.warning("the lease of replica %s was gone: registering anew", self.replica)

    # Reading, and then periodic work.

    async def _serve(self, link: RespConnection, emptied: bool, on_warm: Callable[[], None]) -> None:
        began = self._loop.time()
        await self._repair.around(link, partial(self._warmup.read_all, link, self.warm))
        self._joined()
        self.warm = True
        _log.info(
            "in step with %d other replicas at %s after %.3f s",
            *(len(self.live_replicas.others()), link.address, self._loop.time() - began),
        )
        on_warm()
        if emptied:
            _log.warning("%s came back empty: republished what this replica knows", link.address)
            await self._write_checkpoint(link, always=True)
        while True:
            await asyncio.sleep(self._config.checkpoint_s * self._rng.uniform(0.9, 1.1))
            await self._repair.around(link, partial(self._tidy, link))

    async def _tidy(self, link: RespConnection) -> None:
        await self.policies.read_all(link)
        await self._write_checkpoint(link, always=False)
        if self.live_replicas.leads("reports"):
            await PRUNE_REPORTS.run(link, (self._keys.reports,), int(REPORT_TTL_S * 1000))
        if self._loop.time() - self._swept_at >= SWEEP_S:
            self._swept_at = self._loop.time()
            self.syncer.pending.sweep(self._swept_at)

    async def _write_checkpoint(self, link: RespConnection, always: bool) -> None:
        """Write a checkpoint if the log grew since the last one, or `always`."""
        _, begins = await self._checkpoints.position(link)
        if always or self.receiver.log.folded > (begins or (0, 0)):
            every_s = self._config.checkpoint_s * 0.8
            await self._checkpoints.write(link, self._listener.checkpoint, self._new_token(), every_s)

    def _missed(self, replica: str) -> None:
        """A message of the replica was missed: read its numbers again."""
        self._rereads.soon(self.link, "numbers", replica, lambda link: self._warmup.read_numbers(link, replica))

    def _suggested(self, pool: str, record: PolicyRecord | None) -> None:
        """A message has a record of the pool: read what is stored."""
        if record is not None:
            self.policies.suggested(pool, record)
        self._rereads.soon(self.link, "policy", pool, lambda link: self.policies.read(link, pool))

    def _pods_differ(self, replica: str) -> None:
        """The replica has other pods than this one: read which."""
        self._rereads.soon(self.link, "pods", replica, lambda link: self.pods.read(link, [replica]))

    # Others' leases.

    def _joined(self) -> None:
        """Another replica appeared: watch its lease, and flush at once."""
        self._lapses.watch()
        self.syncer.hurry()

    def _own_keys(self) -> tuple[str, str, str, str]:
        keys, replica = self._keys, self.replica
        return keys.leases, keys.tokens, keys.inflight(replica), keys.pods(replica)

    def _new_token(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def __repr__(self) -> str:
        return f"<Session of {self.replica}: {self.live_replicas!r}, {self.syncer!r}>"
