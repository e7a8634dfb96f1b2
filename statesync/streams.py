"""The logs of streams that outlive the replica which serves them, as replicas share them. No store lives here."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

OWNER_BYTES: Final = 16
"""Length of the name of a process that keeps streams; a log begins with it."""

FREE: Final = "-" * OWNER_BYTES
"""The owner of a stream that waits for a replica to go on with it."""

SAVED: Final = 1
GONE: Final = 0
TAKEN: Final = 2
"""What became of lines: written, or the log is gone, or another process owns it."""


class StreamLines:
    """Further lines of a log. No NamedTuple: one is made for each save of a stream, and costs 2,000 instructions."""

    __slots__ = ("lines", "name", "offset", "ttl_s")

    def __init__(self, name: str, offset: int, lines: bytes, ttl_s: float) -> None:
        self.name = name
        self.offset = offset
        self.lines = lines
        self.ttl_s = ttl_s


class StreamPart(NamedTuple):
    """A part of a log, as a reader finds it."""

    owner: str
    """Empty where there is no such log."""
    alive: bool
    """Whether the owner is alive."""
    lines: bytes


class StreamStore(Protocol):
    """Where the logs are. Every method raises StoreUnavailable."""

    async def save(self, owner: str, entries: Sequence[StreamLines], /) -> Sequence[int]:
        """Write lines of this owner's streams; returns for each SAVED, GONE or TAKEN. Writing the same once more does
        no harm."""
        ...

    async def read(self, places: Sequence[tuple[str, int]], /) -> Sequence[StreamPart]:
        """Read on from an offset in each of these logs. Their owners learn of it."""
        ...

    async def take(self, name: str, before: str, after: str, offset: int, /) -> bytes | None:
        """Make `after` the owner in place of `before`; returns the log from the offset on, None if its owner is another
        one."""
        ...

    async def beat(self, owner: str, /) -> Sequence[str]:
        """Say that this owner is alive; returns its streams that others read on."""
        ...


def stream_name(stream: str, tenant: str) -> str:
    """The name of a stream's log. That of one tenant's stream is not found under another tenant."""
    return blake2b(f"{tenant}\n{stream}".encode(), digest_size=16).hexdigest()
