"""Reads bodies that msgspec refuses and engines accept, as Python's `json` and pydantic read them. Pure; knows the
types of `RequestBody`'s fields, not what they mean. A body that msgspec reads does not come here.

Engines decode a body with `json.loads`. To it UTF-8 with a byte-order mark, UTF-16 and UTF-32 are JSON, and so are NaN,
Infinity and lone surrogates. Pydantic then reads "64" as a number, and "true" or 1 as a truth. The body is forwarded as
it came; only what routing reads of it passes this file.

`json.loads` is not used on a whole body: of 32 MB of `[],` it makes 700 MB. What msgspec refuses is replaced by what it
accepts, at the speed of `bytes.replace`, in strings too; a model whose name contains such bytes is not read at all.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

from router.dataplane.request.openai_fields import NONE, RequestBody

_REPLACED: Final = (
    (b"NaN", b"0.0"),
    (b"Infinity", b"0.0"),
    # Escapes of surrogates become those of Korean syllables. A pair is not looked for: it is changed as well.
    (b"\\ud", b"\\uc"),
    (b"\\uD", b"\\uC"),
)

_TRUTHS: Final = {
    **dict.fromkeys((True, "1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys((False, "0", "off", "f", "false", "n", "no"), False),
}
"""What pydantic takes for a truth; words in lower case. 1, 0, 1.0 and 0.0 equal the first of each."""

_TEXTS: Final = ("model", "user")
"""Texts that engines read: pydantic makes no text of a number."""

_SHORT: Final = 512
"""Bytes of the longest number or truth that is looked at."""

_FIELDS: Final = {field.name: str(field.type) for field in msgspec.structs.fields(RequestBody)}
_RawBody: Final = msgspec.defstruct("_RawBody", [(name, msgspec.Raw, NONE) for name in _FIELDS], gc=False)
_decode: Final = msgspec.json.Decoder(_RawBody).decode


class UnreadableBody(ValueError):
    """The bytes are no JSON object for engines either, or a field has a value that engines refuse."""


def read(body: bytes) -> RequestBody:
    """The fields of a body. Raises UnreadableBody."""
    text = in_utf8(body)
    try:
        raw: Any = _decode(readable(text))
        values = {name: _value(name, part) for name in _FIELDS if (part := bytes(getattr(raw, name)))}
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableBody(str(error)) from None
    if bytes(raw.model) not in text:
        raise UnreadableBody("the name of its model contains what is no JSON")
    return RequestBody(**values)


def readable(text: bytes) -> bytes:
    """The text with what msgspec accepts in place of what it refuses and `json.loads` reads."""
    for refused, accepted in _REPLACED:
        text = text.replace(refused, accepted)
    return text


def in_utf8(body: bytes) -> bytes:
    """The body as UTF-8 without a byte-order mark, whichever of JSON's encodings it has. Raises UnreadableBody."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise UnreadableBody(str(error)) from None


def with_field(body: bytes, name: str, value: str | int) -> bytes:
    """The body, which `read` has read, with another value of one field. Of two fields with one name `json.loads` takes
    the last."""
    text = in_utf8(body).rstrip(b" \t\r\n")
    comma = b"" if text[:-1].rstrip(b" \t\r\n") == b"{" else b","
    return text[:-1] + comma + msgspec.json.encode(name) + b":" + msgspec.json.encode(value) + b"}"


def _value(name: str, part: bytes) -> Any:
    kind = _FIELDS[name]
    if "Raw" in kind:
        return msgspec.Raw(part)
    if "str" in kind:
        if part.startswith(b'"') or part == b"null":
            return json.loads(part.decode())
        if name in _TEXTS:
            raise UnreadableBody(f"its {name} is no text")
        return None  # a key that engines do not read
    if len(part) > _SHORT:
        raise UnreadableBody(f"its {name} is longer than engines read")
    value = json.loads(part)
    if value is None:
        return None
    return _number(value) if "int" in kind else _truth(value)


def _number(value: object) -> int | float:
    if isinstance(value, int):
        return int(value)  # a truth is 1 or 0
    number = float(value) if isinstance(value, str | float) else math.nan
    if not math.isfinite(number):
        raise UnreadableBody(f"{value!r} is no number")
    return number


def _truth(value: object) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if not isinstance(word, str | int | float) or word not in _TRUTHS:
        raise UnreadableBody(f"{value!r} is neither true nor false")
    return _TRUTHS[word]
