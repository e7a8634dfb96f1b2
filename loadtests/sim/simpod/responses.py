"""OpenAI's responses as vLLM 0.32 answers them: request body in, script out. Pure; what is stored is in
`response_store.py`.

Items of the input become chat messages, so that a conversation has the same prompts through either API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from loadtests.sim.simpod.bodies import ResponsesBody
from loadtests.sim.simpod.drafts import Draft, ask_of, draft, ids_of
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.forms import Form, form_of, schema_form
from loadtests.sim.simpod.limits import check_sampling, limit_of
from loadtests.sim.simpod.logprobs import chat_entry
from loadtests.sim.simpod.script import (
    CREATED,
    MARK,
    Choice,
    PodSpec,
    Script,
    Stream,
    encode,
    model_of,
    named_event,
    split,
)
from loadtests.sim.simpod.text import Prompt, chat_text, prompt_of
from loadtests.sim.simpod.tools import Tool, call_of

Messages = list[dict[str, Any]]
_LOGPROBS = "message.output_text.logprobs"
_CALLS = frozenset(
    "apply_patch_call code_interpreter_call compaction computer_call file_search_call image_generation_call "
    "item_reference local_shell_call mcp_approval_request mcp_call mcp_list_tools shell_call web_search_call".split()
)
_OUTPUTS = frozenset(
    "apply_patch_call_output computer_call_output local_shell_call_output mcp_approval_response "
    "shell_call_output".split()
)
"""Items of agents with tools of their own: read as their JSON."""


class Written(NamedTuple):
    """A response to be sent, and what a store keeps of it."""

    script: Script
    started: dict[str, Any]
    """The response before its first token."""
    turn: Messages
    """The conversation with this answer."""
    ended: Callable[[int], dict[str, Any]]
    """The finished response, by the number of cached tokens."""


def write(body: ResponsesBody, spec: PodSpec, name: str, earlier: Messages) -> Written:
    """POST /v1/responses; `name` is the new response's id, `earlier` the conversation that it goes on with."""
    if body.background and body.store is False:
        raise rejected("background can only be used when `store` is true", "background")
    choice = _tool_choice(body)
    model = model_of(body.model, spec)
    asked = [*earlier, *messages_of(body)]
    prompt = prompt_of(chat_text(asked, tools=body.tools))
    limit = limit_of(prompt, body.max_output_tokens, spec, "max_output_tokens")
    check_sampling(body, limit)
    call = call_of(_tools(body.tools), choice, asked, prompt.seed)
    said = draft(ask_of(body, limit, _form(body), call), prompt, spec)
    reply = _Reply(body, name, model, prompt, said, limit)
    ids = ids_of(prompt, said, spec)
    events = reply.events() if body.stream else None
    lane = Choice(prompt.tokens, ids, said.tokens, said.finish, body.max_output_tokens, events)
    script = Script([lane], reply.whole, Stream(reply.opening, reply.closing) if body.stream else None)
    status = "queued" if body.background else "in_progress"
    return Written(script, reply.response(status), [*asked, reply.message()], reply.ended)


def messages_of(body: ResponsesBody) -> Messages:
    """The input as chat messages, with the instructions before it. ApiError for an item that is none."""
    first: Messages = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    if isinstance(body.input, str):
        return [*first, {"role": "user", "content": body.input}]
    return [*first, *(_message(item) for item in body.input)]


