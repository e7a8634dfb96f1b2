"""The store behind redis://: its public side, and the link to the server, which is opened again whenever it is lost.

No request awaits anything here: `announce` and `placed` only note changes, and a background task sends them. The
replica's part in the shared state is `session.py`; `locate.py` finds the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random, SystemRandom
from typing import Final, TypeVar

from schedulers.types import PodId
from statesync.discovery.changes import PodChange
from statesync.errors import StateError, StoreUnavailable
from statesync.settings import Sync
from statesync.shares import ShareAnswer, ShareAsk
from statesync.store.protocol import PolicyRecord, ReplicaInfo, StateListener, StoreHealth
from statesync.store.redis.connection import ReplyError, RespConnection
from statesync.store.redis.keys import TRIAL_TTL_S, RedisKeys
from statesync.store.redis.ledger import PendingUpdates
from statesync.store.redis.limits import grant_shares
from statesync.store.redis.locate import ServerLocator, locator
from statesync.store.redis.owners import SharedOwners
from statesync.store.redis.presence import OwnPods
from statesync.store.redis.scripts import SHARE_TRIAL
from statesync.store.redis.session import NameTaken, Session
from statesync.store.redis.streams import SharedStreams
from statesync.tasks import spawn
from statesync.types import EngineReport, InflightNumbers

BACKOFF_S: Final = (0.05, 0.8)
"""Seconds before the first attempt to connect again, and at most: a server that is back is found within a second. Each
pause is random, from half of it to all of it."""

_DEFAULTS: Final = Sync()
_T = TypeVar("_T")
_log = logging.getLogger("turnout.state")


class BackOff:
    """The pauses between two links. They begin anew after a link that lasted: one that is lost at once, again and
    again, is no better than none."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._pause_s = least_s / 2

    def after(self, lasted_s: float) -> float:
        """Seconds until the next attempt, after a link of this duration; 0.0 if there was none."""
        lasted = lasted_s > self._most_s
        self._pause_s = self._least_s if lasted else min(self._most_s, self._pause_s * 2)
        return self._pause_s


