"""The JSON frames of lists and watches: bytes in, objects out. Does not interpret the objects.

Objects stay raw JSON, so that an invalid one does not affect the others, and many can be decoded over several turns of
the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from statesync.errors import DiscoveryError

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of a line; etcd holds no object of more than 1.5 MB."""


class ListMetadata(msgspec.Struct, rename="camel"):
    """Metadata of a list or a bookmark."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class ListObject(msgspec.Struct):
    """A list of anything."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)
    items: list[msgspec.Raw] | None = None


class Event(msgspec.Struct):
    """A line of a watch."""

    type: str
    object: msgspec.Raw


class Bookmark(msgspec.Struct):
    """The object of a bookmark."""

    metadata: ListMetadata = msgspec.field(default_factory=ListMetadata)


decode_list = msgspec.json.Decoder(ListObject).decode
decode_event = msgspec.json.Decoder(Event).decode
decode_marked = msgspec.json.Decoder(Bookmark).decode


class LineSplitter:
    """Splits a stream into lines; an incomplete line waits for its rest."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines completed by `data`. Raises DiscoveryError if one is too long."""
        whole, _, rest = data.rpartition(b"\n")
        if not whole and len(rest) == len(data):
            self._rest += data
            if len(self._rest) > MAX_LINE_BYTES:
                raise DiscoveryError(f"a line of a watch has more than {MAX_LINE_BYTES} bytes")
            return
        lines = (bytes(self._rest) + whole).split(b"\n")
        self._rest = bytearray(rest)
        yield from filter(None, lines)
