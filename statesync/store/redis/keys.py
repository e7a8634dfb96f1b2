"""Every key of the shared state: what it is called, holds and costs, who writes and who reads it. No command is here.

All begin with the namespace as hash tag, so that they live in one slot of a cluster and one script may touch them
all. `ns` is `SyncConfig.namespace`, `lease` is `SyncConfig.lease_s`. No key is ever looked for by SCAN or KEYS.

key                 type    TTL        holds; who writes it: who reads it
------------------  ------  ---------  -----------------------------------------------------------------------------
{ns}:leases         zset    4 leases   replica -> end of its lease in ms by Redis' own clock; register, renew: joining
{ns}:tokens         hash    4 leases   replica -> token of the incarnation that holds it; register, renew: every script
{ns}:inflight:<id>  hash    4 leases   pod -> its numbers, `@` -> token and sequence; replica <id> alone, its
                                       share is deleted by who reaps it: joining, or having missed a message
{ns}:reports        hash    10 min     pod -> ms by Redis' clock, then the engine's report; elected scrapers: joining
{ns}:log            stream  1 day      an entry a flush: its placements in order; all, trimmed by checkpoints and
                                       bounded by `LOG_ENTRIES`: joining
{ns}:checkpoint     hash    1 day      name of the latest pages, log id they begin at, when; holder of the lock: joining
{ns}:pages:<name>   list    1 day      a checkpoint's pages (1 min until it is whole); holder of the lock: joining
{ns}:lock           string  1 min      token of who writes a checkpoint; the same: nobody
{ns}:pools          set     none       pools that have a policy; put_policy: joining
{ns}:policy:<pool>  list    none       the pool's last records as JSON, newest first; put_policy: joining, policy()
{ns}:trial:<g>:<p>  hash    1 hour     teller -> its figures of what pool <p> tries in generation <g>, kept when it
                                       dies; share_trial: every replica that runs the trial
{ns}:epoch          string  none       random, another value means that Redis was emptied; first to register: joining
{ns}:news:<db>      channel            every message of `messages.py`; all: all. Channels know no databases: it does

'Joining' is every replica when it starts, gets a new link, or lost its lease.
"""

from __future__ import annotations

from typing import Final

from statesync.errors import StateError

SHARE_LEASES: Final = 4
"""The TTL of a replica's own keys, in leases: only where no other replica lives to reap them does it matter."""

REPORT_TTL_S: Final = 600.0
LOG_TTL_S: Final = 86400.0
"""Of the log and the checkpoint: what engines held a day ago they hold no more."""

TRIAL_TTL_S: Final = 3600.0
"""After the last replica has told its figures. One that died left its own, which happened."""

LOCK_TTL_S: Final = 60.0
"""A checkpoint that takes longer is given up: another replica may write one."""

LOG_ENTRIES: Final = 250_000
"""Bound of the log. Eight replicas at 500 flushes a second write half of it between two checkpoints."""

STANDING: Final = "@"
"""The field of an inflight hash that is no pod: its writer's token and the sequence number of its last message."""


class RedisKeys:
    """The names under one namespace. Raises StateError for a namespace that would break the hash tag."""

    def __init__(self, namespace: str) -> None:
        if not namespace or set(namespace) & set("{}"):
            raise StateError(f"a namespace is not empty and has no braces: {namespace!r}")
        self.prefix = prefix = f"{{{namespace}}}:"
        self.leases = f"{prefix}leases"
        self.tokens = f"{prefix}tokens"
        self.reports = f"{prefix}reports"
        self.log = f"{prefix}log"
        self.checkpoint = f"{prefix}checkpoint"
        self.lock = f"{prefix}lock"
        self.pools = f"{prefix}pools"
        self.epoch = f"{prefix}epoch"
        self.news = f"{prefix}news:0"

    def in_database(self, db: int) -> None:
        """The keys are in this database of the server."""
        self.news = f"{self.prefix}news:{db}"

    def inflight(self, replica: str) -> str:
        """A replica's own numbers."""
        return f"{self.prefix}inflight:{replica}"

    def pages(self, name: str) -> str:
        """The pages of the checkpoint of that name."""
        return f"{self.prefix}pages:{name}"

    def policy(self, pool: str) -> str:
        """A pool's records."""
        return f"{self.prefix}policy:{pool}"

    def trial(self, pool: str, generation: int) -> str:
        """The figures of what a pool tries in that generation."""
        return f"{self.prefix}trial:{generation}:{pool}"

    def __repr__(self) -> str:
        return f"<Keys {self.prefix}*>"
