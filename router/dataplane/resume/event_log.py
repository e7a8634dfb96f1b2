"""A stream of events as it is kept: an event a line, most of them without what all events of a stream repeat. Pure.

The events of a stream differ by little but the text of a token. What stands before and behind the text is written once,
as a template; of an event that follows it, the line has only the text: 6 bytes in place of 250. Of events in another
form the template is what two of them have in common at their beginning and at their end. Event ids name a position in
the log, and carry the lines that the shared log may not have yet: a replica that is killed takes nothing along that a
client has seen.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, NamedTuple

from router.dataplane.http.chunked import size_line

FULL: Final = b"\x01"
"""Begins the line of an event that follows no template; its line feeds are `_FEED`."""
_FEED: Final = b"\x02"
TEMPLATE: Final = b"\x03"
"""Begins the line of a template: what comes before and behind the text, with `_FEED` between and for line feeds."""
END: Final = b"\x04"
"""The line behind the last event."""
LOST: Final = b"\x05"
"""The line from which on the log is not true: the stream went on without being kept."""

TAIL_BYTES: Final = 2048
"""Most bytes of lines that an event id carries. It is a header of the request that resumes the stream."""
URGENT_BYTES: Final = 1024
"""Bytes of lines that are saved at once, so that few ids lack some."""
UNSAVED_BYTES: Final = 65_536
"""Most bytes of lines that wait for the shared log; then the stream is kept no longer."""
STREAM_BYTES: Final = 1_048_576
"""Most bytes of the log of a stream."""
_LEAST_COMMON: Final = 32
"""Bytes that two events have in common, for a template."""
_MOST_TEMPLATES: Final = 16

_TEXT: Final = re.compile(rb'"(?:content|text)": ?"((?:[^"\\\n]|\\.)+)"')

_CONTROLS: Final = 6
"""How many characters a line of the log may not have, from 0 on."""
_LF: Final = 10
_encoded: Final = binascii.b2a_base64
_FOLD_BYTES: Final = 24
"""Bytes of lines whose code is kept, so that later ids do not encode them again; fewer are encoded faster than kept."""
_NUMBERS: Final = tuple([b"%d." % number for number in range(2048)])
"""Made once: those of the events of most streams."""
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ID: Final = re.compile(rb"([A-Za-z0-9_-]{16})\.(\d{1,9})(?:\.([A-Za-z0-9+/=]*))?")


class Unkeepable(ValueError):
    """The stream has an event that cannot be a line of the log."""


class EventId(NamedTuple):
    """What `Last-Event-ID` says."""

    stream: str
    """The stream's unguessable name."""
    events: int
    """How many events the client has."""
    tail: bytes | None
    """Lines of the log before that position, as many as were not yet confirmed; None where they were too many."""


def parse_id(value: bytes) -> EventId | None:
    """The id, or None for one that this gateway did not give out."""
    found = _ID.fullmatch(value.strip())
    if found is None:
        return None
    try:
        tail = None if found[3] is None else binascii.a2b_base64(found[3], strict_mode=True)
    except binascii.Error:
        return None
    if tail is not None and len(tail) > TAIL_BYTES:
        return None  # lines of a few bytes stand for events of as many as a template has
    return EventId(found[1].decode(), int(found[2]), tail)


