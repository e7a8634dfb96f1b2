"""Anthropic's messages as vLLM 0.32 answers them: request body in, script out. Pure.

vLLM turns them into chat completions; the events' order is that of Anthropic's streaming guide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from loadtests.sim.simpod.bodies import CountBody, MessagesBody, read
from loadtests.sim.simpod.drafts import Ask, Draft, draft, ids_of
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.forms import Form, schema_form
from loadtests.sim.simpod.limits import limit_of
from loadtests.sim.simpod.script import (
    MARK,
    Choice,
    PodSpec,
    Script,
    Stream,
    encode,
    model_of,
    named_event,
    token_events,
)
from loadtests.sim.simpod.text import Prompt, chat_text, prompt_of
from loadtests.sim.simpod.tools import Tool, call_of

_CHOICES = {"any": "required", "tool": "=", "none": "none", "auto": "auto"}
"""Anthropic's tool choices as `call_of` takes them."""


def messages(given: object, spec: PodSpec) -> Script:
    """POST /v1/messages."""
    body = read(MessagesBody, given)
    model = model_of(body.model, spec)
    prompt = _prompt(body)
    limit = limit_of(prompt, body.max_tokens, spec, "max_completion_tokens")
    call = call_of(_tools(body), _choice(body), _dicts(body.messages), prompt.seed)
    ask = Ask(limit, 0, body.ignore_eos, body.stop_sequences or [], form=_form(body), call=call)
    said = draft(ask, prompt, spec)
    form = _Reply(prompt, model, said)
    events = form.events() if body.stream else None
    choice = Choice(prompt.tokens, ids_of(prompt, said, spec), said.tokens, said.finish, body.max_tokens, events)
    return Script([choice], form.whole, Stream(form.opening, form.closing) if body.stream else None)


def count_tokens(given: object, spec: PodSpec) -> bytes:
    """POST /v1/messages/count_tokens."""
    body = read(CountBody, given)
    model_of(body.model, spec)
    tokens = _prompt(body).tokens
    return encode({"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}})


def _prompt(body: CountBody) -> Prompt:
    system = _dicts(body.system) if isinstance(body.system, list) else body.system
    return prompt_of(chat_text(_dicts(body.messages), system, _dicts(body.tools or [])))


def _dicts(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """As they were sent: fields that were not given are left out, so that prompts are as short as they came."""
    return [part.model_dump(exclude_unset=True) for part in parts]


def _tools(body: CountBody) -> list[Tool]:
    return [Tool(tool.name, tool.input_schema) for tool in body.tools or []]


def _choice(body: CountBody) -> str:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    if choice.type == "tool" and not choice.name:
        raise rejected("tool_choice.name is required when type is 'tool'", "tool_choice")
    return _CHOICES[choice.type] + (choice.name or "" if choice.type == "tool" else "")


def _form(body: CountBody) -> Form | None:
    output = (body.output_config or {}).get("format")
    return schema_form(output["schema"]) if isinstance(output, dict) and output.get("schema") else None


class _Reply(NamedTuple):
    """One answer in both of its forms."""

    prompt: Prompt
    model: str
    said: Draft

    def whole(self, cached: int) -> bytes:
        ending = {"stop_reason": self._stop_reason} | self._stop_sequence
        usage = {"usage": self._usage(cached, self.said.tokens)}
        return encode(self._message([self._block(full=True)], ending | usage))

    def opening(self, cached: int) -> Sequence[bytes]:
        usage = {"input_tokens": self.prompt.tokens, "output_tokens": 0}
        message = self._message([], {"stop_reason": None, "stop_sequence": None, "usage": usage})
        block = {"type": "content_block_start", "content_block": self._block(full=False), "index": 0}
        return named_event({"type": "message_start", "message": message}), named_event(block)

    def events(self) -> Callable[[int], bytes]:
        """The events of the tokens."""
        kind, field = ("text_delta", "text") if self.said.call is None else ("input_json_delta", "partial_json")
        delta = named_event({"type": "content_block_delta", "delta": {"type": kind, field: MARK}, "index": 0})
        one = token_events(self.said.pieces, delta, delta)
        return lambda at: one(at) if self.said.pieces[at] else b""

    def closing(self, cached: int) -> Sequence[bytes]:
        delta = {"stop_reason": self._stop_reason, "stop_sequence": None} | self._stop_sequence
        ending = {"type": "message_delta", "delta": delta, "usage": self._usage(cached, self.said.tokens)}
        stop = {"type": "content_block_stop", "index": 0}
        return named_event(stop), named_event(ending), named_event({"type": "message_stop"})

    @property
    def _stop_reason(self) -> str:
        if self.said.finish == "length":
            return "max_tokens"
        if self.said.call is not None:
            return "tool_use"
        return "stop_sequence" if isinstance(self.said.stop_reason, str) else "end_turn"

    @property
    def _stop_sequence(self) -> dict[str, object]:
        return {"stop_sequence": self.said.stop_reason} if isinstance(self.said.stop_reason, str) else {}

    def _usage(self, cached: int, output: int) -> dict[str, int]:
        counts = {"input_tokens": self.prompt.tokens - cached, "output_tokens": output}
        return counts | {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}

    def _message(self, content: Sequence[object], ending: dict[str, Any]) -> dict[str, object]:
        stamp = {"id": f"chatcmpl-{self.prompt.seed:016x}", "type": "message", "role": "assistant"}
        return stamp | {"content": content, "model": self.model} | ending

    def _block(self, *, full: bool) -> dict[str, object]:
        call = self.said.call
        if call is None:
            return {"type": "text", "text": self.said.text if full else ""}
        arguments = msgspec.Raw(call.arguments) if full else {}
        return {
            "type": "tool_use",
            "id": f"chatcmpl-tool-{self.prompt.seed:016x}",
            "name": call.name,
            "input": arguments,
        }
