"""Stage 2: body -> `Call`, what routing needs to know of a request. Pure: bytes in, a value or a ClientError out.

A body is decoded once, into a struct with the few fields that routing reads (`openai_fields.py`). The prompt stays
`msgspec.Raw`: bytes to count and to hash. All other fields reach the pod unchanged and unread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from router.dataplane.request.json_skim import FROM_BYTES, SkimmedJson, abridge, original
from router.dataplane.request.openai_fields import NONE, RequestBody, decode
from router.errors import BadRequest, MissingModel
from schedulers.types import BYTES_PER_TOKEN

IMAGE_TOKENS: Final = 1024
"""Tokens that an inline image or audio clip counts for, instead of its base64 length."""

MAX_TOKENS: Final = 1 << 24
"""Upper bound of a requested answer's tokens: a client's 1e308 would spoil every sum it is added to."""

_DATA_BYTES: Final = IMAGE_TOKENS * BYTES_PER_TOKEN
"""Base64 text of at least this many bytes counts as an image; shorter text counts by its length."""
_BLANK: Final = 0x20
_NEAR: Final = 24
"""How many bytes are searched for a blank one by one before `rfind` is called: 0.2 us faster where words are short."""
_INLINE_DATA: Final = re.compile(rb"[A-Za-z0-9+/=]{%d,}" % _DATA_BYTES)
_TOKEN_IDS: Final = re.compile(rb"\[\s*\[?\s*\d")
_MODEL_PART: Final = re.compile(
    rb'\r\ncontent-disposition:[^\r\n]*;[ \t]*name=(?:"model"|model)[ \t]*(?:;[^\r\n]*)?\r\n'
    rb"(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n",
    re.IGNORECASE,
)
"""The value of a form's `model`. It begins with bytes that files seldom hold: 26 ms for 25 MB of audio."""


class Call(NamedTuple):
    """What routing needs of the body."""

    model: str
    prompt: Sequence[bytes | memoryview]
    """The prompt's raw bytes, in the order an engine's template lays them out: what prefixes are hashed over."""
    prompt_tokens: int
    """Estimated from the number of bytes; at least 1."""
    max_tokens: int
    """The client's limit on the answer; 0 without one."""
    stream: bool
    session_key: str
    """`prompt_cache_key` or `user`; empty without either."""


def read(content_type: bytes, body: bytes) -> Call:
    """The `Call` of a POST body. Raises BadRequest or MissingModel, each naming the field and what is wrong."""
    if content_type.startswith(b"multipart/form-data"):
        return _multipart(body)
    if len(body) >= FROM_BYTES:
        fields, prompt = _read_abridged(body)
    else:
        fields = _decode(body)
        prompt = _prompt(fields)
    model = fields.model
    if not model:
        raise MissingModel("The body names no model: set 'model' to one that GET /v1/models lists.", param="model")
    return Call(
        model,
        prompt,
        _tokens(prompt, len(body) > 4096 and _may_hold_data(body)),
        _limit(fields),
        fields.stream is True,
        fields.prompt_cache_key or fields.user or "",
    )


def with_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """The body with another `model`, for an alias; the bytes of all other values stay as they are."""
    if content_type.startswith(b"multipart/form-data"):
        found = _MODEL_PART.search(body)
        return body if found is None else body[: found.start(1)] + model.encode() + body[found.end(1) :]
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def _decode(body: bytes) -> RequestBody:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(*_explain(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}") from None


def _read_abridged(body: bytes) -> tuple[RequestBody, Sequence[bytes | memoryview]]:
    """The fields and the prompt of a large body. Decodes the whole body where the cut one may mean something else."""
    short = abridge(body)
    if short is not None:
        try:
            fields = decode(short.text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # the error for the whole body names the right position
        else:
            prompt = _unabridged(body, short, _prompt(fields))
            if prompt is not None:
                return fields, prompt
    fields = _decode(body)
    return fields, _prompt(fields)


def _unabridged(
    body: bytes, short: SkimmedJson, prompt: Sequence[bytes | memoryview]
) -> Sequence[bytes | memoryview] | None:
    """The parts of a prompt as they are in the whole body; None where a cut lies outside the prompt."""
    whole = memoryview(body)
    parts: list[bytes | memoryview] = []
    cuts, cuts_in_prompt = short.cuts, 0
    for part in prompt:
        at = short.text.find(part)
        end = at + len(part)
        parts.append(whole[original(cuts, at) : original(cuts, end)])
        for place, _ in cuts:
            cuts_in_prompt += at < place < end
    return parts if cuts_in_prompt == len(cuts) else None


def _prompt(fields: RequestBody) -> Sequence[bytes | memoryview]:
    messages, salt = fields.messages, fields.cache_salt
    if messages is not NONE and fields.tools is NONE and fields.system is NONE and salt is NONE:
        return (memoryview(messages),)  # the common chat, kept free of the list below: 0.5 against 0.8 us
    order = (
        salt,
        fields.tools,
        fields.system,
        fields.instructions,
        messages,
        fields.prompt,
        fields.input,
        fields.query,
        fields.text_1,
        fields.documents,
    )
    return tuple([memoryview(part) for part in order if part is not NONE])


def _tokens(prompt: Sequence[bytes | memoryview], may_hold_data: bool) -> int:
    total = 0
    for part in prompt:
        if _TOKEN_IDS.match(part):
            total += bytes(part).count(b",") + 1
        elif may_hold_data:
            inline = _INLINE_DATA.findall(part)
            total += (len(part) - sum(map(len, inline))) // BYTES_PER_TOKEN + IMAGE_TOKENS * len(inline)
        else:
            total += len(part) // BYTES_PER_TOKEN
    return max(1, total)


def _limit(fields: Any) -> int:
    # Untyped: compiled by mypyc, a number that is declared a float must fit into one, and 400 digits do not.
    asked = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens or 0
    return max(0, int(min(asked, MAX_TOKENS)))


def _may_hold_data(body: bytes) -> bool:
    # On 32 KB of prose, searching for the data itself costs 780 us, for the marks of data URLs, Anthropic's sources and
    # OpenAI's audio 10 us (five bytes each, because CPython's search skips faster for needles under six), and for a
    # word as long as data 1.5 us.
    return _has_long_word(body) and (b"ase64" in body or b"_audi" in body)


def _has_long_word(body: bytes) -> bool:
    """Whether there are `_DATA_BYTES` without a blank. In prose, only a few bytes of each such stretch are read."""
    at, last = 0, len(body) - _DATA_BYTES
    while at <= last:
        blank = at + _DATA_BYTES - 1
        near = blank - _NEAR
        while blank > near and body[blank] != _BLANK:
            blank -= 1
        if blank == near:
            blank = body.rfind(b" ", at, near + 1)
            if blank < 0:
                return True
        at = blank + 1
    return False


def _multipart(body: bytes) -> Call:
    found = _MODEL_PART.search(body)
    if found is None or not found.group(1):
        raise MissingModel("The form has no 'model' field: add one that GET /v1/models lists.", param="model")
    try:
        model = found.group(1).decode()
    except UnicodeDecodeError:
        raise BadRequest("The form's 'model' field is not UTF-8.", param="model") from None
    return Call(model, (), max(1, len(body) // 1024), 0, False, "")


def _explain(error: msgspec.ValidationError) -> tuple[str]:
    what, _, where = str(error).partition(" - at ")
    if where:
        return (f"The body's field {where.strip('`$.')!r} is wrong: {what[:1].lower()}{what[1:]}.",)
    return (f"The body must be a JSON object: {what[:1].lower()}{what[1:]}.",)
