"""The state on pods that a tenant's request names, read so that no spelling of a name is missed. Pure.

Without tenants an id that is overlooked costs one more attempt: a pod answers that it has no such thing. With tenants
one could read what another made, so here a body is read as engines read it, and what may be read in two ways is
refused. Only requests under paths with state come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from router.dataplane.request import lenient_json, state_refs
from router.errors import BadRequest, PermissionDenied

MOST_ESCAPES: Final = 20_000
"""Letters and digits of a body that may be escaped: each takes half a microsecond to read."""

MOST_NAMED: Final = 64
"""Ids that one request may name: each may be a question to the store."""

_LIST: Final = re.compile(state_refs.COLLECTIONS + rb"/*")
"""Paths of a whole collection."""

_THING: Final = re.compile(state_refs.COLLECTIONS + rb"/[^/]+/*")
"""Paths of one thing."""

_SLASHES: Final = re.compile(rb"//+")
_NAMES: Final = re.compile(state_refs.NAMES + rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_ITEM: Final = re.compile(
    rb'"type"\s*+:\s*+"item_reference"|[\[,]\s*+\{\s*+"id"\s*+:\s*+"(?:[^"\\]|\\.)*+"\s*+\}', re.DOTALL
)
"""An item of a response in place of its content: by its type, or an object in a list with nothing but an id."""
_LISTS: Final = re.compile(rb'"(?:file_ids|vector_store_ids)"\s*+:\s*+\[')
_IDS: Final = re.compile(rb'\s*+(?:"([^"\\]*+)"\s*+(?:,\s*+|(?=\])))')
_ESCAPE: Final = re.compile(rb"\\u00(?!2[267bB]|3[cCeE]|5[cC]|60)([2-7][\da-fA-F])")
"""What no library escapes. Not in it: a quote and a backslash, which would end the text that they are in, and what is
escaped for HTML; no name has any of these."""
_NOTHING: Final = msgspec.Raw(b"null")
_NO_TEXT: Final = (b"null", b'""')


class _Fields(msgspec.Struct, gc=False):
    """The fields at the top of a body that are no plain texts, or must not be there."""

    conversation: msgspec.Raw = msgspec.Raw(b"null")
    request_id: msgspec.Raw = msgspec.Raw(b"null")


class _Thing(msgspec.Struct, gc=False):
    """An object that stands for a thing. The rest of it is skipped: of 32 MB of `[],` Python would make 700 MB."""

    id: msgspec.Raw = msgspec.Raw(b"null")


_decode: Final = msgspec.json.Decoder(_Fields).decode
_decode_thing: Final = msgspec.json.Decoder(_Thing).decode


def plain(path: bytes) -> bytes:
    """The path as an engine, or a proxy before it, may read it: without percent-encoding and doubled slashes."""
    return _SLASHES.sub(b"/", unquote_to_bytes(path))


def gives_ids_out(method: bytes, path: bytes) -> bool:
    """Whether an answer under a `plain` path says which ids the tenant has. What is read below a thing is its content,
    such as that of a file, which may be anything that the tenant wrote: an id in it is not one that a pod made."""
    return method not in (b"GET", b"HEAD") or _THING.fullmatch(path) is not None


def named(method: bytes, path: bytes, content_type: bytes, body: bytes) -> list[str]:
    """The ids that a request names, by its `plain` path: its tenant must have made all of them. Raises PermissionDenied
    for a list of what all tenants made, and for an id that the client chose itself; BadRequest for what cannot be
    read."""
    if method != b"POST" and _LIST.fullmatch(path):
        raise PermissionDenied(
            "A list of what pods keep would show what other tenants keep. Read each thing by its id."
        )
    found = _in_path(method, path, body)
    if body:
        found += islice(_in_body(content_type, body), MOST_NAMED + 1)
    if len(found) > MOST_NAMED:  # empty ones count: each takes a microsecond to find
        raise BadRequest(f"The request names more than {MOST_NAMED} things that pods keep.")
    return list(dict.fromkeys(filter(None, found)))


def _in_path(method: bytes, path: bytes, body: bytes) -> list[str]:
    """The id of the thing that the path is about, or all its parts that may be ids."""
    found = state_refs.COLLECTION.match(path)
    if found is None:
        parts = path.split(b"/")[3:]
        return [_text(part) for part in parts if state_refs.may_be_id(_text(part))]
    id = _text(found[1])
    is_action = method == b"POST" and body and found.end() == len(path) and not state_refs.may_be_id(id)
    return [] if is_action else [id]  # an action such as /v1/responses/compact


def _in_body(content_type: bytes, body: bytes) -> Iterator[str]:
    if content_type[:10].lower() == b"multipart/":
        return
    try:
        text = lenient_json.in_utf8(body)
    except lenient_json.UnreadableBody:
        return  # no engine reads it as JSON either
    if text.lstrip()[:1] == b"{":
        yield from _at_the_top(text)
    if b"\\u00" in text:
        text = _without_escapes(text)
    for match in _NAMES.finditer(text):
        yield _plain(match[1])
    if _ITEM.search(text) is not None:
        raise BadRequest("Items are not read by their ids here: send what they hold, or previous_response_id.")
    for match in _LISTS.finditer(text):
        at = match.end()
        while (each := _IDS.match(text, at)) is not None:
            yield _plain(each[1])
            at = each.end()
        if text[at : at + 1] != b"]":
            raise BadRequest("A list of ids has something else in it than plain texts.")


def _at_the_top(text: bytes) -> Iterator[str]:
    """A conversation that is an object; its id may stand anywhere in it."""
    try:
        try:
            fields = _decode(text)
        except msgspec.MsgspecError:
            fields = _decode(lenient_json.readable(text))
        conversation = bytes(fields.conversation)
        own = _decode_thing(conversation).id if conversation.startswith(b"{") else _NOTHING
        id: Any = msgspec.json.decode(own) if bytes(own).startswith(b'"') else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from None
    if bytes(fields.request_id) not in _NO_TEXT:
        raise PermissionDenied("Ids of what pods keep are made by the engine: leave out the field 'request_id'.")
    if id:
        yield id


def _without_escapes(text: bytes) -> bytes:
    if sum(1 for _ in islice(_ESCAPE.finditer(text), MOST_ESCAPES + 1)) > MOST_ESCAPES:
        raise BadRequest(f"The body has more than {MOST_ESCAPES} letters and digits that are escaped.")
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _plain(id: bytes) -> str:
    if b"\\" in id:
        raise BadRequest("An id has escapes in it; no id that an engine makes needs one.")
    return _text(id)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
