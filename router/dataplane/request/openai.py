"""Stage 2: body -> `Call`, what routing needs to know of a request. Pure: bytes in, a value or a ClientError out.

A body is decoded once, into a struct with the few fields that routing reads (`openai_fields.py`). The prompt stays
`msgspec.Raw`: bytes to count and to hash. All other fields reach the pod unchanged and unread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from router.dataplane.request import lenient_json
from router.dataplane.request.inline_data import IMAGE_TOKENS, inline_data, may_hold_data
from router.dataplane.request.json_skim import FROM_BYTES, SkimmedJson, abridge, original
from router.dataplane.request.multipart import field, is_form
from router.dataplane.request.openai_fields import NONE, RequestBody, decode
from router.errors import BadRequest
from schedulers.types import BYTES_PER_TOKEN

# A named tuple's own constructor costs 0.35 us, this 0.15 us.
_new: Final = tuple.__new__

MAX_TOKENS: Final = 1 << 24
"""Upper bound of a requested answer's tokens: a client's 1e308 would spoil every sum it is added to."""

_JSON: Final = b"application/json"
_MANY_FIELDS: Final = 100_000
"""Fields of a body above which it is not taken apart for an alias: 32 MB of them would make a gigabyte of objects."""
_TOKEN_IDS: Final = re.compile(rb"\[\s*+\[?+\s*+\d")
"""The beginning of a list of token ids. Possessive: of a megabyte of blanks none is read twice."""


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
    named: bool = False
    """Whether the session was found already, if the request has one."""


def read(content_type: bytes, body: bytes) -> Call:
    """The `Call` of a POST body. Raises BadRequest, which names the field and what is wrong."""
    if not content_type.startswith(_JSON) and is_form(content_type):
        return _form(content_type, body)
    if len(body) >= FROM_BYTES:
        fields, prompt = _read_abridged(body)
    else:
        fields = _decode(body)
        prompt = _prompt(fields)
    return _new(
        Call,
        (
            fields.model or "",
            prompt,
            _tokens(prompt, len(body) > 4096 and may_hold_data(body)),
            _limit(fields),
            fields.stream is True,
            fields.prompt_cache_key or fields.user or "",
            False,
        ),
    )


def of_query(target: bytes) -> Call:
    """The `Call` of a request without a body, such as a WebSocket's. Its model is empty where the query names none.
    Raises BadRequest for a query that names two."""
    named = [part for part in target.partition(b"?")[2].split(b"&") if _names_model(part)]
    models = {unquote_to_bytes(part.partition(b"=")[2].replace(b"+", b" ")) for part in named}
    if len(models) > 1:  # some engines read the first one, others the last
        raise BadRequest("The query names two models.", param="model")
    model = models.pop() if models else b""
    return Call(model.decode("utf-8", "replace"), (), 1, 0, True, "")


def with_query_model(target: bytes, model: str) -> bytes:
    """The target with another model in its query, for an alias."""
    path, _, query = target.partition(b"?")
    others = [part for part in query.split(b"&") if part and not _names_model(part)]
    return path + b"?" + b"&".join([*others, b"model=" + quote(model, safe="").encode()])


def _names_model(part: bytes) -> bool:
    """Whether a part of a query has the model, in any spelling of its name."""
    name = part.partition(b"=")[0]
    return (unquote_to_bytes(name) if b"%" in name else name) == b"model"


def with_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """The body with another `model`, for an alias; the bytes of all other values stay as they are."""
    if is_form(content_type):
        start, end = field(content_type, body, b"model") or (0, 0)
        return body[:start] + model.encode() + body[end:] if end else body
    return with_field(body, "model", model)


def with_field(body: bytes, name: str, value: str | int) -> bytes:
    """The body, a JSON object that `read` has read, with another value of one field; all others stay as they are."""
    if body.count(b":") > _MANY_FIELDS:  # blanks may stand before it
        return lenient_json.with_field(body, name, value)
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return lenient_json.with_field(body, name, value)
    fields[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(fields)


def _decode(body: bytes) -> RequestBody:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        try:
            return lenient_json.read(body)
        except lenient_json.UnreadableBody:
            if isinstance(error, msgspec.ValidationError):
                raise BadRequest(*_explain(error)) from None
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
            clips, size = inline_data(part)
            total += (len(part) - size) // BYTES_PER_TOKEN + IMAGE_TOKENS * clips
        else:
            total += len(part) // BYTES_PER_TOKEN
    return max(1, total)


def _limit(fields: Any) -> int:
    # Untyped: compiled by mypyc, a number that is declared a float must fit into one, and 400 digits do not.
    asked = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens or 0
    return max(0, int(min(asked, MAX_TOKENS)))


def _form(content_type: bytes, body: bytes) -> Call:
    start, end = field(content_type, body, b"model") or (0, 0)
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError:
        raise BadRequest("The form's 'model' field is not UTF-8.", param="model") from None
    return Call(model, (), max(1, len(body) // 1024), 0, False, "")


def _explain(error: msgspec.ValidationError) -> tuple[str]:
    what, _, where = str(error).partition(" - at ")
    if where:
        return (f"The body's field {where.strip('`$.')!r} is wrong: {what[:1].lower()}{what[1:]}.",)
    return (f"The body must be a JSON object: {what[:1].lower()}{what[1:]}.",)
