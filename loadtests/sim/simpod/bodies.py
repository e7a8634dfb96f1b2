"""The fields of every request body, with vLLM 0.32's types and defaults. Fields it ignores are ignored here.

Values are as lenient as pydantic is in vLLM ("3" is a number), and errors are pydantic's, so that the messages agree.
What a value means, and whether the engine takes it, is not decided here.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from loadtests.sim.simpod.errors import body_error, unfit

Stop = str | Annotated[list[str], Field(max_length=4)] | None
TopLogprobs = Annotated[int, BeforeValidator(lambda given: 0 if given is None else given)]
_INT64 = 2**63


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=(), defer_build=True)

    model: str | None = None


class _Part(BaseModel):
    """A part of a body; fields besides the known ones stay in it."""

    model_config = ConfigDict(extra="allow", protected_namespaces=(), defer_build=True)


class StreamOptions(_Part):
    """OpenAI's stream options."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class JsonSchemaFormat(_Part):
    """The schema that an answer has to match."""

    name: str
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(_Part):
    """OpenAI's `response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StructuredOutputs(_Part):
    """vLLM's `structured_outputs`: one of the constraints."""

    json_: str | dict[str, Any] | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None


class Function(_Part):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class FunctionTool(_Part):
    """A tool as chat completions take it."""

    type: Literal["function"] = "function"
    function: Function


class Sampled(_Body):
    """What chat completions, completions and responses have in common."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64)
    stop: Stop = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    prompt_logprobs: int | None = None
    return_token_ids: bool | None = None
    priority: int = Field(default=0, ge=-_INT64, lt=_INT64)
    user: str | None = None


class ChatBody(Sampled):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    logprobs: bool | None = False
    top_logprobs: TopLogprobs = 0
    tools: list[FunctionTool] | None = None
    tool_choice: Any = "none"
    """`none`, `auto`, `required`, null, or an object that names a function; vLLM checks it before the other fields."""
    parallel_tool_calls: bool | None = True
    echo: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    """The last message is the beginning of the answer."""
    kv_transfer_params: dict[str, Any] | None = None
    """`prompt_token_ids` in it is the prompt, in the place of the messages."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class CompletionBody(Sampled):
    """POST /v1/completions."""

    prompt: list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str] | None = None
    max_tokens: int | None = 16
    n: int = 1
    logprobs: int | None = None
    echo: bool | None = False
    suffix: str | None = None


class EmbeddingBody(_Body):
    """POST /v1/embeddings."""

    input: list[int] | list[list[int]] | str | list[str]
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    dimensions: int | None = None


class TokenizeBody(_Body):
    """POST /tokenize, for a prompt or for messages."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[FunctionTool] | None = None
    return_token_strs: bool | None = False


class DetokenizeBody(_Body):
    """POST /detokenize."""

    tokens: list[Annotated[int, Field(ge=0, lt=_INT64)]]


class ResponsesBody(Sampled):
    """POST /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    background: bool | None = False
    store: bool | None = True
    previous_response_id: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] | None = None
    include: list[str] | None = None
    parallel_tool_calls: bool | None = True
    reasoning: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] = "auto"
    text: dict[str, Any] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list)
    top_logprobs: TopLogprobs = 0
    truncation: Literal["auto", "disabled"] | None = "disabled"


class ContentBlock(_Part):
    """A part of an Anthropic message."""

    type: Literal[
        "text",
        "image",
        "tool_use",
        "tool_result",
        "tool_reference",
        "thinking",
        "redacted_thinking",
        "tool_addition",
        "tool_removal",
    ]
    text: str | None = None


class AnthropicMessage(_Part):
    """A message of /v1/messages."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class AnthropicTool(_Part):
    """A tool of /v1/messages."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any]


class AnthropicChoice(_Part):
    """Which tool /v1/messages has to call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class CountBody(_Body):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: list[AnthropicMessage]
    system: str | list[ContentBlock] | None = None
    tools: list[AnthropicTool] | None = None
    tool_choice: AnthropicChoice | None = None
    output_config: dict[str, Any] | None = None

    @field_validator("model")
    @classmethod
    def _named(cls, model: str) -> str:
        if not model:
            raise ValueError("Model is required")
        return model


class MessagesBody(CountBody):
    """POST /v1/messages."""

    max_tokens: int
    stop_sequences: Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    ignore_eos: bool = False
    """No field of vLLM: load generators ask for answers of an exact length."""

    @field_validator("max_tokens")
    @classmethod
    def _positive(cls, tokens: int) -> int:
        if tokens <= 0:
            raise ValueError("max_tokens must be positive")
        return tokens


B = TypeVar("B", bound=BaseModel)
_NO_OBJECT = {"type": "model_attributes_type", "loc": ()} | {
    "msg": "Input should be a valid dictionary or object to extract fields from"
}


def read(kind: type[B], given: object) -> B:
    """A decoded body by its fields; BodyError with all that does not fit."""
    if not isinstance(given, dict):
        raise body_error([_NO_OBJECT | {"input": given}])
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise unfit(error) from None


def decode(raw: bytes) -> Any:
    """A request's JSON; BodyError where FastAPI finds none."""
    if not raw:
        raise body_error([{"type": "missing", "loc": (), "msg": "Field required", "input": None}])
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_slowly(raw)


def _decode_slowly(raw: bytes) -> Any:
    """With the decoder of vLLM, which knows where an error is, and takes a few bodies more."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        place, reason = error.pos, error.msg
    except (UnicodeDecodeError, RecursionError) as error:
        raise body_error([_not_json(0, str(error))]) from None
    raise body_error([_not_json(place, reason)])


def _not_json(place: int, reason: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "json_invalid", "loc": (place,), "msg": "JSON decode error", "input": {}}
    return found | {"ctx": {"error": reason}}
