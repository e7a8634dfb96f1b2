"""A kept stream: stands between an answer's relay and its client's connection, numbers the events, and writes the log.

To the relay it is the client's connection; so a client that breaks off leaves the answer going on, and another
connection may take its place. Knows HTTP's and the events' framing, nothing of the shared store and of pods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from router.dataplane.exchange import Exchange
from router.dataplane.http.chunked import LAST_CHUNK, ChunkScanner, chunk
from router.dataplane.http.deadlines import NEVER
from router.dataplane.http.edge import Edge, RequestHandler
from router.dataplane.resume.event_log import URGENT_BYTES, LogWriter, Unkeepable, split_events

_HEAD_END: Final = b"\r\n\r\n"
_DONE: Final = b"data: [DONE]"
_CR: Final = 13
_SIZE_BYTES: Final = 8
_SHORT: Final = 20
"""Bytes up to which a piece is no chunk with an event."""
_NOT_CONTINUED: Final = b'{"error":{"message":"No pod went on with this stream.","type":"upstream_error","code":null}}'


class KeptStreamOwner(RequestHandler[Exchange], Protocol):
    """Keeps the streams of a replica, and watches the connections of their clients."""

    @property
    def handler(self) -> RequestHandler[Exchange]:
        """The handler of these connections' other requests."""
        ...

    def unsaved(self, stream: KeptStream, /) -> None:
        """The stream has lines to save."""

    def ended(self, stream: KeptStream, /) -> None:
        """The answer is over: no further call follows."""


