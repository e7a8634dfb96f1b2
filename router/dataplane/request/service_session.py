"""Where requests of one pool that serves no models name their session: in a header, a cookie or a part of the path.
Pure: header lines and path in, a text out. `session_key.py` is for requests with a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PART: Final = "path"
COOKIE: Final = "cookie"
PLACES: Final = ("header", COOKIE, PART)
"""What stands before the colon in `service.session`."""


class SessionPlaces:
    """Finds the session of a request at the places that the settings name."""

    def __init__(self, places: Sequence[str]) -> None:
        self._places = [place.partition(":")[::2] for place in places]

    def find(self, kept: Sequence[bytes], rest: bytes) -> str:
        """The session at the first place that has one; empty where none has. `kept`: the header lines that pods get;
        `rest`: the path after the beginning that led to the pool."""
        head = b"\r\n" + b"".join(kept) if self._places else b""
        for place, name in self._places:
            if place == PART:
                value = _part(rest, int(name))
            elif place == COOKIE:
                value = _cookie(_header(head, COOKIE), name.encode())
            else:
                value = _header(head, name.lower())
            if value:
                return value.decode("latin-1")
        return ""


def _part(path: bytes, number: int) -> bytes:
    parts = path.strip(b"/").split(b"/")
    return parts[number - 1] if number <= len(parts) else b""


def _header(head: bytes, name: str) -> bytes:
    """The values of a header, joined as those of `Cookie` are."""
    mark, values, at = b"\r\n%b: " % name.encode(), list[bytes](), -1
    while (at := head.find(mark, at + 1)) >= 0:
        start = at + len(mark)
        values.append(head[start : head.find(b"\r\n", start)].strip())
    return b"; ".join(values)


def _cookie(header: bytes, name: bytes) -> bytes:
    found = [part.partition(b"=") for part in header.split(b";")]
    return next((value.strip().strip(b'"') for key, _, value in found if key.strip() == name), b"")
