"""Streams to which a client comes back with `Last-Event-ID`. Sends what the client has missed and follows the log while
the replica that serves the stream is alive; then this replica goes on with it on a pod.

A follower never asks the other replica: all that it knows stands in the log. Where the other one lets go of a stream,
or its lease is over, the log's owner is replaced by compare-and-set, so that one replica alone goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from router.dataplane.deps import AnswerEnds
from router.dataplane.exchange import Exchange
from router.dataplane.failover.continuation import Opened, opened
from router.dataplane.failover.reasons import NotMoved
from router.dataplane.failover.splice import Splice
from router.dataplane.failover.stream import MovableStream
from router.dataplane.http.edge import RequestHandler
from router.dataplane.http.responses import Headers, dialect_of, error_event
from router.dataplane.request import openai
from router.dataplane.resume.event_log import EventId, LogReader, LogWriter, Unkeepable, missing_lines, parse_id
from router.dataplane.resume.keeper import TTL_S, StreamKeeper
from router.dataplane.resume.kept_stream import KeptStream
from router.errors import BadRequest, GatewayError, NoPodAvailable, StateNotFound, StreamLost
from statesync.errors import StoreUnavailable
from statesync.streams import FREE, OWNER_BYTES, StreamLines, StreamPart, stream_name

POLL_S: Final = 0.05
"""Seconds between two looks at the logs that are followed."""

MISSING_S: Final = 1.0
"""Seconds in which a log must be there: its first lines may still be on their way."""

UNREACHED_S: Final = 10.0
"""Seconds for which the store may be away while a client waits for its stream."""

MANY_BYTES: Final = 4096
"""Bytes of a log behind which there may be more to read at once."""

TAKEN_OVER: Final = "taken_over"
"""The result of a stream of another replica that a pod goes on with."""

_DIGEST_BYTES: Final = 8
_HEADER_BYTES: Final = OWNER_BYTES + 2 * _DIGEST_BYTES + 1
_TOGETHER: Final = 32
"""Logs that are read by one command."""

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n%b"
    b"transfer-encoding: chunked\r\n%b\r\n"
)
_DONE: Final = b"data: [DONE]\n\n"

_log = logging.getLogger("turnout.streams")


class Following:
    """A client that is back, and how far it has read."""

    def __init__(self, stream: KeptStream, id: EventId, digest: bytes, movable: MovableStream | NotMoved) -> None:
        self.stream = stream
        self.exchange = stream.exchange
        self.id = id
        self.digest = digest
        """Of the request."""
        self.movable = movable
        self.reader = LogReader()
        self.offset = 0
        """Bytes of the log that were read."""
        self.since = stream.clock()
        """When the log was last there."""
        self.begun = False


class _Continued:
    """The events of a pod that goes on, in a pool whose streams are not moved: after a failure, its error alone."""

    def __init__(self, path: bytes, splice: Splice) -> None:
        self._path = path
        self._splice = splice
        self._failed = False

    def passed(self, event: bytes) -> bytes:
        """What the client gets of an event."""
        if self._failed:
            return b""
        said, state = self._splice.passed(event), self._splice.state
        if not state.failed:
            return said
        self._failed = True
        if state.reason != "not_continued":
            return event  # the engine's own words, or the gateway's of a pod that died
        lost = StreamLost("The replica that served the stream is gone." + NotMoved(state.reason).words)
        return error_event(lost, dialect_of(self._path))


class StreamFollower:
    """Serves the clients that come back."""

    def __init__(
        self, keeper: StreamKeeper, headers: Callable[[Exchange], Headers], count: Callable[[str, str], None]
    ) -> None:
        """`headers` are the gateway's own of an answer; `count` takes the pool and the result of each stream that was
        to go on here."""
        self._count = count
        self.keeper = keeper
        self._headers = headers
        self._following: list[Following] = []
        self._wake = asyncio.Event()

    def serve(
        self, handler: RequestHandler[Exchange], completion: AnswerEnds, place: Callable[[Exchange], None]
    ) -> StreamFollower:
        """Serve the exchanges of this handler. `place` sends one to a pod, or raises GatewayError."""
        self.keeper.serve(handler)
        self._completion = completion
        self._place = place
        return self

    def hand_over(self, exchange: Exchange) -> bool:
        """See `StreamKeeper.hand_over`."""
        return self.keeper.hand_over(exchange)

    def take(self, exchange: Exchange) -> bool:
        """Have the stream of a request kept. True if the client is back for a stream: then this is all to be done."""
        routed = exchange.routed
        settings = self.keeper.pools.get(routed.pool)
        if settings is None or not routed.call.stream or not exchange.http11 or isinstance(exchange.edge, KeptStream):
            return False
        tenant = "" if exchange.tenant is None else exchange.tenant.name
        body = routed.body if routed.movable is None else routed.movable.original()
        digest = blake2b(exchange.path + b"\n" + body, digest_size=_DIGEST_BYTES).hexdigest().encode()
        last_id = exchange.header_map.get(b"last-event-id")
        if last_id is None or (id := parse_id(last_id)) is None:
            self.keeper.keep(exchange, tenant, digest)
            return False
        kept = KeptStream(self.keeper, exchange.edge, exchange, stream_name(id.stream, tenant), LogWriter(id.stream))
        kept.following = kept.lost = True
        exchange.edge = kept
        asked = opened(exchange.path, body)
        if isinstance(asked, Opened):
            movable: MovableStream | NotMoved = MovableStream(exchange.path, asked, settings.max_chars)
        else:
            movable = asked
        self._following.append(Following(kept, id, digest, movable))
        self._wake.set()
        return True

    async def run(self) -> None:
        """Follow, for as long as the replica lives."""
        while True:
            if not self._following:
                await self._wake.wait()
            self._wake.clear()
            if not await self.look():
                await asyncio.sleep(POLL_S)

    async def look(self) -> bool:
        """Read on once in every log. True if there is more to read at once."""
        self._following = [each for each in self._following if not each.exchange.done]
        ready = [each for each in self._following if each.stream.client is not None and each.stream.client.writable]
        more = False
        for at in range(0, len(ready), _TOGETHER):
            some = ready[at : at + _TOGETHER]
            try:
                parts = await self.keeper.store.read([(each.stream.key, each.offset) for each in some])
            except StoreUnavailable:
                for each in some:
                    self._unreached(each)
                continue
            for each, part in zip(some, parts, strict=True):
                if not each.exchange.done:
                    more |= await self._guarded(each, part)
        return more

    async def _guarded(self, each: Following, part: StreamPart) -> bool:
        try:
            return await self._go_on(each, part)
        except Unkeepable:
            self._fail(each, StreamLost("The stream was too long to be kept, or was not kept in time."))
        except GatewayError as error:
            self._fail(each, error)
        except StoreUnavailable:
            self._unreached(each)
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._drop(each)
            self._completion.defect(each.exchange)
        return False

    async def _go_on(self, each: Following, part: StreamPart) -> bool:
        """Pass on what was read; take the stream over where its owner is gone. True if more can be read at once."""
        if not part.owner:
            return await self._missing(each)
        each.since = each.stream.clock()
        lines = part.lines
        if not each.begun:
            header, lines = lines[:_HEADER_BYTES], lines[_HEADER_BYTES:]
            if header[OWNER_BYTES:-1] != each.digest:
                raise BadRequest("Last-Event-ID names a stream of another request: send the request as it was.")
            self._begin(each)
        self._pass_on(each, lines)
        each.offset += len(part.lines)
        if each.reader.ended:
            self._complete(each)
        elif len(part.lines) >= MANY_BYTES:
            return True
        elif part.owner == FREE or not part.alive:
            rest = await self.keeper.store.take(each.stream.key, part.owner, self.keeper.owner, each.offset)
            if rest is not None and not each.exchange.done:
                self._pass_on(each, rest)
                each.offset += len(rest)
                self._take_over(each)
        return False

    async def _missing(self, each: Following) -> bool:
        """There is no such log, or none any more."""
        if each.stream.clock() - each.since < MISSING_S:
            return False
        if each.begun or missing_lines(each.id, 0) is None:
            raise StateNotFound("No stream is kept under this Last-Event-ID, or none any more.")
        # The replica died before the first lines were written, and the client has them.
        header = self.keeper.owner.encode() + each.digest + b"\n"
        await self.keeper.store.save(self.keeper.owner, [StreamLines(each.stream.key, 0, header, TTL_S)])
        if not each.exchange.done:
            each.offset = len(header)
            self._begin(each)
            self._take_over(each)
        return False

    def _begin(self, each: Following) -> None:
        exchange = each.exchange
        each.begun = True
        lines = b"".join([b"%b: %b\r\n" % header for header in self._headers(exchange)])
        each.stream.begin(_HEAD % (lines, exchange.connection_line))

    def _pass_on(self, each: Following, lines: bytes) -> None:
        """Send the events that the client does not have."""
        before = each.reader.events
        events = each.reader.feed(lines)
        if isinstance(each.movable, MovableStream):
            for event in events:
                each.movable.splice.passed(event)
        skipped = max(0, each.id.events - before)
        each.stream.replay(events[skipped:], before + skipped + 1)

    def _take_over(self, each: Following) -> None:
        """Go on with the stream on a pod; this replica owns the log now."""
        self._drop(each)
        stream, reader, movable = each.stream, each.reader, each.movable
        lines = missing_lines(each.id, reader.events)
        known = lines is not None
        if lines:
            self._pass_on(each, lines)
        log = stream.log = LogWriter(each.id.stream, reader.events)
        log.unsaved = lines or b""
        stream.saved = each.offset
        self.keeper.add(stream)
        if reader.ended:
            self._complete(each)
        elif not known:
            self._count(each.exchange.routed.pool, "unsaved")
            self._fail(each, StreamLost("The replica that served the stream died with events that the client has."))
        elif isinstance(movable, NotMoved):
            self._count(each.exchange.routed.pool, movable.reason)
            self._fail(each, StreamLost("The replica that served the stream is gone." + movable.words))
        else:
            self._continue(each, movable)

    def _continue(self, each: Following, movable: MovableStream) -> None:
        exchange, stream = each.exchange, each.stream
        routed = exchange.routed
        if (ending := movable.splice.ending()) is not None:
            stream.end_with(ending)
            self._end(each)
            return
        made = movable.next_request()
        if isinstance(made, NotMoved):
            self._count(routed.pool, made.reason)
            self._fail(each, StreamLost("The replica that served the stream is gone." + made.words))
            return
        self._count(routed.pool, TAKEN_OVER)
        movable.splice.go_on(made.owed, made.ids, made.behind)
        routed.body = made.body
        routed.call = openai.read(exchange.header_map.get(b"content-type", b""), made.body)
        if routed.movable is None:
            stream.rewrite = _Continued(exchange.path, movable.splice).passed
        else:
            routed.movable = movable
        try:
            self._place(exchange)
        except GatewayError as error:
            self._completion.refuse(exchange, error)

    def _complete(self, each: Following) -> None:
        """The log is at its end."""
        each.stream.complete()
        self._end(each)

    def _end(self, each: Following) -> None:
        self._drop(each)
        self._completion.end(each.exchange, 200)
        each.stream.finish(each.exchange.keep_alive)

    def _unreached(self, each: Following) -> None:
        if each.stream.clock() - each.since > UNREACHED_S:
            self._fail(
                each, NoPodAvailable("What is kept of the stream cannot be read now; try again.", retry_after_s=1.0)
            )

    def _fail(self, each: Following, error: GatewayError) -> None:
        self._drop(each)
        if not each.begun:
            self._completion.refuse(each.exchange, error)
            return
        _log.warning("a stream was not resumed: %s", error.message)
        each.stream.close_with(error_event(error, dialect_of(each.exchange.path)))
        self._completion.end(each.exchange, error.shape.status, error)

    def _drop(self, each: Following) -> None:
        if each in self._following:
            self._following.remove(each)
