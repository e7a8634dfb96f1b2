"""The streams that this replica keeps: saves their logs in the shared store, and lets a stream go on for a while after
its client has left. A stream that a client wants to go on with is `follower.py`'s.

Nothing of a stream waits for the store. While it cannot be reached, streams go on, and what was not saved for too long
is kept no longer.
"""

from __future__ import annotations

import asyncio
import logging
from binascii import b2a_base64
from collections import deque
from collections.abc import Mapping, Sequence
from os import urandom
from typing import Final

from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge, RequestHandler
from router.dataplane.http.request_head import RequestHead
from router.dataplane.resume.event_log import STREAM_BYTES, UNSAVED_BYTES, URGENT_BYTES, LogWriter
from router.dataplane.resume.kept_stream import KeptStream
from router.settings import Failover
from statesync.errors import StoreUnavailable
from statesync.streams import FREE, SAVED, TAKEN, StreamLines, StreamStore, stream_name

KEPT_BYTES: Final = 67_108_864
"""Most bytes of logs that this replica has in the shared store: those of 4,000 answers of 2,000 tokens."""

TTL_S: Final = 60.0
"""Seconds after its last lines for which a log is there."""

FLUSH_S: Final = 0.5
"""Seconds between two writes. What is not written yet stands in the event ids."""

READ_S: Final = 0.1
"""The same of what is urgent: a stream has its template, or a client reads along over another replica."""

FULL_S: Final = 0.02
"""The same while a stream has many bytes of lines: its ids would soon lack some of them."""

OVER_S: Final = 10.0
"""Seconds in which the last lines of a stream must be saved."""

_NAME_BYTES: Final = 12
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_BEAT_S: Final = 1.0
_TOGETHER: Final = 128
"""Streams that are written by one command."""

_log = logging.getLogger("turnout.streams")


