"""Cross-origin requests of browsers: which origins may read answers, and the answer to a preflight. Pure; knows the
Fetch standard's headers, no socket. Without `cors.allow_origins` this file is not used, and a pod's own headers
pass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from router.dataplane.http.responses import Headers

ANY: Final = "*"

MAX_AGE_S: Final = 600
"""Seconds for which a browser may use the answer to a preflight again."""

METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, \t-]{0,4096}")
"""A list of header names."""


class AllowedOrigins:
    """Which origins are allowed, and the headers that say so."""

    def __init__(self, allow_origins: Sequence[str]) -> None:
        """`allow_origins`: exact origins, or `*` for all."""
        self._any = ANY in allow_origins
        self._origins = frozenset(each.encode() for each in allow_origins)

    def headers(self, header_map: Mapping[bytes, bytes]) -> Headers:
        """The headers of an answer to a request; its origin is in `header_map`."""
        exposed = (b"access-control-expose-headers", b"*")
        if self._any:
            return ((b"access-control-allow-origin", b"*"), exposed)
        origin = header_map.get(b"origin")
        vary = (b"vary", b"origin")
        if origin is None or origin not in self._origins:
            return (vary,)
        return ((b"access-control-allow-origin", origin), exposed, vary)

    def unread(self, origin: bytes) -> Headers:
        """The headers of an answer to bytes that never became a request. If not even their origin was read, they are
        for the only one that is allowed."""
        only = next(iter(self._origins)) if len(self._origins) == 1 else b""
        return self.headers({b"origin": origin or only})

    def preflight(self, header_map: Mapping[bytes, bytes]) -> Headers | None:
        """The headers of the answer to a preflight; None where the request is none, or its origin is not allowed."""
        if b"access-control-request-method" not in header_map or b"origin" not in header_map:
            return None
        allowed = self.headers(header_map)
        if len(allowed) < 2:
            return None
        asked = header_map.get(b"access-control-request-headers", b"")
        names = asked if asked and _NAMES.fullmatch(asked) else b"*"
        answer: Headers = (
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", names),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        )
        if header_map.get(b"access-control-request-private-network") == b"true":
            answer += ((b"access-control-allow-private-network", b"true"),)
        return (*(pair for pair in allowed if pair[0] != b"access-control-expose-headers"), *answer)


def without_cors(kept: Sequence[bytes]) -> list[bytes]:
    """The header lines of a pod without its own answer to the question, which would contradict the gateway's."""
    lines = b"".join(kept).split(b"\r\n")
    return [line + b"\r\n" for line in lines if line and not line.startswith(b"access-control-") and not _varies(line)]


def _varies(line: bytes) -> bool:
    name, _, value = line.partition(b": ")
    return name == b"vary" and value.strip().lower() == b"origin"
