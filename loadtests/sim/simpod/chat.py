"""OpenAI's chat completions in vLLM 0.32's dialect: request body in, script out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtests.sim.simpod.bodies import ChatBody, FunctionTool, read
from loadtests.sim.simpod.chat_reply import ChatReply
from loadtests.sim.simpod.drafts import ask_of, draft, ids_of
from loadtests.sim.simpod.errors import ApiError, rejected
from loadtests.sim.simpod.forms import form_of
from loadtests.sim.simpod.limits import check_sampling, check_stream_options, limit_of
from loadtests.sim.simpod.logprobs import MOST
from loadtests.sim.simpod.script import Choice, PodSpec, Script, Stream, model_of, name_of
from loadtests.sim.simpod.text import Prompt, chat_begun, chat_text, going_on, prompt_of, prompt_of_ids
from loadtests.sim.simpod.tools import Tool, call_of


def chat(given: object, spec: PodSpec) -> Script:
    """POST /v1/chat/completions."""
    body = read(ChatBody, given)
    choice = _tool_choice(body)
    check_stream_options(body)
    _check_logprobs(body)
    model = model_of(body.model, spec)
    ids = (body.kv_transfer_params or {}).get("prompt_token_ids")
    if ids:
        prompt = prompt_of_ids(ids)
    else:
        prompt = _begun_prompt(body) if body.continue_final_message else chat_prompt(body.messages, body.tools)
    field = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    count = 1 if body.n is None else body.n
    limit = limit_of(prompt, limit, spec, field)
    check_sampling(body, limit, count)
    call = call_of(tools_of(body.tools or []), choice, body.messages, prompt.seed)
    ask = ask_of(body, limit, form_of(body), call)
    said = [draft(ask, prompt, spec, at) for at in range(count)]
    reply = ChatReply(body, f"chatcmpl-{name_of(prompt)}", model, prompt, said)
    events = reply.events if body.stream else lambda _: None
    choices = [
        Choice(prompt.tokens, ids_of(prompt, one, spec), one.tokens, one.finish, limit, events(at), body.priority)
        for at, one in enumerate(said)
    ]
    return Script(choices, reply.whole, Stream(reply.opening, reply.closing) if body.stream else None)


def chat_prompt(messages: Sequence[object], tools: Sequence[FunctionTool] | None = None) -> Prompt:
    """The prompt that messages and tools make. ApiError for what is no message."""
    try:
        return prompt_of(chat_text(messages, tools=[tool.model_dump(exclude_none=True) for tool in tools or []]))
    except ValueError as error:
        raise ApiError(400, str(error), "BadRequestError", "messages") from None


def _begun_prompt(body: ChatBody) -> Prompt:
    """The prompt of a chat whose last message is the beginning of the answer. ApiError as vLLM's own checks."""
    if body.add_generation_prompt:
        message = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        raise rejected(message)
    try:
        return going_on(prompt_of(chat_begun(body.messages, [tool.model_dump() for tool in body.tools or []])))
    except ValueError as error:
        raise ApiError(400, str(error), "BadRequestError", "messages") from None


def tools_of(tools: Sequence[FunctionTool]) -> list[Tool]:
    """Chat tools in the common form."""
    return [Tool(tool.function.name, tool.function.parameters) for tool in tools]


def _tool_choice(body: ChatBody) -> str:
    """As `call_of` takes it. ApiError as vLLM's own checks."""
    if body.tools == []:
        message = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        raise rejected(message, "tools")
    if "tool_choice" not in body.model_fields_set:
        return "auto" if body.tools else "none"
    choice = body.tool_choice
    if choice in (None, "none"):
        return "none"
    if not body.tools:
        raise rejected("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice in ("auto", "required"):
        return str(choice)
    if not isinstance(choice, dict):
        message = f"Invalid value for `tool_choice`: {choice}! Only named tools, "
        raise rejected(message + '"none", "auto" or "required" are supported.', "tool_choice")
    return f"={_function_named(choice)}"


def _function_named(choice: dict[str, Any]) -> str:
    """The name in `tool_choice`. ApiError in vLLM's words if there is none."""
    usage = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'
    function = choice.get("function")
    if not isinstance(function, dict):
        message = f"Invalid value for `function`: `{function}` in `tool_choice`! {usage}"
        raise rejected(message, "tool_choice.function")
    if "name" not in function:
        message = f"Expected field `name` in `function` in `tool_choice`! {usage}"
        raise rejected(message, "tool_choice.function.name")
    name = function["name"]
    if not isinstance(name, str) or not name:
        message = f"Invalid `name` in `function`: `{name}` in `tool_choice`! {usage}"
        raise rejected(message, "tool_choice.function.name")
    return name


def _check_logprobs(body: ChatBody) -> None:
    if body.prompt_logprobs is not None and body.stream and body.prompt_logprobs != 0:
        raise rejected("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    top = body.top_logprobs
    if top < 0 and top != -1:
        raise rejected("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
    if top != 0 and not body.logprobs:
        raise rejected("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    if top > MOST:
        message = f"Requested sample logprobs of {top}, which is greater than max allowed: {MOST}"
        raise rejected(message, "logprobs", top)