class RedisStore:
    """A `StateStore` on Redis or Valkey, alone, behind Sentinel or in a cluster."""

    def __init__(self, where: ServerLocator, config: Sync = _DEFAULTS, rng: Random | None = None) -> None:
        self._where = where
        self._config = config
        self._rng = rng or SystemRandom()
        self._keys = RedisKeys(config.namespace)
        self._owners = SharedOwners(self._keys)
        self._session: Session | None = None
        """None before `start`."""
        self._pending = pending = PendingUpdates()
        self._own_pods = OwnPods()
        self.change_pods: Callable[[str, PodChange], None] = self._own_pods.change_pods
        """Note which pods this replica has."""
        self.probed: Callable[[PodId, bool], None] = self._own_pods.probed
        """Note what this replica's probes say of a pod now."""
        self.listed: Callable[[PodId, bytes], None] = self._own_pods.listed
        """Note which models a pod lists now."""
        # Called several times a request: through a method of this class each would take 0.1 us longer.
        self.announce: Callable[[PodId, InflightNumbers], None] = pending.announce
        """Note this replica's absolute numbers for a pod. Without effect after `aclose`."""
        self.placed: Callable[[PodId, Sequence[int]], None] = pending.placed
        """Note that a prompt with these block hashes went to a pod. The sequence must not change afterwards."""
        self.forgot: Callable[[PodId], None] = pending.forgot
        """Note that a pod's engine restarted and holds nothing."""
        self.models_changed: Callable[[PodId], None] = pending.models_changed
        """Note that a pod lists other models now."""
        self.served: Callable[[str, int], None] = pending.served
        """Note how much this replica has served under a name."""
        self._background: asyncio.Task[None] | None = None
        self._started: asyncio.Future[StateError | None] | None = None
        """Done when warm (None) or refused (why)."""
        self._awaited = False
        """Whether `start` is still waiting."""
        self._error = "not started"

    @classmethod
    def open(cls, url: str, config: Sync) -> RedisStore:
        """The store a URL names; nothing is connected yet. Raises BadStoreUrl."""
        return cls(locator(url, config.namespace, config.timeout_s), config)

    @property
    def shared(self) -> bool:
        """Always."""
        return True

    async def start(self, replica: str, listener: StateListener, /) -> None:
        """Take a lease as `replica` and read the others' state. See `StateStore.start`."""
        if self._session is not None:
            raise StateError("a store is started once")
        self._session = Session(replica, listener, self._pending, self._own_pods, self._keys, self._config, self._rng)
        self._started = asyncio.get_running_loop().create_future()
        self._awaited = True
        self._background = spawn(self._stay_linked(self._session), f"state of {replica}")
        try:
            refused = await asyncio.shield(self._started)
        finally:
            self._awaited = False
        if refused is not None:
            await self.aclose()
            raise refused

    async def aclose(self) -> None:
        """Send pending changes and give the lease back, within `timeout_s`. Idempotent."""
        session, background = self._session, self._background
        self._background = None
        if session is None or background is None:
            return
        with contextlib.suppress(StateError, TimeoutError):
            async with asyncio.timeout(self._config.timeout_s):
                await session.leave()
        background.cancel()
        await asyncio.wait([background])
        session.stop()
        self._error = "closed"

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """Note an engine's own report."""
        self._pending.report(pod, report, asyncio.get_running_loop().time())

    def elected(self, pod: PodId, /) -> bool:
        """Whether this replica is elected for `pod` among the live ones. True if it knows no other."""
        return self._session is None or self._session.live_replicas.elected(pod)

    def own(self, key: bytes, pod: PodId, /) -> None:
        """Note that the state behind an id is on `pod`: sent at once, lost without a link."""
        if self._session is not None and self._session.link is not None:
            self._owners.note(self._session.link, key, pod)

    async def owner(self, key: bytes, /) -> PodId | None:
        """The pod that any replica noted for the id. Raises StoreUnavailable."""
        return await self._owners.look(self._linked()[1], key)

    async def policy(self, pool: str, /) -> PolicyRecord | None:
        """The pool's record, or None if none was ever set. Raises StoreUnavailable."""
        records = await self.policy_history(pool)
        return records[0] if records else None

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        """The pool's last records, newest first. Raises StoreUnavailable."""
        session, link = self._linked()
        return await _asked(session.policies.read(link, pool))

    async def put_policy(self, pool: str, wanted: PolicyRecord, /, *, if_generation: int | None) -> PolicyRecord:
        """Compare-and-set; see `StateStore.put_policy`. Raises StaleGeneration, StoreUnavailable."""
        session, link = self._linked()
        return await _asked(session.policies.put(link, pool, wanted, if_generation))

    async def share_trial(self, pool: str, generation: int, process: str, figures: bytes, /) -> Mapping[str, bytes]:
        """Store this process's figures; returns those of all processes. Raises StoreUnavailable."""
        _, link = self._linked()
        key = self._keys.trial(pool, generation)
        stored = await _asked(SHARE_TRIAL.run(link, (key,), process, figures, int(TRIAL_TTL_S * 1000)))
        pairs = zip(stored[::2], stored[1::2], strict=True)
        return {each.decode("utf-8", "replace"): packed for each, packed in pairs}

    async def share_limits(self, asks: Sequence[ShareAsk], /) -> ShareAnswer:
        """Exchange shares of limits. Raises StoreUnavailable."""
        session, link = self._linked()
        return await _asked(grant_shares(link, self._keys, session.token, asks))

    def streams(self) -> SharedStreams:
        """The logs of streams that outlive their replica."""
        return SharedStreams(self._keys, self._config.lease_s, lambda: self._linked()[1])

    def replicas(self) -> Sequence[ReplicaInfo]:
        """The live replicas, this one first."""
        if self._session is None or self._background is None:
            return []
        return self._session.live_replicas.live(asyncio.get_running_loop().time())

    def age_s(self) -> float:
        """The mean time of a change to the others; while the link does not work, the time since it last did."""
        if self._session is None:
            return 0.0
        return self._session.view_age.age_s(asyncio.get_running_loop().time())

    def health(self) -> StoreHealth:
        """The state of the link, and its counters."""
        session = self._session
        if session is None:
            return StoreHealth(connected=False, warm=False, error=self._error)
        trips, sent, received = session.traffic()
        connected = session.link is not None
        return StoreHealth(
            connected=connected,
            warm=session.warm,
            round_trips=trips,
            bytes_sent=sent,
            bytes_received=received,
            reconnects=max(0, session.links - 1),
            lease_losses=session.lease_losses,
            placements_dropped=self._pending.placements_dropped,
            policies_put_back=session.policies.put_back,
            policies_given_up=session.policies.given_up,
            unreadable=session.receiver.reader.unreadable,
            strangers=session.pods.fleets.strangers,
            error="" if connected else self._error,
        )

    def __repr__(self) -> str:
        return f"<RedisStore {self._session!r}{f', {self._error}' if self._error else ''}>"

    async def _stay_linked(self, session: Session) -> None:
        """Open one link after another, for as long as the store is open."""
        loop = asyncio.get_running_loop()
        back_off = BackOff(*BACKOFF_S)
        while True:
            links, began = session.links, loop.time()
            try:
                await session.live(await self._where.locate(), self._warm)
            except NameTaken as error:
                self._refuse(error)
            except StateError as error:
                self._lost(error)
            lasted_s, linked = loop.time() - began, session.links > links
            pause_s = back_off.after(lasted_s if linked else 0.0) * self._rng.uniform(0.5, 1.0)
            # An attempt that waited for a silent server was a pause in itself.
            await asyncio.sleep(pause_s if linked else max(0.0, pause_s - lasted_s))

    def _warm(self) -> None:
        self._error = ""
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _lost(self, error: StateError) -> None:
        """Log a new reason, not every attempt."""
        if str(error) != self._error:
            _log.warning("no link to the shared state, serving from what is known: %s", error)
        self._error = str(error)

    def _refuse(self, error: NameTaken) -> None:
        self._lost(error)
        if self._awaited and self._started is not None and not self._started.done():
            self._started.set_result(error)

    def _linked(self) -> tuple[Session, RespConnection]:
        session = self._session
        if session is None or session.link is None:
            raise StoreUnavailable(self._error or "the link to the shared state is being made")
        return session, session.link


async def _asked(answer: Awaitable[_T]) -> _T:
    """The server's answer; a refusal (LOADING, READONLY, MOVED, ...) is raised as StoreUnavailable."""
    try:
        return await answer
    except ReplyError as error:
        raise StoreUnavailable(f"the shared state does not take it: {error}") from error
