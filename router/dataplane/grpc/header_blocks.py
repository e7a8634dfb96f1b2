"""Blocks of headers: compressed and read by hpack, and whether they are what HTTP/2 allows at their place. Knows no
stream.

Most blocks of a connection are those of the call before, to the byte: what they mean is kept for as long as no block
changes the compression's table.
"""

from __future__ import annotations

import re
from typing import Final

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from router.dataplane.grpc.frames import ConnectionBroken, ErrorCode
from router.dataplane.grpc.status import Headers

MAX_LIST_BYTES: Final = 65_536
"""Of the headers of one block, as HTTP/2 counts them."""

TABLE_BYTES: Final = 4096
"""Of the compression's table in either direction, at most."""

REQUEST, ANSWER, TRAILERS = 0, 1, 2

UNSAID: Final = -1
"""The length of a body that does not say it."""

_DIGITS: Final = 18
"""Of a content-length: int() raises an error for thousands of them."""

_SECRET: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key"))
"""Never put into a table, from which others on the connection could guess them (RFC 7541, 7.1.3)."""

_KEPT: Final = 16
_KEPT_BYTES: Final = 128
"""Blocks of a connection that are remembered, and the longest of them."""

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?)?")
_HOP: Final = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_PSEUDO: Final = (
    (frozenset((b":method", b":scheme", b":path")), frozenset((b":authority",))),
    (frozenset((b":status",)), frozenset[bytes]()),
    (frozenset[bytes](), frozenset[bytes]()),
)
"""By kind: the pseudo-headers that a block has to have, and those that it may have."""


def allowed(headers: Headers, kind: int) -> bool:
    """Whether these may stand at their place (RFC 9113, 8.2 and 8.3)."""
    pseudo, regular, sized = list[bytes](), False, False
    for name, value in headers:
        if _VALUE.fullmatch(value) is None:
            return False
        if name[:1] == b":":
            pseudo.append(name)
            if regular or not value:
                return False
        elif _NAME.fullmatch(name) is None or name in _HOP or (name == b"te" and value != b"trailers"):
            return False
        elif name == b"content-length" and (sized or len(value) > _DIGITS or not value.isdigit()):
            return False
        else:
            regular, sized = True, sized or name == b"content-length"
    needed, optional = _PSEUDO[kind]
    found = frozenset(pseudo)
    return len(found) == len(pseudo) and needed <= found and found - needed <= optional


def length_of(headers: Headers) -> int:
    """The content-length; UNSAID where there is none, and in an answer that has the length of another one."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
        if name == b":status" and value == b"304":
            break
    return UNSAID


class HeaderBlocks:
    """The compression of one connection, both ways."""

    def __init__(self) -> None:
        self._decoder = Decoder(MAX_LIST_BYTES)
        self._encoder = Encoder()
        self._read: dict[tuple[int, bytes], Headers | None] = {}
        self._written: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}

    def limit_table(self, size: int) -> None:
        """The other side's table holds so many bytes."""
        self._written.clear()
        encoder = self._encoder
        encoder.header_table_size = min(size, TABLE_BYTES)
        if changes := encoder.table_size_changes:  # of many the least and the last count; hpack forgets one said twice
            encoder.table_size_changes = sorted({min(changes), changes[-1]})
            encoder.header_table.resized = True

    def decode(self, block: bytes, kind: int) -> Headers | None:
        """The headers of a block; None for what HTTP/2 does not allow. Raises ConnectionBroken."""
        known = self._read
        if (kind, block) in known:
            return known[kind, block]
        before = _state(self._decoder)
        try:
            found = [(bytes(pair[0]), bytes(pair[1])) for pair in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "headers are too long") from None
        except (HPACKError, ValueError) as error:
            raise ConnectionBroken(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        if kind != REQUEST:  # gRPC's servers send their messages' blanks
            found = [(name, value.strip(b" \t")) for name, value in found]
        result = found if allowed(found, kind) else None
        if _state(self._decoder) != before or len(known) >= _KEPT:
            known.clear()
        elif len(block) <= _KEPT_BYTES:
            known[kind, block] = result
        return result

    def encode(self, headers: Headers) -> bytes:
        """A block."""
        key = tuple(headers)
        if (found := self._written.get(key)) is not None:
            return found
        before = _state(self._encoder)
        block: bytes = self._encoder.encode([(name, value, name in _SECRET) for name, value in headers])
        if _state(self._encoder) != before or len(self._written) >= _KEPT:
            self._written.clear()
        elif len(block) <= _KEPT_BYTES:
            self._written[key] = block
        return block


def _state(side: Decoder | Encoder) -> tuple[int, bool, int, int, tuple[bytes, bytes] | None]:
    """What differs once a table has changed: entries are new objects, come in at its front and leave at its end. The
    first is kept alive, or another could get its id."""
    table = side.header_table
    entries = table.dynamic_entries
    first = entries[0] if entries else None
    return table.maxsize, table.resized, len(entries), id(first), first
