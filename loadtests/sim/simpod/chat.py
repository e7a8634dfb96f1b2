"""OpenAI's chat completions in vLLM 0.32's dialect: request body in, script out. Pure.

Field names and their order are those of a real engine's answers, nulls included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loadtests.sim.simpod.bodies import ChatBody, FunctionTool, read
from loadtests.sim.simpod.drafts import Draft, ask_of, draft, ids_of
from loadtests.sim.simpod.errors import ApiError, rejected
from loadtests.sim.simpod.forms import form_of
from loadtests.sim.simpod.limits import check_sampling, check_stream_options, limit_of
from loadtests.sim.simpod.logprobs import MOST, chat_entry, prompt_logprobs
from loadtests.sim.simpod.script import (
    CREATED,
    FINGERPRINT,
    MARK,
    Choice,
    PodSpec,
    Script,
    Stream,
    encode,
    event,
    model_of,
    token_events,
)
from loadtests.sim.simpod.text import Prompt, chat_text, prompt_of, token_id
from loadtests.sim.simpod.tools import Tool, call_of


def chat(given: object, spec: PodSpec) -> Script:
    """POST /v1/chat/completions."""
    body = read(ChatBody, given)
    choice = _tool_choice(body, given)
    check_stream_options(body)
    _check_logprobs(body)
    model = model_of(body.model, spec)
    prompt = chat_prompt(body.messages, body.tools)
    field = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    count = 1 if body.n is None else body.n
    limit = limit_of(prompt, limit, spec, field)
    check_sampling(body, limit, count)
    call = call_of(tools_of(body.tools or []), choice, body.messages, prompt.seed)
    ask = ask_of(body, limit, form_of(body), call)
    said = [draft(ask, prompt, spec, at) for at in range(count)]
    form = _Form(body, f"chatcmpl-{prompt.seed:016x}", model, prompt, said)
    choices = [
        Choice(prompt.tokens, ids_of(prompt, one, spec), one.tokens, one.finish, limit, form.events(at))
        for at, one in enumerate(said)
    ]
    return Script(choices, form.whole, Stream(form.opening, form.closing) if body.stream else None)


def chat_prompt(messages: Sequence[object], tools: Sequence[FunctionTool] | None = None) -> Prompt:
    """The prompt that messages and tools make. ApiError for what is no message."""
    try:
        return prompt_of(chat_text(messages, tools=[tool.model_dump(exclude_none=True) for tool in tools or []]))
    except ValueError as error:
        raise ApiError(400, str(error), "BadRequestError", "messages") from None


def tools_of(tools: Sequence[FunctionTool]) -> list[Tool]:
    """Chat tools in the common form."""
    return [Tool(tool.function.name, tool.function.parameters) for tool in tools]


def usage_of(prompt: int, output: int, cached: int | None = None) -> dict[str, object]:
    """OpenAI's usage; `cached` is left out where a real engine leaves it out."""
    counts: dict[str, object] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
    }
    if cached is None:
        return counts
    return counts | {"prompt_tokens_details": {"cached_tokens": cached, "created_cache_tokens": 0}}


def _tool_choice(body: ChatBody, given: object) -> str:
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


