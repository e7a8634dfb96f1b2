"""What keeps a replica's streams for clients that come back, where a pool asks for it; else nothing of it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING

from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.responses import Headers
from router.settings import Settings
from statesync.store.protocol import StateStore
from statesync.store.redis.store import RedisStore
from statesync.streams import OWNER_BYTES

if TYPE_CHECKING:
    from router.dataplane.resume.follower import StreamFollower


def open_streams(
    settings: Settings,
    store: StateStore,
    deadlines: Deadlines,
    headers: Callable[[Exchange], Headers],
    count: Callable[[str, str], None],
) -> StreamFollower | None:
    """None where no pool asks for it, and where the state is not in Redis. See `StreamFollower` for `headers`
    and `count`."""
    pools = {pool.name: pool.failover for pool in settings.pools if pool.failover.resume}
    if not pools or not isinstance(store, RedisStore):
        return None
    from router.dataplane.resume.follower import StreamFollower
    from router.dataplane.resume.keeper import StreamKeeper

    keeper = StreamKeeper(store.streams(), token_hex(OWNER_BYTES // 2), settings.sync.lease_s, pools, deadlines)
    return StreamFollower(keeper, headers, count)
