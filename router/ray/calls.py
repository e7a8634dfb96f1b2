"""A call of a Ray Serve deployment -> the request that a gateway would have read. Pure; knows no Ray.

Requests of Ray Serve LLM are objects with `messages` or `prompt`; other deployments take mappings, JSON text or plain
prompts. An HTTP request's body stays at Ray's proxy until a replica fetches it: of it there are headers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from router.dataplane.http.request_head import RequestHead

PROMPTS: Final = ("messages", "prompt", "input")
"""Fields that hold a prompt; an argument without any of them is none of a model's."""

READ: Final = (
    "model",
    *PROMPTS,
    "tools",
    "system",
    "instructions",
    "cache_salt",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "user",
    "prompt_cache_key",
)
"""The fields that routing reads (`request/openai_fields.py`)."""

_PATH: Final = b"/v1/completions"


class CallMetadata(NamedTuple):
    """What Ray Serve says of a call beside its arguments."""

    request_id: str = ""
    session_id: str = ""
    model_id: str = ""
    """The multiplexed model; empty without one."""
    stream: bool = False


class ServeCall(NamedTuple):
    """A call as a request."""

    head: RequestHead
    body: bytes
    """JSON with what routing reads; empty where the arguments name no prompt."""


def request_of(arguments: Iterable[object], metadata: CallMetadata) -> ServeCall:
    """The call as a request: its prompt from the first argument that has one, its headers from an HTTP request."""
    headers: dict[bytes, bytes] = {}
    fields: dict[str, object] = {}
    for argument in arguments:
        headers |= _headers(argument)
        fields = fields or _fields(argument)
    if metadata.request_id:
        headers.setdefault(b"x-request-id", metadata.request_id.encode("utf-8", "replace"))
    if metadata.session_id:
        headers[b"x-session-id"] = metadata.session_id.encode("utf-8", "replace")
    headers.pop(b"content-encoding", None)
    if not fields and metadata.model_id:
        fields = {"model": metadata.model_id}
    if not fields:
        return ServeCall(_head(b"/", headers), b"")
    fields["stream"] = metadata.stream
    fields.setdefault("model", metadata.model_id)
    headers[b"content-type"] = b"application/json"
    return ServeCall(_head(_PATH, headers), msgspec.json.encode(fields, enc_hook=_plain))


def _head(target: bytes, headers: dict[bytes, bytes]) -> RequestHead:
    kept = [b"%b: %b\r\n" % each for each in headers.items()]
    return RequestHead(b"POST", target, http11=True, keep_alive=True, kept=kept, header_map=headers)


def _headers(argument: object) -> Mapping[bytes, bytes]:
    """The headers of an HTTP request that its proxy passes on."""
    scope = getattr(argument, "asgi_scope", None) or getattr(argument, "scope", None)
    if not isinstance(scope, Mapping):
        return {}
    return {bytes(name): bytes(value) for name, value in scope.get("headers", ())}


def _fields(argument: object) -> dict[str, object]:
    """What an argument says of the fields that are read; empty where it holds no prompt."""
    if isinstance(argument, str | bytes):
        return _of_text(argument)
    if isinstance(argument, Mapping):
        found = {name: argument[name] for name in READ if argument.get(name) is not None}
    else:
        found = {name: value for name in READ if (value := getattr(argument, name, None)) is not None}
    return found if any(name in found for name in PROMPTS) else {}


def _of_text(text: str | bytes) -> dict[str, object]:
    """JSON of a request, or the prompt itself."""
    start = text[:1]
    if start in ("{", b"{"):
        try:
            body = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}
        return _fields(body) if isinstance(body, dict) else {}
    return {"prompt": text if isinstance(text, str) else text.decode("utf-8", "replace")} if text else {}


def _plain(value: object) -> object:
    """A message that is an object of a library, as JSON has it."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json", exclude_none=True)
    if isinstance(value, Iterable):
        return list(value)
    return repr(value)
