"""Finds a field's value in a multipart form, by the form's own boundary. Pure; knows no field by name.

It is stricter than engines are. A form that two parsers may read differently is refused: the gateway would choose the
pool by one model, and the engine load another. So a field comes once, lines end with CRLF, and every boundary stands
where RFC 2046 puts it. The body is searched once by `bytes.find`, and what is read besides is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from router.errors import BadRequest

MAX_PARTS: Final = 2000
"""Parts of a form; Starlette, and so vLLM, takes 1,000 fields and 1,000 files."""

MAX_HEAD_BYTES: Final = 8192
"""Bytes of a part's headers."""

MAX_BOUNDARY: Final = 200
"""Bytes of a boundary. RFC 2046 allows 70, and clients that exceed it work with most servers."""

_FORM: Final = b"multipart/form-data"
_MULTIPART: Final = b"multipart/"

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rb'[ \t]*+;[ \t]*+(%b)=(?:"((?:[^"\\]|\\.)*+)"|([^\s";,\\]+))[ \t]*+' % _TOKEN)
_HEADER: Final = re.compile(rb"(%b):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*)" % _TOKEN)
_BOUNDARY: Final = re.compile(rb"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,%d}(?<! )" % MAX_BOUNDARY)
_UTF8: Final = frozenset((b"utf-8", b"utf8", b"us-ascii"))
_AS_IT_IS: Final = frozenset((b"7bit", b"8bit", b"binary"))


class FormPart(NamedTuple):
    """One part of a form, by its place in the body."""

    headers: bytes
    """Without the blank line after them."""
    start: int
    end: int
    """Of the value."""


def is_form(content_type: bytes) -> bool:
    """Whether a body of this type is read as a form; the case of letters does not matter. True for other kinds of
    multipart too, which `field` refuses."""
    return content_type[: len(_MULTIPART)].lower() == _MULTIPART


def field(content_type: bytes, body: bytes, name: bytes) -> tuple[int, int] | None:
    """Where the value of the field `name` begins and ends; None where the form has no such field. Raises BadRequest for
    a form that may be read in two ways, and for one that has the field twice."""
    found: tuple[int, int] | None = None
    for part in _parts(body, b"--" + _boundary(content_type)):
        disposition, encoding = _headers(part.headers)
        parameters = _parameters(disposition, b"form-data")
        if parameters.get(b"name") != name:
            continue
        if found is not None:
            raise _refused(f"it has the field {name.decode()!r} twice")
        if b"filename" in parameters or b"filename*" in parameters:
            raise _refused(f"its field {name.decode()!r} is a file")
        if encoding not in _AS_IT_IS:
            raise _refused(f"its field {name.decode()!r} is encoded: send it as it is")
        found = part.start, part.end
    return found


def _boundary(content_type: bytes) -> bytes:
    parameters = _parameters(content_type, _FORM)
    if parameters.get(b"charset", b"utf-8").lower() not in _UTF8:
        raise _refused("its charset is not UTF-8")
    boundary = parameters.get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(boundary):
        raise _refused("its content-type has no boundary of 1 to 200 printable characters")
    return boundary


def _parts(body: bytes, delimiter: bytes) -> Iterator[FormPart]:
    """The parts from the first boundary to the closing one."""
    line = b"\n" + delimiter
    at = 2 if body.startswith(b"\r\n") else 0
    if not body.startswith(delimiter, at):
        raise _refused("it does not begin with its boundary")
    at += len(delimiter)
    for _ in range(MAX_PARTS + 1):
        if body.startswith(b"--", at):
            if body[at + 2 :].strip(b"\r\n"):
                raise _refused("it goes on after its closing boundary")
            return
        if not body.startswith(b"\r\n", at):
            raise _refused("a boundary is followed by neither a line's end nor '--'")
        blank = body.find(b"\r\n\r\n", at, at + MAX_HEAD_BYTES)
        end = body.find(line, blank + 3)
        if blank <= at or end < 0:
            raise _refused("a part has no end, no headers, or too many of them")
        if end == blank + 3 or body[end - 1] != 0x0D:
            raise _refused("a boundary does not stand on a line of its own, ended by CRLF")
        yield FormPart(body[at + 2 : blank], blank + 4, end - 1)
        at = end + len(line)
    raise _refused(f"it has more than {MAX_PARTS} parts")


def _headers(head: bytes) -> tuple[bytes, bytes]:
    """A part's Content-Disposition and its Content-Transfer-Encoding, in lower case."""
    found: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _refused("a line among a part's headers is no header")
        name = header[1].lower()
        if name in found:
            raise _refused("a part has a header twice")
        found[name] = header[2]
    encoding = found.get(b"content-transfer-encoding", b"binary")
    return found.get(b"content-disposition", b""), encoding.strip().lower()


def _parameters(header: bytes, kind: bytes) -> dict[bytes, bytes]:
    """The parameters of a header of this kind, by lower-case name, with their quotes taken off."""
    value = header.rstrip(b" \t;")
    if value[: len(kind)].lower() != kind or b'\\\\"' in value:
        raise _refused(f"a header is not {kind.decode()!r} with plain parameters")
    found: dict[bytes, bytes] = {}
    at = len(kind)
    while at < len(value):
        parameter = _PARAMETER.match(value, at)
        if parameter is None:
            raise _refused("a header's parameters are not 'name=value' or 'name=\"value\"'")
        name, at = parameter[1].lower(), parameter.end()
        text = parameter[3] if parameter[2] is None else parameter[2]
        if name in found or name.startswith(b"name*") or (name == b"name" and b"\\" in text):
            raise _refused("a part's name can be read in two ways")
        found[name] = text
    return found


def _refused(why: str) -> BadRequest:
    return BadRequest(f"The form cannot be read safely: {why}.")