class _Form(NamedTuple):
    """One answer in both of its forms."""

    body: ChatBody
    name: str
    model: str
    prompt: Prompt
    said: Sequence[Draft]

    def whole(self, cached: int) -> bytes:
        stamp = {"id": self.name, "object": "chat.completion", "created": CREATED, "model": self.model}
        choices = [self._choice(at, one) for at, one in enumerate(self.said)]
        head = stamp | {"choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT}
        ids = self.prompt.token_ids() if self.body.return_token_ids else None
        tail = {"prompt_logprobs": self._scored(), "prompt_token_ids": ids, "prompt_text": None}
        tail |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        usage = usage_of(self.prompt.tokens, self._output, cached) | {"completion_tokens_details": None}
        details = usage["prompt_tokens_details"]
        assert isinstance(details, dict)
        details["multimodal_tokens"] = None
        return encode(head | {"usage": usage} | tail)

    def _scored(self) -> object:
        """The prompt's probabilities, which an echo asks for as well."""
        asked = self.body.prompt_logprobs
        top = self.body.top_logprobs if asked is None and self.body.echo else asked
        return None if top is None else prompt_logprobs(self.prompt, top)

    def _choice(self, at: int, one: Draft) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._echo + ("" if one.call else one.text)}
        message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
        if one.call is not None:
            message["tool_calls"] = [self._call(at, one, one.text)]
        message["reasoning"] = None
        logprobs = {"content": [chat_entry(word, self.body.top_logprobs) for word in one.words()]}
        choice = {"index": at, "message": message, "logprobs": logprobs if self.body.logprobs else None}
        ids = one.token_ids() if self.body.return_token_ids else None
        ending = {"finish_reason": finish_of(one), "stop_reason": one.stop_reason, "token_ids": ids}
        return choice | ending | {"routed_experts": None}

    def opening(self, cached: int) -> Sequence[bytes]:
        first = {"role": "assistant", "content": ""}
        ids = self.prompt.token_ids() if self.body.return_token_ids else None
        more = {"prompt_token_ids": ids, "prompt_text": None}
        sent = []
        for at, one in enumerate(self.said):
            choice = {"index": at, "delta": first, "logprobs": None, "finish_reason": None}
            sent.append(event(self._stamp | {"choices": [choice]} | self._usage(0) | more))
            if self._echo:
                sent.append(self._chunk(at, {"content": self._echo}, 0))
            if one.call is not None:
                start = self._call(at, one, "")
                delta = {"id": start["id"], "type": "function", "index": 0, "function": {"name": one.call.name}}
                sent.append(self._chunk(at, {"content": None, "tool_calls": [delta]}, 0))
        return sent

    def events(self, at: int) -> Callable[[int], bytes]:
        """The events of a choice's tokens; all alike, unless each carries counts or probabilities of its own."""
        one = self.said[at]
        if not (self.body.logprobs or self._continuous or self.body.return_token_ids):
            last = MARK if one.pieces[-1] else ""
            ending = self._chunk(at, self._delta(one, last), 0, one)
            return token_events(one.pieces, self._chunk(at, self._delta(one, MARK), 0), ending)
        words, end = one.words(), one.tokens - 1
        return lambda index: self._chunk(
            at, self._delta(one, words[index]), index + 1, one if index == end else None, words[index]
        )

    def closing(self, cached: int) -> Sequence[bytes]:
        if not self._wants_usage:
            return (b"data: [DONE]\n\n",)
        usage = {"choices": [], "usage": usage_of(self.prompt.tokens, self._output, cached)}
        return event(self._stamp | usage | {"system_fingerprint": FINGERPRINT}), b"data: [DONE]\n\n"

    @property
    def _stamp(self) -> dict[str, Any]:
        return {"id": self.name, "object": "chat.completion.chunk", "created": CREATED, "model": self.model}

    @property
    def _output(self) -> int:
        return sum(one.tokens for one in self.said)

    @property
    def _wants_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    @property
    def _continuous(self) -> bool:
        return self._wants_usage and bool(self.body.stream_options and self.body.stream_options.continuous_usage_stats)

    @property
    def _echo(self) -> str:
        """The last message, if it is the assistant's and wanted back."""
        last = self.body.messages[-1] if self.body.echo and self.body.messages else {}
        content = last.get("content")
        return content if last.get("role") == "assistant" and isinstance(content, str) else ""

    def _usage(self, output: int) -> dict[str, Any]:
        counts = usage_of(self.prompt.tokens, output) | {"completion_tokens_details": None}
        return {"usage": counts} if self._continuous else {}

    def _call(self, at: int, one: Draft, arguments: str) -> dict[str, Any]:
        assert one.call is not None
        function = {"name": one.call.name, "arguments": arguments}
        return {
            "id": f"chatcmpl-tool-{self.prompt.seed + at & 2**64 - 1:016x}",
            "type": "function",
            "function": function,
        }

    @staticmethod
    def _delta(one: Draft, text: str) -> dict[str, Any]:
        if one.call is None:
            return {"content": text}
        if not text:
            return {}
        return {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def _chunk(self, at: int, delta: object, made: int, ended: Draft | None = None, word: str | None = None) -> bytes:
        """A chunk after `made` tokens of the choice; `ended` is the draft if it is its last one."""
        wanted = self.body.logprobs and word is not None
        logprobs = {"content": [chat_entry(word or "", self.body.top_logprobs)]} if wanted else None
        choice: dict[str, object] = {"index": at, "delta": delta, "logprobs": logprobs}
        choice["finish_reason"] = None if ended is None else finish_of(ended)
        if ended is not None:
            choice["stop_reason"] = ended.stop_reason
        choice["token_ids"] = [token_id(word.encode())] if self.body.return_token_ids and word is not None else None
        stamped = {} if ended is None or self._wants_usage else {"system_fingerprint": FINGERPRINT}
        return event(self._stamp | {"choices": [choice]} | self._usage(made) | stamped)


def finish_of(one: Draft) -> str:
    """A call ends as `tool_calls`, unless the request named the tool."""
    if one.call is not None and not one.call.named and one.finish == "stop":
        return "tool_calls"
    return one.finish