def _message(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    if kind in ("function_call", "custom_tool_call"):
        function = {"name": item.get("name"), "arguments": item.get("arguments", item.get("input"))}
        calls = [{"id": item.get("call_id"), "type": "function", "function": function}]
        return {"role": "assistant", "tool_calls": calls}
    if kind in ("function_call_output", "custom_tool_call_output"):
        return {"role": "tool", "content": item.get("output")}
    if kind == "reasoning":
        return {"role": "assistant", "content": item.get("content")}
    if kind in _CALLS or kind in _OUTPUTS:
        return {"role": "assistant" if kind in _CALLS else "tool", "content": [item]}
    if kind == "message" and isinstance(item.get("role"), str):
        return {"role": item["role"], "content": item.get("content")}
    raise rejected(f"an input item of type {kind!r} without a role is no message", "input")


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[Tool]:
    return [Tool(str(tool["name"]), tool.get("parameters")) for tool in tools if tool.get("name")]


def _tool_choice(body: ResponsesBody) -> str:
    choice = body.tool_choice
    if isinstance(choice, str):
        if choice == "required" and not body.tools:
            raise rejected("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice")
        return choice
    if not any(tool.get("name") == choice.get("name") for tool in body.tools):
        raise rejected("Tool choice 'function' not found in 'tools' parameter.", "tool_choice")
    return f"={choice['name']}"


def _form(body: ResponsesBody) -> Form | None:
    wanted = (body.text or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return schema_form(wanted.get("schema"))
    return schema_form(None) if wanted.get("type") == "json_object" else form_of(body)


class _Reply(NamedTuple):
    """One answer in both of its forms."""

    body: ResponsesBody
    name: str
    model: str
    prompt: Prompt
    said: Draft
    limit: int

    def message(self) -> dict[str, Any]:
        """The answer as a chat message of the next turn."""
        if self.said.call is None:
            return {"role": "assistant", "content": self.said.text}
        function = {"name": self.said.call.name, "arguments": self.said.text}
        return {"role": "assistant", "tool_calls": [{"id": self._call_id, "type": "function", "function": function}]}

    def ended(self, cached: int) -> dict[str, Any]:
        """The finished response."""
        status = "completed" if self.said.finish == "stop" else "incomplete"
        return self.response(status, [self._item("completed")], self._usage(cached))

    def whole(self, cached: int) -> bytes:
        return encode(self.ended(cached))

    def response(self, status: str, output: Sequence[object] = (), usage: object = None) -> dict[str, Any]:
        """The response at some point of its life."""
        body = self.body
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        stamp = {"id": self.name, "created_at": CREATED, "incomplete_details": details}
        return stamp | {
            "instructions": body.instructions,
            "metadata": body.metadata,
            "model": self.model,
            "object": "response",
            "output": list(output),
            "parallel_tool_calls": True if body.parallel_tool_calls is None else body.parallel_tool_calls,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "tool_choice": body.tool_choice if body.tools else "none",
            "tools": [_dumped(tool) for tool in body.tools],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "background": body.background,
            "max_output_tokens": self.limit,
            "max_tool_calls": body.max_tool_calls,
            "previous_response_id": body.previous_response_id,
            "prompt": None,
            "reasoning": body.reasoning,
            "service_tier": body.service_tier,
            "status": status,
            "text": body.text,
            "top_logprobs": body.top_logprobs if self._scored else None,
            "truncation": body.truncation,
            "usage": usage,
            "user": body.user,
            "presence_penalty": body.presence_penalty or 0.0,
            "frequency_penalty": body.frequency_penalty or 0.0,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }

    def opening(self, cached: int) -> Sequence[bytes]:
        first = self.response("in_progress")
        events: list[dict[str, Any]] = [
            {"response": first, "type": "response.created"},
            {"response": first, "type": "response.in_progress"},
            {"item": self._item("in_progress"), "output_index": 0, "type": "response.output_item.added"},
        ]
        if self.said.call is None:
            added = {"content_index": 0, "item_id": self._item_id, "output_index": 0, "part": self._part("", [])}
            events.append(added | {"type": "response.content_part.added"})
        return _numbered(events, 0)

    def events(self) -> Callable[[int], bytes]:
        """The events of the tokens: numbered, and each with its probability where wanted."""
        start = 4 if self.said.call is None else 3
        pieces, words = self.said.pieces, self.said.words() if self._scored else []
        before, middle, after = self._delta_parts()

        def one(at: int) -> bytes:
            if not pieces[at]:
                return b""
            logprobs = encode([_slim(chat_entry(words[at], self.body.top_logprobs))])[1:-1] if words else b""
            return b"%b%b%b%b%b%d%b" % (before, pieces[at], middle[0], logprobs, middle[1], start + at, after)

        return one

    def closing(self, cached: int) -> Sequence[bytes]:
        item = {"output_index": 0, "item_id": self._item_id}
        events: list[dict[str, Any]]
        if self.said.call is None:
            text = self.said.text
            events = [
                {"type": "response.output_text.done", "content_index": 0, "logprobs": [], "text": text} | item,
                {
                    "type": "response.content_part.done",
                    "content_index": 0,
                    "part": self._item("completed")["content"][0],
                }
                | item,
            ]
        else:
            done = {"arguments": self.said.text, "name": self.said.call.name}
            events = [{"type": "response.function_call_arguments.done"} | done | item]
        events += [
            {"type": "response.output_item.done", "item": self._item("completed"), "output_index": 0},
            {"type": "response.completed", "response": self.ended(cached)},
        ]
        deltas = sum(1 for piece in self.said.pieces if piece)
        return _numbered(events, deltas + (4 if self.said.call is None else 3))

    def _delta_parts(self) -> tuple[bytes, tuple[bytes, bytes], bytes]:
        """A token's event around its text, its probability and its number."""
        item: dict[str, Any] = {"delta": MARK, "item_id": self._item_id}
        if self.said.call is None:
            kind = "response.output_text.delta"
            payload = {"content_index": 0} | item | {"logprobs": [], "output_index": 0, "sequence_number": 0}
        else:
            kind = "response.function_call_arguments.delta"
            payload = item | {"output_index": 0, "sequence_number": 0}
        before, after = split(named_event(payload | {"type": kind}))
        middle, _, end = after.partition(b'"sequence_number":0')
        first, bracket, second = middle.partition(b'"logprobs":[')
        return before, (first + bracket, second + b'"sequence_number":'), end

    @property
    def _scored(self) -> bool:
        return _LOGPROBS in (self.body.include or [])

    @property
    def _item_id(self) -> str:
        return f"{'msg' if self.said.call is None else 'fc'}_{self.name.removeprefix('resp_')}"

    @property
    def _call_id(self) -> str:
        return f"chatcmpl-tool-{self.name.removeprefix('resp_')}"

    def _item(self, status: str) -> dict[str, Any]:
        made = status == "completed"
        if self.said.call is not None:
            item = {"arguments": self.said.text if made else "", "call_id": self._call_id, "name": self.said.call.name}
            nulls = dict.fromkeys(("async", "caller", "namespace"))
            return item | {"type": "function_call", "id": self._item_id} | nulls | {"status": status}
        words = self.said.words() if self._scored else []
        entries = [_ordered(chat_entry(word, self.body.top_logprobs)) for word in words] if words else None
        content = [self._part(self.said.text, entries)] if made else []
        message = {"id": self._item_id, "content": content, "role": "assistant", "status": status}
        return message | {"type": "message", "phase": None}

    def _part(self, text: str, logprobs: object) -> dict[str, Any]:
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}

    def _usage(self, cached: int) -> dict[str, Any]:
        prompt, output = self.prompt.tokens, self.said.tokens
        per_turn: dict[str, Any] = {"input_tokens_per_turn": [], "cached_tokens_per_turn": []}
        tool_tokens: dict[str, Any] = {"output_tokens_per_turn": [], "tool_output_tokens_per_turn": []}
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0} | per_turn,
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0} | tool_tokens,
            "total_tokens": prompt + output,
        }


