"""Ids of state that lives on a pod: those that a request names, and those that a pod's answer gives out. Pure.

Engines keep responses, conversations, files, batches and media jobs in the process that made them, and name them by
ids. A request names them in its path (`/v1/responses/{id}/cancel`) or in its body (`previous_response_id`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from router.dataplane.request.json_skim import FROM_BYTES, abridge

MAX_REFS: Final = 8
"""Ids of a request that are looked up."""

MAX_ID_BYTES: Final = 512

READ_BYTES: Final = 65536
READ_PARTS: Final = 4096
"""How much of an answer is read for ids, in bytes, and in strings, brackets, colons and commas, of which each takes a
microsecond or two. They stand at its beginning."""

COLLECTIONS: Final[bytes] = (
    rb"/v1/(?:responses|conversations|batches|files|uploads|videos|vector_stores|threads|assistants|evals|containers"
    rb"|(?:video|audio|images|fine_tuning)/[a-z_]+|messages/batches|chat/completions)"
)
"""Beginning of the paths of a collection."""

COLLECTION: Final = re.compile(COLLECTIONS + rb"/([^/]+)")
"""Paths of one thing in a collection of an OpenAI- or Anthropic-like API."""

NAMES: Final[bytes] = (
    rb'"(?:previous_response_id|conversation|input_file_id|file_id|training_file|validation_file|batch_id|video_id'
    rb'|thread_id|assistant_id|vector_store_id|container)"\s*+:\s*+'
)
"""Fields of a JSON body that name state, wherever they stand: a file may be part of a message."""

_REF: Final = re.compile(
    rb'(?:%b(?:\{\s*+"id"\s*+:\s*+)?|"(?:file_ids|vector_store_ids)"\s*+:\s*+\[\s*+)"([^"\\]{1,%d})"'
    % (NAMES, MAX_ID_BYTES)
)
"""Of a list the first id: what is used together was made on one pod, or no pod has all of it."""

_DIGIT: Final = re.compile("[0-9]")
_STORE_FALSE: Final = re.compile(rb'"store"\s*+:\s*+false')
_PLAIN: Final = re.compile(rb'[^"{}\[\]:,]*+')
_STRING: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTE: Final = 0x22
_TOO_LONG: Final = b'"' + b"-" * (MAX_ID_BYTES + 1)
_NESTED: Final = (b"response", b"conversation")
"""Objects at the top of an answer whose `id` names state too: `response` in the events of a stream."""


def thing_in(path: bytes) -> str:
    """The id in a path of one thing in a collection, known or not; empty for any other path."""
    found = COLLECTION.match(path)
    return "" if found is None or len(found[1]) > MAX_ID_BYTES else _text(unquote_to_bytes(found[1]))


def may_be_id(text: str) -> bool:
    """Whether this may be an id that an engine made: it has a digit. A client may choose an id (vLLM's `request_id`),
    and one like `speech` would lead all requests under that path to the pod of that client's state."""
    return _DIGIT.search(text) is not None


def in_path(path: bytes) -> list[str]:
    """The parts of a path below /v1/ that may be ids."""
    parts = path.split(b"/")[3 : 3 + MAX_REFS]
    texts = [_text(unquote_to_bytes(part)) for part in parts if 0 < len(part) <= MAX_ID_BYTES]
    return [text for text in texts if may_be_id(text)]


def in_body(content_type: bytes, body: bytes) -> list[str]:
    """The ids that a JSON body names."""
    if not body or content_type.startswith(b"multipart/"):
        return []
    found = _REF.findall(_short(body))[:MAX_REFS]
    return list(dict.fromkeys(map(_text, found)))


def keeps_nothing(body: bytes) -> bool:
    """Whether the request asks the engine to keep no state, so that no later request can name its id."""
    return b'"store"' in body and _STORE_FALSE.search(_short(body)) is not None


def _short(body: bytes) -> bytes:
    short = abridge(body) if len(body) >= FROM_BYTES else None
    return body if short is None else short.text


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _kept(begun: bytes) -> bytes:
    """What is kept of a string that has not ended: of one that is too long for an id, as much, and its last escape."""
    if len(begun) <= 2 * MAX_ID_BYTES:
        return begun
    escapes = len(begun) - len(begun.rstrip(b"\\"))
    return _TOO_LONG + b"\\" * (escapes % 2)


class IdReader:
    """Finds the ids in an answer as it comes: JSON, or a stream of events that hold JSON. Each byte is read once, of at
    most `READ_BYTES`."""

    __slots__ = ("_in_value", "_key", "_parts", "_path", "_rest", "left")

    def __init__(self) -> None:
        self.left = READ_BYTES
        """Bytes that are still read; at 0 it is done."""
        self._parts = READ_PARTS
        """Of them, those that are still read."""
        self._rest = b""
        """The beginning of a string that has not ended."""
        self._path: list[bytes] = []
        """For each open bracket the key before it; `[` for an array's."""
        self._key = b""
        self._in_value = False

    def feed(self, data: bytes) -> Sequence[str]:
        """The ids in further bytes, without those of the bytes before."""
        data = data[: self.left]
        self.left -= len(data)
        text, at, found = self._rest + data, 0, list[str]()
        self._rest = b""
        while (at := _PLAIN.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing too
            string = _STRING.match(text, at) if text[at] == _QUOTE else None
            if string is None and text[at] == _QUOTE:
                self._rest = _kept(text[at:])
                break
            self._parts -= 1
            if not self._parts:
                self.left = 0
                break
            if string is not None:
                if not self._in_value:
                    self._key = string[1]
                elif self._is_id() and 0 < len(string[1]) <= MAX_ID_BYTES and b"\\" not in string[1]:
                    found.append(_text(string[1]))
                at = string.end()
                continue
            self._mark(text[at : at + 1])
            at += 1
        return found

    def _mark(self, mark: bytes) -> None:
        """Follow a bracket, colon or comma."""
        if mark in b"{[":
            self._path.append(self._key if mark == b"{" else b"[")
            self._key = b""
            self._in_value = mark == b"["
        elif mark in b"}]":
            if self._path:
                self._path.pop()
            self._in_value = False
        else:
            self._in_value = mark == b":" or (bool(self._path) and self._path[-1] == b"[")

    def _is_id(self) -> bool:
        """Whether the value of the present key is an id that later requests may name."""
        path, key = self._path, self._key
        if len(path) == 1:
            return path[0] != b"[" and (key == b"id" or key.endswith(b"_file_id") or key == b"conversation")
        return key == b"id" and len(path) == 2 and path[1] in _NESTED
