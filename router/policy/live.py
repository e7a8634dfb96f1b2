"""The live policies of all pools, and which of them look at a request's session. No request waits for a change here."""

from __future__ import annotations

from collections.abc import Iterable

from router.policy.model import LivePolicy
from schedulers.named import reads_sessions


class LivePolicies(dict[str, LivePolicy]):
    """By pool. `session_pools` follows every assignment, so that a request asks one set and no policy."""

    def __init__(self, first: Iterable[tuple[str, LivePolicy]]) -> None:
        super().__init__()
        self.session_pools: set[str] = set()
        """Pools whose requests have their session read: the policy, or what is tried beside it, may look at it."""
        self._always: frozenset[str] = frozenset()
        for pool, live in first:
            self[pool] = live

    def __setitem__(self, pool: str, live: LivePolicy) -> None:
        super().__setitem__(pool, live)
        if pool in self._always or live.trial is not None or reads_sessions(live.scheduler):
            self.session_pools.add(pool)
        else:
            self.session_pools.discard(pool)

    def read_sessions_of(self, pools: Iterable[str]) -> None:
        """Read the sessions of these pools' requests whatever their policies are."""
        self._always = frozenset(pools)
        self.session_pools |= self._always
