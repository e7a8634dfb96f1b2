"""Which replicas are live, and which of them a pod falls to. Pure: every time is this process's own monotonic clock.

No clock is compared across machines: the server says how much of a lease is left, and from then on a replica lives
as long as it is heard. So a replica that is gone lapses here even while the server is away.
"""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from statesync.store.protocol import ReplicaInfo


def weight(replica: str, thing: str) -> int:
    """Of several replicas a pod (or a chore) falls to the one with the greatest: rendezvous hashing."""
    return xxh3_64_intdigest(f"{replica}{thing}".encode("utf-8", "surrogatepass"))


class _Member:
    __slots__ = ("ends_at", "heard_at", "token")

    def __init__(self, token: str, heard_at: float, ends_at: float) -> None:
        self.token = token
        self.heard_at = heard_at
        self.ends_at = ends_at


class LiveReplicas:
    """The other live replicas, as far as they were heard."""

    def __init__(self, me: str, lease_s: float) -> None:
        self._me = me
        self._lease_s = lease_s
        self._members: dict[str, _Member] = {}

    @property
    def alone(self) -> bool:
        """Whether no other replica is known to be live."""
        return not self._members

    def heard(self, replica: str, token: str, now: float) -> bool:
        """It spoke, so its lease runs anew. True if it was not known to be live."""
        member = self._members.get(replica)
        if member is None:
            self._members[replica] = _Member(token, now, now + self._lease_s)
            return True
        member.token = token
        member.heard_at = now
        member.ends_at = now + self._lease_s
        return False

    def listed(self, replica: str, token: str, left_s: float, now: float) -> None:
        """The server lists it, with so much of its lease left: it was last heard when the lease was whole."""
        left_s = min(left_s, self._lease_s)
        member = self._members.get(replica)
        if member is None or member.ends_at < now + left_s:
            self._members[replica] = _Member(token, now + left_s - self._lease_s, now + left_s)

    def gone(self, replica: str, token: str) -> bool:
        """That incarnation is gone. False if it was not live, or if another one has taken its place."""
        member = self._members.get(replica)
        if member is None or member.token != token:
            return False
        del self._members[replica]
        return True

    def lapsed(self, now: float) -> list[str]:
        """Take out those that were not heard for a whole lease."""
        late = [replica for replica, member in self._members.items() if member.ends_at <= now]
        for replica in late:
            del self._members[replica]
        return late

    def next_lapse(self) -> float | None:
        """When `lapsed` will next have something to say, if nobody is heard till then."""
        return min((member.ends_at for member in self._members.values()), default=None)

    def others(self) -> list[str]:
        """Their ids."""
        return list(self._members)

    def live(self, now: float) -> Sequence[ReplicaInfo]:
        """This replica, then the others."""
        return [
            ReplicaInfo(self._me, 0.0),
            *(ReplicaInfo(replica, max(0.0, now - member.heard_at)) for replica, member in self._members.items()),
        ]

    def elected(self, thing: str) -> bool:
        """Whether a pod (or a chore) falls to this replica: it has the highest hash with it.

        When a replica comes or goes, only what falls to it changes hands (rendezvous hashing).
        """
        mine = weight(self._me, thing)
        return all(weight(other, thing) <= mine for other in self._members)

    def __repr__(self) -> str:
        return f"<Roster of {self._me}: {', '.join(self._members) or 'alone'}>"


class PauseDetector:
    """Tells whether this process itself stood still: then it is not the others that were silent."""

    def __init__(self, lease_s: float) -> None:
        self._late_s = lease_s / 2
        self._grace_s = lease_s / 5

    def grace(self, due: float, now: float) -> float:
        """A timer due at `due` runs at `now`: how long to wait for what lies unread before believing it. 0.0: not."""
        return self._grace_s if now - due > self._late_s else 0.0
