"""Which replicas are live, and which of them is elected for a pod; a timer of leases that lapse. All but the timer is
pure: all times are this process's monotonic clock.

Clocks are not compared across machines: the server gives the rest of a lease, and from then on a replica is live as
long as its messages arrive. So a dead replica lapses here even while the server is unreachable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from xxhash import xxh3_64_intdigest

from statesync.store.protocol import ReplicaInfo
from statesync.store.redis.presence import Pools, digest_of

_log = logging.getLogger("turnout.state")


def weight(replica: str, thing: str) -> int:
    """The replica with the greatest weight is elected for a pod or a chore (rendezvous hashing)."""
    return xxh3_64_intdigest(f"{replica}{thing}".encode("utf-8", "surrogatepass"))


class _Member:
    __slots__ = ("_pods", "alike", "digest", "ends_at", "pools", "read_digest", "seen_at", "token")

    def __init__(self, token: str, seen_at: float, ends_at: float) -> None:
        self.token = token
        self.seen_at = seen_at
        self.ends_at = ends_at
        self.digest: int | None = None
        """Of its pods, by its last beat; None of a replica that does not say which it has."""
        self.alike = True
        """Whether it counts as having every pod of this replica, while `pools` is None: its pods were the same when
        they were compared last, or it does not say which it has."""
        self.pools: Pools | None = None
        """Its pods, if they are others and known."""
        self.read_digest = 0
        """Of these."""
        self._pods: frozenset[str] = frozenset()
        """All of these."""

    def take(self, pools: Pools, digest: int) -> None:
        """Its pods are known."""
        self.pools, self.read_digest = pools, digest
        self._pods = frozenset([pod for pods in pools.values() for pod in pods])

    def has(self, pod: str) -> bool:
        """Whether it has this pod of this replica, as far as is known."""
        return self.alike if self.pools is None else pod in self._pods


class LiveReplicas:
    """The other live replicas, by their messages."""

    def __init__(self, me: str, lease_s: float) -> None:
        self._me = me
        self._lease_s = lease_s
        self._members: dict[str, _Member] = {}
        self.digest: int | None = None
        """Of this replica's own pods; None before it has any pool."""

    @property
    def alone(self) -> bool:
        """Whether no other replica is known to be live."""
        return not self._members

    def seen(self, replica: str, token: str, now: float) -> bool:
        """A message of the replica arrived: renew its lease here. True if it was not known to be live."""
        member = self._members.get(replica)
        if member is None:
            self._members[replica] = _Member(token, now, now + self._lease_s)
            return True
        member.token = token
        member.seen_at = now
        member.ends_at = now + self._lease_s
        return False

    def listed(self, replica: str, token: str, left_s: float, now: float) -> None:
        """The server lists the replica with `left_s` of its lease: it was last seen when the lease was whole."""
        left_s = min(left_s, self._lease_s)
        member = self._members.get(replica)
        if member is None or member.ends_at < now + left_s:
            self._members[replica] = _Member(token, now + left_s - self._lease_s, now + left_s)

    def gone(self, replica: str, token: str) -> bool:
        """Remove an incarnation. False if it was not live, or another one has taken its place."""
        member = self._members.get(replica)
        if member is None or member.token != token:
            return False
        del self._members[replica]
        return True

    def lapsed(self, now: float) -> list[str]:
        """Remove and return the replicas not seen for a whole lease."""
        late = [replica for replica, member in self._members.items() if member.ends_at <= now]
        for replica in late:
            del self._members[replica]
        return late

    def next_lapse(self) -> float | None:
        """When the next replica lapses, if no message arrives until then."""
        return min((member.ends_at for member in self._members.values()), default=None)

    def others(self) -> list[str]:
        """Their ids."""
        return list(self._members)

    def live(self, now: float) -> Sequence[ReplicaInfo]:
        """This replica, then the others."""
        return [
            ReplicaInfo(self._me, 0.0),
            *(ReplicaInfo(replica, max(0.0, now - member.seen_at)) for replica, member in self._members.items()),
        ]

    def elected(self, pod: str) -> bool:
        """Whether this replica, which has the pod, is elected for it: it has the greatest weight of those that have it.

        When a replica comes or goes, only its own pods move (rendezvous hashing).
        """
        mine = weight(self._me, pod)
        return all(weight(other, pod) <= mine for other, member in self._members.items() if member.has(pod))

    def leads(self, chore: str) -> bool:
        """Whether this replica is elected for a chore, which any of them may do."""
        mine = weight(self._me, chore)
        return all(weight(other, chore) <= mine for other in self._members)

    # Which pods the others have.

    def beat(self, replica: str, digest: int | None) -> bool:
        """A beat of a live replica named the digest of its pods. True if they have to be read: they were others than
        this replica's at the beat before as well, as replicas do not see a change of pods at the same moment."""
        member = self._members.get(replica)
        if member is None:
            return False
        before, member.digest = member.digest, digest
        if digest is None or digest == self.digest:
            member.alike, member.pools = True, None
            return False
        if member.pools is None or member.read_digest != digest:
            member.alike &= before is not None
            for other in self._members.values():
                if other.pools is not None and other.read_digest == digest:
                    member.take(other.pools, digest)
        return digest == before and (member.pools is None or member.read_digest != digest)

    def took(self, replica: str, pools: Pools) -> None:
        """The pods of a replica were read."""
        member = self._members.get(replica)
        if member is None:
            return
        digest = digest_of(pools)
        if digest == self.digest:
            member.alike, member.pools = True, None
        else:
            member.take(pools, digest)

    def differing(self) -> Mapping[str, Pools]:
        """The pods of the replicas whose pods are known and not the same as this one's."""
        return {name: each.pools for name, each in self._members.items() if each.pools is not None}

    def __repr__(self) -> str:
        return f"<LiveReplicas of {self._me}: {', '.join(self._members) or 'alone'}>"


class PauseDetector:
    """Detects that this process stood still itself: then the others were not silent, their messages are unread."""

    def __init__(self, lease_s: float) -> None:
        self._late_s = lease_s / 2
        self._grace_s = lease_s / 5

    def grace(self, due: float, now: float) -> float:
        """A timer due at `due` runs at `now`: seconds to wait for unread messages before acting on it; mostly 0.0."""
        return self._grace_s if now - due > self._late_s else 0.0


class LapseTimer:
    """Calls `on_lapse` with each replica that was silent for its lease."""

    def __init__(self, live_replicas: LiveReplicas, lease_s: float, on_lapse: Callable[[str], None]) -> None:
        self._live_replicas = live_replicas
        self._lease_s = lease_s
        self._on_lapse = on_lapse
        self._loop = asyncio.get_running_loop()
        self._pause = PauseDetector(lease_s)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Wait for the next lapse, if there is a replica."""
        due = self._live_replicas.next_lapse()
        if due is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._let_lapse, due)

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_lapse(self, due: float) -> None:
        self._timer = None
        now = self._loop.time()
        if grace_s := self._pause.grace(due, now):
            self._timer = self._loop.call_at(now + grace_s, self._let_lapse, now + grace_s)
            return
        for replica in self._live_replicas.lapsed(now):
            _log.warning("replica %s was silent for its lease of %g s: gone", replica, self._lease_s)
            self._on_lapse(replica)
        self.watch()

    def __repr__(self) -> str:
        return f"<LapseTimer of {self._live_replicas!r}>"
