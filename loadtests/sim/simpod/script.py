"""Scripts: answers without their timing, and what the APIs share in making them. Pure.

`openai.py` and `anthropic.py` write scripts, `pump.py` sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.engine.types import EngineRequest
from loadtests.sim.simpod.text import Prompt, answer_length, chained_ids

CREATED = 1_795_332_843
"""The `created` stamp of every answer: a constant, so that answers to one prompt are equal byte for byte."""
FINGERPRINT = "vllm-0.32.0-3602b7d8"

Body = Mapping[str, object]
encode = msgspec.json.encode


class ApiError(Exception):
    """A request that is answered with an error, shaped as vLLM's."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param

    def openai(self) -> bytes:
        """The body that OpenAI's endpoints answer with."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return encode({"error": fields})

    def anthropic(self) -> bytes:
        """The body that /v1/messages answers with."""
        kinds = {404: "not_found_error", 429: "rate_limit_error", 500: "api_error", 503: "overloaded_error"}
        kind = kinds.get(self.status, "invalid_request_error")
        return encode({"type": "error", "error": {"type": kind, "message": self.message}})


class PodSpec(NamedTuple):
    """Everything besides the request that a pod's answers depend on."""

    name: str
    models: tuple[str, ...]
    profile: EngineProfile
    output_mean_tokens: float = 128.0
    """Mean length of an answer that is not cut off by `max_tokens`."""


class Script(NamedTuple):
    """An answer without its timing. The callables take the number of cached prompt tokens."""

    prompt_tokens: int
    block_ids: Sequence[int]
    pieces: Sequence[bytes]
    """The answer token by token, escaped as inside a JSON string."""
    finish: str
    """vLLM's finish reason: `stop` or `length`."""
    max_tokens: int | None
    whole: Callable[[int], bytes]
    """The body of an answer that is not streamed."""
    stream: Stream | None = None

    def request(self, request_id: str, arrived_at: float) -> EngineRequest:
        """The request to the engine."""
        return EngineRequest(request_id, self.prompt_tokens, self.block_ids, len(self.pieces), arrived_at)


class Stream(NamedTuple):
    """The events of a streamed answer."""

    opening: Callable[[int], Sequence[bytes]]
    """Events before the first token."""
    before: bytes
    after: bytes
    """A token's event is `before + piece + after`."""
    last_after: bytes
    """In place of `after` for the last token."""
    closing: Callable[[int], Sequence[bytes]]
    """Events after the last token."""


def decode_body(raw: bytes) -> Body:
    """A request body as an object; ApiError with vLLM's message otherwise."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _invalid(
            "{'type': 'json_invalid', 'loc': 'body.0', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', "
            "'ctx': {'error': 'Expecting value'}}",
            "body.0",
        ) from None
    if not isinstance(body, dict):
        detail = (
            "{'type': 'model_attributes_type', 'loc': 'body', 'msg': 'Input should be a valid dictionary or object'}"
        )
        raise _invalid(detail, "body")
    return body


def missing(body: Body, field: str) -> ApiError:
    """The error for a missing required field."""
    size = f"<dict of {len(body)} items>"
    detail = f"{{'type': 'missing', 'loc': 'body.{field}', 'msg': 'Field required', 'input': '{size}'}}"
    return _invalid(detail, f"body.{field}")


def wrong_type(field: str, expected: str) -> ApiError:
    """The error for a field of the wrong type."""
    return _invalid(f"{{'type': '{expected}_type', 'loc': 'body.{field}', 'msg': 'not valid'}}", f"body.{field}")


def _invalid(detail: str, param: str) -> ApiError:
    return ApiError(400, f"1 validation error:\n  {detail}", "Bad Request", param)


def model_of(body: Body, spec: PodSpec) -> str:
    """The model asked for, by default the first one; ApiError 404 for one that is not served."""
    model = body.get("model") or spec.models[0]
    if model not in spec.models:
        known = ", ".join(spec.models)
        message = f"The model `{model}` does not exist. Valid aliases: {known}."
        raise ApiError(404, message, "NotFoundError", "model")
    return str(model)


def flag(body: Body, field: str) -> bool:
    """A boolean field, false by default."""
    value = body.get(field, False)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise wrong_type(field, "bool")


def limit_of(body: Body, prompt: Prompt, spec: PodSpec, *fields: str) -> int | None:
    """The most tokens the client asks for, from the first of `fields` it set; None if it set none."""
    longest = spec.profile.max_model_len
    field, limit = next(((name, body[name]) for name in fields if body.get(name) is not None), ("max_tokens", None))
    if limit is None:
        if prompt.tokens >= longest:
            raise _too_long(longest, prompt.tokens, 1)
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise wrong_type(field, "int")
    if limit < 1:
        raise ApiError(400, f"{field} must be at least 1, got {limit}. (parameter={field}, value={limit})", param=field)
    if limit > longest:
        message = f"{field}={limit} cannot be greater than max_model_len={longest}. Please request fewer output tokens."
        raise ApiError(400, f"{message} (parameter={field}, value={limit})", param=field)
    if prompt.tokens + limit > longest:
        raise _too_long(longest, prompt.tokens, limit)
    return limit


def _too_long(longest: int, prompt: int, output: int) -> ApiError:
    message = f"This model's maximum context length is {longest} tokens. However, you requested {output} output tokens"
    return ApiError(400, f"{message} and your prompt contains {prompt} input tokens.", param="input_tokens")


def length_of(body: Body, prompt: Prompt, limit: int | None, spec: PodSpec) -> tuple[int, str]:
    """The answer's length in tokens, and its finish reason."""
    cap = limit or spec.profile.max_model_len - prompt.tokens
    if flag(body, "ignore_eos"):
        return cap, "length"
    natural = answer_length(prompt.seed, spec.output_mean_tokens)
    least = body.get("min_tokens")
    if isinstance(least, int):
        natural = max(natural, least)
    return (natural, "stop") if natural <= cap else (cap, "length")


def ids_of(prompt: Prompt, answer: bytes, spec: PodSpec) -> list[int]:
    """Hash ids of the prompt followed by the answer."""
    return chained_ids(prompt.text + answer, spec.profile.block_tokens)


def event(payload: object) -> bytes:
    """A server-sent event as OpenAI's APIs send it."""
    return b"data: %b\n\n" % encode(payload)