def _numbered(events: Sequence[dict[str, Any]], start: int) -> list[bytes]:
    """Events with their numbers, keys in the order of OpenAI's types: by the alphabet, what came later at the end."""
    numbered = [each | {"sequence_number": start + at} for at, each in enumerate(events)]
    return [named_event(dict(sorted(each.items(), key=lambda pair: (pair[0] == "name", pair[0])))) for each in numbered]


def _dumped(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as vLLM repeats it: a function with all of its fields."""
    if tool.get("type") != "function":
        return tool
    fields = ("name", "parameters", "strict", "type", "allowed_callers", "async", "defer_loading", "description")
    return {field: tool.get(field) for field in (*fields, "output_schema")}


def _ordered(entry: dict[str, Any]) -> dict[str, Any]:
    """A token's probability with its keys in the order of this API."""
    tops = [
        {"token": each["token"], "bytes": each["bytes"], "logprob": each["logprob"]} for each in entry["top_logprobs"]
    ]
    return {"token": entry["token"], "bytes": entry["bytes"], "logprob": entry["logprob"], "top_logprobs": tops}


def _slim(entry: dict[str, Any]) -> dict[str, Any]:
    """A token's probability as a delta carries it: without the bytes."""
    tops = [{"token": each["token"], "logprob": each["logprob"]} for each in entry["top_logprobs"]]
    return {"token": entry["token"], "logprob": entry["logprob"], "top_logprobs": tops}