def split_events(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole events in `data`, each with its blank line, and what is left behind them."""
    events, at = list[bytes](), 0
    for end in _EVENT_END.finditer(data):
        events.append(data[at : end.end()])
        at = end.end()
    return events, data[at:]


class LogWriter:
    """Turns events into lines, and keeps those that the shared log has not confirmed."""

    __slots__ = (
        "_code", "_coded", "_last", "_least", "events", "id_line", "prefix", "suffix", "templates", "unsaved"
    )  # fmt: skip

    def __init__(self, stream: str, events: int = 0) -> None:
        self.id_line: Final = b"id: %b." % stream.encode()
        self.events = events
        """Events written so far."""
        self.unsaved = b""
        """Lines that the shared log may not have."""
        self._code = b""
        """The first `_coded` bytes of them in base64: each id has them all, and only those of its event are new."""
        self._coded = 0
        self.prefix = b""
        self.suffix = b""
        self._least = 0
        """Bytes of prefix and suffix."""
        self._last = b""
        """The event before, while there is no template."""
        self.templates = 0
        """Templates so far."""

    def follow(self, event: bytes, framed: bytes = b"") -> bytes:
        """Write one event that follows the template; returns its `id` line, or nothing for any other bytes. `framed`:
        the event in a chunk, which is to stand behind the line in another chunk."""
        prefix, suffix = self.prefix, self.suffix
        if not self._least or len(event) < self._least or not event.startswith(prefix) or not event.endswith(suffix):
            return b""
        line = event[len(prefix) : len(event) - len(suffix)]
        if _LF in line:
            return b""  # two events
        self.unsaved = b"%b%b\n" % (self.unsaved, line)
        self.events += 1
        return self._id(framed)

    def add(self, event: bytes) -> bytes:
        """Write an event with its blank line; returns its `id` line. Raises Unkeepable."""
        line = self.follow(event)
        if line:
            return line
        for control in range(_CONTROLS):
            if control in event:  # a sixth of what `translate` costs
                raise Unkeepable
        last, self._last = self._last, event
        # The first event has the role, so that the second one begins: only JSON has no control characters in its text.
        if self.events and self.templates < _MOST_TEMPLATES and event.startswith(b"data: {"):
            if not self._least and (text := _text(event)) is not None:
                self._use(event[: text.start(1)], event[text.end(1) :])
                return self.follow(event)
            if self.events > 1:
                self._learn(last, event)
        self.unsaved += FULL + event.replace(b"\n", _FEED) + b"\n"
        self.events += 1
        return self._id()

    def end(self) -> None:
        """Write that no event follows."""
        self.unsaved += END + b"\n"

    def give_up(self) -> None:
        """Write no more: what follows in the log does not count."""
        self._rewrite(LOST + b"\n")

    def saved(self, lines: bytes) -> bool:
        """The shared log has these lines. False where they are no more those that it lacks."""
        if not self.unsaved.startswith(lines):
            return False
        self._rewrite(self.unsaved[len(lines) :])
        return True

    def _rewrite(self, unsaved: bytes) -> None:
        self.unsaved, self._code, self._coded = unsaved, b"", 0

    def _id(self, framed: bytes = b"") -> bytes:
        """The `id` line of the last event; see `follow`."""
        unsaved, coded, events = self.unsaved, self._coded, self.events
        size = len(unsaved)
        number = _NUMBERS[events] if events < len(_NUMBERS) else b"%d." % events
        if size > TAIL_BYTES:
            number, code, rest = number[:-1], b"", b"\n"
        else:
            code, rest = self._code, _encoded(unsaved[coded:])  # it ends with a line feed
            more = (size - coded) // 3
            if more >= _FOLD_BYTES // 3:
                self._code = code + rest[: more * 4]
                self._coded = coded + more * 3
        id_line = self.id_line
        if not framed:
            return b"%b%b%b%b" % (id_line, number, code, rest)
        length = len(id_line) + len(number) + len(code) + len(rest)
        return b"%b%b%b%b%b\r\n%b" % (size_line(length), id_line, number, code, rest, framed)

    def _learn(self, last: bytes, event: bytes) -> None:
        """Make a template of what the event has in common with those before, if that is much."""
        prefix = _common(self.prefix or last, event[:-2])  # the same event once more has all in common
        suffix = _common((self.suffix or last)[::-1], event[len(prefix) :][::-1])[::-1]
        least = len(prefix) + len(suffix)
        if least >= max(_LEAST_COMMON, self._least // 2) and suffix.endswith(b"\n") and prefix and b"\n" not in prefix:
            self._use(prefix, suffix)

    def _use(self, prefix: bytes, suffix: bytes) -> None:
        """Write events from now on by this template."""
        self.prefix, self.suffix, self._least = prefix, suffix, len(prefix) + len(suffix)
        self.templates += 1
        self.unsaved += TEMPLATE + prefix + _FEED + suffix.replace(b"\n", _FEED) + b"\n"


def _text(event: bytes) -> re.Match[bytes] | None:
    """Where the first line of the event has its text."""
    keys = [at for at in (event.find(b'"content":'), event.find(b'"text":')) if at >= 0]
    found = _TEXT.search(event, min(keys)) if keys else None
    return None if found is None or _LF in event[: found.start()] else found


def _common(one: bytes, other: bytes) -> bytes:
    """With what both begin."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # halved: byte by byte, events of 100 KB took a second
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return one[:same]


class LogReader:
    """Turns lines into events."""

    def __init__(self) -> None:
        self.events = 0
        """Events read so far."""
        self.ended = False
        """Whether the end of the stream was read."""
        self._prefix = b""
        self._suffix = b""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The events of further bytes of the log. Raises Unkeepable where they are no lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = [event for line in lines if (event := self._event(line))]
        self.events += len(found)
        return found

    def _event(self, line: bytes) -> bytes:
        kind = line[:1]
        if kind == TEMPLATE:
            prefix, mark, suffix = line[1:].partition(_FEED)
            if not mark:
                raise Unkeepable
            self._prefix, self._suffix = prefix, suffix.replace(_FEED, b"\n")
            return b""
        if kind == END:
            self.ended = True
            return b""
        if kind == FULL:
            return line[1:].replace(_FEED, b"\n")
        if not self._prefix or kind in (LOST, b"\x00"):
            raise Unkeepable
        return self._prefix + line + self._suffix


def missing_lines(id: EventId, events: int) -> bytes | None:
    """The lines that a log with so many events lacks of those that the client has; None where the id does not say."""
    if id.events <= events:
        return b""
    if id.tail is None or not id.tail.endswith(b"\n"):
        return None
    lines = [line + b"\n" for line in id.tail.split(b"\n")[:-1]]
    known = events - (id.events - sum(map(_is_event, lines)))
    if known < 0:
        return None
    at = 0
    while known:
        known -= _is_event(lines[at])
        at += 1
    return b"".join(lines[at:])


def _is_event(line: bytes) -> bool:
    return line[:1] not in (TEMPLATE, END)