class StreamKeeper:
    """Handles the requests of connections with a kept stream."""

    def __init__(
        self, store: StreamStore, owner: str, lease_s: float, pools: Mapping[str, Failover], deadlines: Deadlines
    ) -> None:
        self.store = store
        self.owner = owner
        """This process's name, which no other process has."""
        self.pools = pools
        """The pools whose streams are kept."""
        self.clock = deadlines.clock
        self._members = deadlines.members
        self.streams: dict[str, KeptStream] = {}
        """By the name of the log; those that were ended and are not saved yet included."""
        self.kept_bytes = 0
        """Of the logs in the store."""
        self._handler: RequestHandler[Exchange] | None = None
        self._beat_s = min(_BEAT_S, lease_s / 5)
        self._beat_at = 0.0
        self._past: deque[tuple[float, int]] = deque()
        """When logs of ended streams are gone, and their bytes."""
        self._free: set[str] = set()
        """Streams whose log is to be given to another replica."""
        self._urgent: set[str] = set()
        """Streams whose lines are saved before the others'."""
        self._due_at = 0.0
        """When those of all streams are."""
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        """Set where a stream has so many lines that they wait for no others."""

    def serve(self, handler: RequestHandler[Exchange]) -> None:
        """Set the handler of all other requests."""
        self._handler = handler

    @property
    def handler(self) -> RequestHandler[Exchange]:
        """See `KeptStreamOwner`."""
        assert self._handler is not None
        return self._handler

    def keep(self, exchange: Exchange, tenant: str, digest: bytes) -> None:
        """Keep the answer to the exchange, if it is a stream; `digest` is that of its request."""
        if self.kept_bytes >= KEPT_BYTES:
            return
        stream = b2a_base64(urandom(_NAME_BYTES))[:-1].translate(_URL_SAFE).decode()
        kept = KeptStream(self, exchange.edge, exchange, stream_name(stream, tenant), LogWriter(stream))
        kept.header = self.owner.encode() + digest + b"\n"
        self.add(kept)

    def add(self, stream: KeptStream) -> None:
        """Save this stream from now on. One of the same name was taken over from this replica itself, whose sign of
        life had lapsed: no one would end it."""
        before = self.streams.get(stream.key)
        if before is not None:
            self._displaced(before, TAKEN)
        stream.exchange.edge = stream
        stream.since = self.clock()
        stream.following = stream.lost = False
        if not self.streams:
            self._wake.set()  # the task sleeps for want of streams
        self.streams[stream.key] = stream
        self.kept_bytes += stream.saved
        self._members.add(stream)

    # What streams report

    def unsaved(self, stream: KeptStream) -> None:
        """See `KeptStreamOwner`."""
        self._urgent.add(stream.key)
        self._wake.set()
        if stream.behind > URGENT_BYTES:
            self._full.set()

    def ended(self, stream: KeptStream) -> None:
        """See `KeptStreamOwner`."""
        if self.streams.get(stream.key) is not stream:
            stream.let_go()
            return
        if not stream.resumable or stream.lost:
            self._forget(stream)
            return
        if not stream.over:
            self._free.add(stream.key)
            self.unsaved(stream)  # its client waits at another replica
        stream.over = True
        self._members.discard(stream)
        stream.grace_until = self.clock() + OVER_S

    def hand_over(self, exchange: Exchange) -> bool:
        """Give the stream to the replica to which its client comes back. False for an exchange that is not kept."""
        stream = exchange.edge
        if not isinstance(stream, KeptStream) or not stream.resumable or (stream.lost and not stream.following):
            return False
        if exchange.relay is not None:
            exchange.relay.cancel()
        stream.close_unfinished()
        return True

    # What the clients' connections report: `RequestHandler`

    def begin(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float) -> Exchange:
        """See `RequestHandler`."""
        return self.handler.begin(edge, head, body, arrived)

    def handle(self, exchange: Exchange) -> None:
        """See `RequestHandler`."""
        self.handler.handle(exchange)

    def overdue(self, exchange: Exchange, now: float) -> None:
        """See `RequestHandler`."""
        self.handler.overdue(exchange, now)

    def abandon(self, exchange: Exchange) -> None:
        """The client is gone: its stream goes on for a while."""
        stream = exchange.edge
        if not isinstance(stream, KeptStream) or stream.client is None:
            return  # it is over, or another connection has taken its place
        stream.detach()
        settings = self.pools.get(exchange.routed.pool)
        if settings is None or stream.final or not stream.resumable or stream.lost:
            self.handler.abandon(exchange)
            self._forget(stream)
            return
        now = self.clock()
        stream.grace_until = now + settings.grace_s
        self._due_at = min(self._due_at, now + READ_S)
        self._wake.set()
        exchange.resume()

    # The background task

    async def run(self) -> None:
        """Save what streams write, for as long as the replica lives."""
        while True:
            if self.streams:
                await _within(self._due_at - self.clock(), self._wake)
            else:
                await self._wake.wait()
            self._wake.clear()
            self._full.clear()
            now = self.clock()
            if now >= self._due_at:
                alone = any(stream.client is None and not stream.over for stream in self.streams.values())
                self._due_at = now + (READ_S if alone else FLUSH_S)
                await self.flush()
            else:
                await self.flush_urgent()
            await asyncio.sleep(FULL_S if self._beat_at else READ_S)  # 0 while the store is away
            await _within(READ_S - FULL_S, self._full)

    async def stop(self, timeout_s: float) -> None:
        """Save what is left, as far as the store takes it in that time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush()
        except TimeoutError:
            _log.warning("what was written of %d streams last is not saved", len(self.streams))

    async def flush(self) -> None:
        """Save all that is not saved."""
        now = self.clock()
        if now >= self._beat_at:
            self._end_alone(now)
        await self._flush(list(self.streams.values()), now)

    async def flush_urgent(self) -> None:
        """Save what is not to wait for the others."""
        await self._flush([self.streams[key] for key in self._urgent & self.streams.keys()], self.clock())

    async def _flush(self, streams: Sequence[KeptStream], now: float) -> None:
        self._urgent.clear()
        try:
            if now >= self._beat_at:
                self._beat_at = now + self._beat_s
                followed = await self.store.beat(self.owner)
                self._followed(followed, now)
                for name in followed:
                    if name not in self.streams:  # no one writes it any more: who reads it goes on with it
                        await self.store.take(name, self.owner, FREE, STREAM_BYTES * 2)
            unsaved = [stream for stream in streams if _is_due(stream, now)]
            for at in range(0, len(unsaved), _TOGETHER):
                await self._save(unsaved[at : at + _TOGETHER], now)
            for name in list(self._free & self.streams.keys()):
                if not self.streams[name].unsaved:  # the lines come before the permission to go on
                    await self.store.take(name, self.owner, FREE, self.streams[name].saved)
                    self._free.discard(name)
        except StoreUnavailable:
            self._beat_at = 0.0
        self._tidy(streams, now)

    async def _save(self, streams: Sequence[KeptStream], now: float) -> None:
        entries = [StreamLines(stream.key, stream.saved, stream.unsaved, TTL_S) for stream in streams]
        results = await self.store.save(self.owner, entries)
        for stream, entry, result in zip(streams, entries, results, strict=True):
            if result == SAVED:
                stream.saved_at = now
                before = stream.saved
                stream.confirmed(entry.lines)
                if self.streams.get(stream.key) is stream:  # else it was let go of meanwhile, with what it had before
                    self.kept_bytes += stream.saved - before
            else:
                self._displaced(stream, result)

    def _displaced(self, stream: KeptStream, result: int) -> None:
        """The log is gone, or another replica goes on with the stream."""
        exchange = stream.exchange
        stream.lost = True
        self._forget(stream)
        if result != TAKEN and stream.client is not None:
            return
        _log.warning("a kept stream is %s", "taken over elsewhere" if result == TAKEN else "lost")
        client = stream.detach()
        if not exchange.done:
            self.handler.abandon(exchange)
        stream.let_go()
        if client is not None:
            client.abort()

    def _followed(self, names: Sequence[str], now: float) -> None:
        """Another replica reads on in these streams: their clients have left, even where that was not seen yet."""
        for name in names:
            stream = self.streams.get(name)
            if stream is None or stream.over or now - stream.since < 2 * self._beat_s:
                continue
            client = stream.detach()
            stream.grace_until = now + 4 * self._beat_s
            if client is not None:
                client.abort()
                stream.exchange.resume()  # it may have been slow

    def _end_alone(self, now: float) -> None:
        """End the streams to which no client came back."""
        for stream in [each for each in self.streams.values() if each.client is None and each.grace_until <= now]:
            if not stream.over:
                self._forget(stream)
                self.handler.abandon(stream.exchange)
                stream.let_go()

    def _tidy(self, streams: Sequence[KeptStream], now: float) -> None:
        """Let go of what is saved and over, and of what cannot be kept."""
        crowded = self.kept_bytes > 2 * KEPT_BYTES
        for stream in streams:
            if not (crowded or stream.over or stream.lost or _is_large(stream)):
                continue
            if stream.over or stream.lost:
                saved = not stream.unsaved and stream.key not in self._free
                if saved or (stream.over and stream.grace_until <= now):
                    self._forget(stream)
                    if stream.client is None and not stream.over:
                        self.handler.abandon(stream.exchange)  # no client can come back to it
                        stream.let_go()
            else:
                stream.lose()
        while self._past and self._past[0][0] <= now:
            self.kept_bytes -= self._past.popleft()[1]

    def _forget(self, stream: KeptStream) -> None:
        self._members.discard(stream)
        if stream.client is not None:
            stream.client.expires_at = stream.expires_at
        if self.streams.get(stream.key) is stream:
            del self.streams[stream.key]
            self._free.discard(stream.key)
            self._past.append((self.clock() + TTL_S, stream.saved))
        stream.let_go()


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Return when the event is set, or after this time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _is_due(stream: KeptStream, now: float) -> bool:
    """Whether the stream has lines to save, or its log would be gone soon."""
    return stream.behind > 0 or (stream.resumable and now - stream.saved_at > TTL_S / 3)


def _is_large(stream: KeptStream) -> bool:
    return stream.saved > STREAM_BYTES or stream.behind > UNSAVED_BYTES
