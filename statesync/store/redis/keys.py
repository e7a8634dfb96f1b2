"""Every key of the shared state: its name, type, content and TTL, its writers and readers. No command is here.

All begin with the namespace as hash tag, so that they are in one slot of a cluster and one script may touch them all.
`ns` is `Sync.namespace`, `lease` is `Sync.lease_s`. SCAN and KEYS are never used.

key                 type    TTL        content; writers: readers
------------------  ------  ---------  -----------------------------------------------------------------------------
{ns}:leases         zset    4 leases   replica -> end of its lease in ms by Redis' own clock; register, renew: joining
{ns}:tokens         hash    4 leases   replica -> token of the incarnation that holds it; register, renew: every script
{ns}:inflight:<id>  hash    4 leases   pod -> its numbers, `@` -> token and sequence; replica <id> alone, its
                                       hash is deleted when it lapses: joining, or having missed a message
{ns}:pods:<id>      hash    4 leases   pool -> its pods as replica <id> has them, what its probes say of each and
                                       which models each lists; deleted when <id> lapses: joining, or having
                                       other pods than <id>
{ns}:reports        hash    10 min     pod -> ms by Redis' clock, then the engine's report; elected scrapers: joining
{ns}:log            stream  1 day      an entry a flush: its placements in order; all, trimmed by checkpoints and
                                       bounded by `LOG_ENTRIES`: joining
{ns}:checkpoint     hash    1 day      name of the latest pages, log id they begin at, when; holder of the lock: joining
{ns}:pages:<name>   list    1 day      a checkpoint's pages (1 min until it is whole); holder of the lock: joining
{ns}:lock           string  1 min      token of the checkpoint's writer; the same: none
{ns}:pools          set     none       pools that have a policy; put_policy: joining
{ns}:policy:<pool>  list    none       the pool's last records as JSON, newest first; put_policy: joining, policy()
{ns}:trial:<g>:<p>  hash    1 hour     process -> its figures of pool <p>'s trial in generation <g>, kept when the
                                       process ends; share_trial: every replica that runs the trial
{ns}:owners[:old]   hash    7 days     digest of tenant and id -> the pod that has its state, in two generations of
                                       `OWNERS` entries; own: every replica that is asked for an id it does not know
{ns}:limit:<limit>  hash    2 min      token of a replica -> its share of the limit, `@` -> ms at which the level of
                                       a rate was zero, `!` -> ms at which it began; share_limits: the same
{ns}:stream:<name>  string  1 min      log of a stream: its owner, then lines; the replica that serves it: the one to
                                       which its client comes back
{ns}:keeper:<owner> string  1 lease    exists while that process keeps streams; the same: as above
{ns}:followed:<o>   set     5 s        logs of owner <o> that others read on; readers: <o>
{ns}:epoch          string  none       random, another value means that Redis was emptied; first to register: joining
{ns}:news:<db>      channel            every message of `messages.py`; all: all. <db>, as channels are per server

'Joining' is every replica when it starts, gets a new link, or lost its lease.
"""

from __future__ import annotations

from typing import Final

from statesync.errors import StateError

SHARE_LEASES: Final = 4
"""TTL of a replica's own keys, in leases. It matters only if no other replica is live to delete them."""

REPORT_TTL_S: Final = 600.0
"""TTL of an engine report, in seconds."""

LOG_TTL_S: Final = 86400.0
"""TTL of the log and the checkpoint, in seconds: engines no longer hold what they held a day ago."""

TRIAL_TTL_S: Final = 3600.0
"""TTL of a trial's figures, in seconds after the last update. A dead replica's figures stay: they count."""

OWNERS: Final = 250_000
"""Entries of a generation of owners: about 20 MB of the server's memory each."""

OWNER_TTL_S: Final = 7 * 86400.0
"""TTL of the owners, in seconds after the last one was noted."""

LIMIT_TTL_S: Final = 120.0
"""TTL of a limit, in seconds after the last exchange about it: by then all of a minute's units have flowed back."""

STREAM_TTL_S: Final = 60.0
"""TTL of the log of a stream, in seconds after its last lines: for so long its client may come back."""

LOCK_TTL_S: Final = 60.0
"""Seconds after which a checkpoint is given up and another replica may write one."""

LOG_ENTRIES: Final = 250_000
"""Most entries in the log. Eight replicas with 500 flushes a second write half of it between two checkpoints."""

STANDING: Final = "@"
"""Field of an inflight hash that is no pod: the writer's token and the sequence number of its last message."""


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
        self.owners = f"{prefix}owners"
        self.owners_old = f"{prefix}owners:old"
        self.channel = f"{prefix}news:0"

    def in_database(self, db: int) -> None:
        """Set the database of the server: the channel's name contains it."""
        self.channel = f"{self.prefix}news:{db}"

    def inflight(self, replica: str) -> str:
        """The hash of a replica's numbers."""
        return f"{self.prefix}inflight:{replica}"

    def pods(self, replica: str) -> str:
        """The hash of a replica's pods."""
        return f"{self.prefix}pods:{replica}"

    def pages(self, name: str) -> str:
        """The pages of the checkpoint `name`."""
        return f"{self.prefix}pages:{name}"

    def policy(self, pool: str) -> str:
        """A pool's policy records."""
        return f"{self.prefix}policy:{pool}"

    def trial(self, pool: str, generation: int) -> str:
        """The figures of a pool's trial in that generation."""
        return f"{self.prefix}trial:{generation}:{pool}"

    def limit(self, name: str) -> str:
        """The shares of a limit."""
        return f"{self.prefix}limit:{name}"

    def stream(self, name: str) -> str:
        """The log of a stream."""
        return f"{self.prefix}stream:{name}"

    def keeper(self, owner: str) -> str:
        """The sign of life of a process that keeps streams."""
        return f"{self.prefix}keeper:{owner}"

    def followed(self, owner: str) -> str:
        """The logs of an owner that others read on."""
        return f"{self.prefix}followed:{owner}"

    def __repr__(self) -> str:
        return f"<Keys {self.prefix}*>"