class KeptStream(Edge[Exchange]):
    """An answer whose client may break off and come back."""

    __slots__ = (
        "_ahead", "_begun", "_first", "_owner", "_plain", "_rest", "_scanner", "_unread", "client", "exchange", "final",
        "following", "grace_until", "header", "key", "log", "lost", "over", "rewrite", "saved", "saved_at", "since",
    )  # fmt: skip

    def __init__(
        self, owner: KeptStreamOwner, client: Edge[Exchange], exchange: Exchange, key: str, log: LogWriter
    ) -> None:
        super().__init__(owner, client.listener, client.clock, reads=False)
        self._owner = owner
        self._first = client
        self.client: Edge[Exchange] | None = client
        """None after the client has left."""
        self.transport, self.peer = client.transport, client.peer
        self.write_now = self.write
        self.expires_at = exchange.deadline or NEVER
        self.exchange = exchange
        self.key = key
        """Its key in the shared store."""
        self.log: LogWriter | None = log
        """None where the answer turned out to be none that is kept."""
        self.header = b""
        """Bytes that begin the log and are not saved yet."""
        self.following = False
        """Another replica has the log, and its client is here."""
        self.since = 0.0
        """When it was first kept by this replica."""
        self.lost = False
        """The log has not all of it: the stream goes on, and cannot be resumed."""
        self.saved = 0
        """Bytes of the log in the shared store."""
        self.saved_at = 0.0
        self.final = False
        """The event came after which clients close."""
        self.over = False
        """No event follows."""
        self.grace_until = NEVER
        """When a stream without a client ends, on the gateway's clock."""
        self.rewrite: Callable[[bytes], bytes] | None = None
        """Makes an event of another answer one of this stream; empty for one that is left out."""
        self._begun = False
        """The client was sent a head."""
        self._ahead = b""
        """The head, until something follows it: a write of its own would wake the client twice."""
        self._scanner = ChunkScanner()
        self._unread = b""
        """Bytes of chunk framing that are not whole yet."""
        self._rest = b""
        """The beginning of an event."""
        self._plain = False
        """After the last write, whole events were sent and all of them as they came."""
        client.requests = owner
        client.expires_at = NEVER

    @property
    def resumable(self) -> bool:
        """Whether its client may come back."""
        return self._begun and self.log is not None

    @property
    def unsaved(self) -> bytes:
        """What the shared log does not have."""
        return b"" if self.log is None else self.header + self.log.unsaved

    @property
    def behind(self) -> int:
        """Bytes of lines that are not saved; 0 before its head."""
        return len(self.log.unsaved) if self._begun and self.log is not None else 0

    def confirmed(self, lines: bytes) -> None:
        """The shared log has these bytes, which were unsaved."""
        log = self.log
        assert log is not None
        size = len(lines)
        if lines.startswith(self.header):
            lines = lines[len(self.header) :]
        if log.saved(lines):  # else the stream was given up meanwhile, and its mark goes to their place
            self.saved += size
            self.header = b""

    # What the relay and the stages write

    def write(self, data: bytes) -> None:
        """See `Edge`."""
        if (log := self.log) is None:
            self._send(data)
            return
        if self.over:
            return
        if self._plain and not self.lost and len(data) > _SHORT:  # one event in one chunk, mostly; `len` costs no call
            if len(out := log.follow(data[5 if data[3] == _CR else 4 : -2], data)) > 0:
                self._send(out)
                if len(log.unsaved) > URGENT_BYTES:
                    self._owner.unsaved(self)
                return
        if data.startswith(b"HTTP/1.1 "):
            data = self._head(data)
            if not data:
                if self._ahead:
                    self._send(b"")
                return
        new = not log.templates
        if self._whole():
            data = self._chunks(data, log)
        if data:
            self._pieces(data, log)
        self._plain = self._whole()
        if (new and log.templates) or len(log.unsaved) > URGENT_BYTES:
            self._owner.unsaved(self)

    def _whole(self) -> bool:
        return self.rewrite is None and not (self.lost or self._rest or self._unread or self._scanner.left)

    def _chunks(self, data: bytes, log: LogWriter) -> bytes:
        """Pass on the chunks that have one event each; returns what is left from the first other one on."""
        at, out = 0, list[bytes]()
        while not self.lost and (eol := data.find(b"\r\n", at, at + _SIZE_BYTES)) > 0:
            try:
                end = eol + 4 + int(data[at:eol], 16)
            except ValueError:
                break  # an extension
            if end > len(data):
                break
            if framed := log.follow(event := data[eol + 2 : end - 2], data[at:end]):
                out.append(framed)
            elif event.find(b"\n\n") == len(event) - 2 >= 0 and _CR not in event:
                out.append(self._numbered(event, log))
            else:
                break
            at = end
        if data[at:] == LAST_CHUNK:
            out.append(self._last(log))
            at = len(data)
        if out:
            self._send(b"".join(out))
        return data[at:]

    def _head(self, data: bytes) -> bytes:
        """Send the head with what follows it, of a stream's first answer only; returns what does."""
        head, mark, body = data.partition(_HEAD_END)
        relay = self.exchange.relay
        kept = relay is not None and relay.sse and relay.status == 200 and head.lower().find(b"content-encoding:") < 0
        if self._begun:
            self._scanner, self._unread, self._rest = ChunkScanner(), b"", b""
            if kept:
                return body
            self.close_with(b"data: " + (body if body.startswith(b"{") else _NOT_CONTINUED) + b"\n\n")
        elif kept and head.find(b"transfer-encoding: chunked") >= 0:
            self._begun = True
            self.flush()
            self._ahead = head + mark
            return body
        else:
            self.log = None
            self._send(data)
        return b""

    def begin(self, head: bytes) -> None:
        """Send the head of a stream."""
        self._begun = True
        self.flush()
        self._send(head)

    def _pieces(self, data: bytes, log: LogWriter) -> None:
        contents = list[bytes]()
        end = self._scanner.feed(data := self._unread + data, contents)
        self._unread = data[self._scanner.settled :] if end < 0 else b""
        events, self._rest = split_events(self._rest + b"".join(contents))
        if end >= 0 and self._rest:
            events.append(self._rest + b"\n\n")
            self._rest = b""
        if self.rewrite is not None:
            events, _ = split_events(b"".join(map(self.rewrite, events)))
        out = [self._numbered(event, log) for event in events]
        if end >= 0:
            out.append(self._last(log))
        self._send(b"".join(out))

    def _last(self, log: LogWriter) -> bytes:
        """The answer is whole: its last chunk."""
        self.over = True
        if not self.lost:
            log.end()
        return LAST_CHUNK

    def _numbered(self, event: bytes, log: LogWriter) -> bytes:
        """The event with its id, as a chunk."""
        if event.startswith(b":") and b"\ndata" not in event:
            # OpenAI's SDK takes a comment with a blank line for an event, once it has seen an id.
            return chunk(event.rstrip() + b"\n")
        if event.startswith(_DONE):
            self.final = True
        if self.lost:
            return chunk(event)
        try:
            return chunk(log.add(event) + event)
        except Unkeepable:
            self.lose()
            return chunk(event)

    def replay(self, events: list[bytes], first: int) -> None:
        """Send events of the log again; `first` is the number of the first of them."""
        assert self.log is not None
        line = self.log.id_line
        if events:
            self._send(b"".join([chunk(b"%b%d.\n" % (line, first + at) + each) for at, each in enumerate(events)]))

    def lose(self) -> None:
        """Keep the stream no longer."""
        self.lost = True
        if self.log is not None:
            self.log.give_up()
            self._owner.unsaved(self)

    def _send(self, data: bytes) -> None:
        if self.client is not None:
            if len(self._ahead) > 0:
                data, self._ahead = self._ahead + data, b""
            self.client.write_now(data)

    # Ends

    def flush(self) -> None:
        """See `Edge`."""
        if self.client is not None:
            self.client.flush()

    def finish(self, keep: bool) -> None:
        """See `Edge`."""
        client = self.release()
        self._owner.ended(self)
        if client is not None:
            client.flush()
            client.finish(keep)

    def close(self) -> None:
        """The answer ended early, with an error event: the log ends, too."""
        if self.log is not None and not self.over and not self.lost:
            self.log.end()
        self.over = True
        self._leave(cut=False)

    def close_with(self, event: bytes) -> None:
        """End the stream with this event."""
        if self.log is not None:
            self._send(self._numbered(event, self.log))
        self.close()

    def end_with(self, event: bytes) -> None:
        """End the stream with this event, as complete."""
        assert self.log is not None
        if event:
            self._send(self._numbered(event, self.log))
        self._send(self._last(self.log))

    def complete(self) -> None:
        """The log's last event was sent again."""
        self.over = True
        self._send(LAST_CHUNK)

    def abort(self) -> None:
        """The answer was cut, or goes on elsewhere: the client sees that it is not whole."""
        self._leave(cut=True)

    def close_unfinished(self) -> None:
        """The stream goes on at another replica: the client has all that was written, and sees that more is to come."""
        client = self.detach()
        self._owner.ended(self)
        if client is not None:
            client.close()

    def _leave(self, *, cut: bool) -> None:
        client = self.release()
        self._owner.ended(self)
        if client is not None and cut:
            client.abort()
        elif client is not None:
            client.close()

    def release(self) -> Edge[Exchange] | None:
        """Let go of the client's connection, which may have further requests."""
        client = self.detach()
        if client is not None and client.requests is self._owner:
            client.requests = self._owner.handler
        return client

    def detach(self) -> Edge[Exchange] | None:
        """Let go of the client's connection, whose end is not that of the stream."""
        client, self.client = self.client, None
        self.transport = None
        return client

    def let_go(self) -> None:
        """The answer has ended and nothing is saved any more: break the cycles, which no collection would find."""
        if self.exchange.done and self.client is None:
            self.write_now = _nowhere
            self.exchange.edge = self._first

    def expire(self, now: float) -> None:
        """See `Edge`."""
        self.expires_at = NEVER
        self._owner.overdue(self.exchange, now)


def _nowhere(data: bytes) -> None:
    """The `write_now` of an answer that has ended."""
