"""Anthropic's /v1/messages: request body in, script out. Pure. Event order as in Anthropic's streaming guide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from loadtests.sim.simpod.script import (
    ApiError,
    Body,
    PodSpec,
    Script,
    Stream,
    encode,
    flag,
    ids_of,
    length_of,
    limit_of,
    missing,
    model_of,
    wrong_type,
)
from loadtests.sim.simpod.text import Prompt, answer_text, chat_text, pieces_of, prompt_of
from loadtests.sim.simpod.tools import ToolCall, forced_call

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}


def messages(body: Body, spec: PodSpec) -> Script:
    """POST /v1/messages."""
    model = model_of(body, spec)
    given = body.get("messages")
    if given is None:
        raise missing(body, "messages")
    if not isinstance(given, list) or not given:
        raise wrong_type("messages", "list")
    if body.get("max_tokens") is None:
        raise missing(body, "max_tokens")
    try:
        prompt = prompt_of(chat_text(given, body.get("system"), body.get("tools")))
    except ValueError as error:
        raise ApiError(400, str(error), param="messages") from None
    limit = limit_of(body, prompt, spec, "max_tokens")
    call = forced_call(body, prompt.seed)
    tokens, finish = length_of(body, prompt, limit, spec)
    answer = answer_text(prompt.seed, tokens)
    ids = ids_of(prompt, answer, spec) if call is None else []
    pieces = pieces_of(answer) if call is None else _argument_pieces(call)
    reply = _Reply(prompt, model, call, answer.decode(), len(pieces), finish if call is None else "tool")
    stream = reply.stream() if flag(body, "stream") else None
    return Script(prompt.tokens, ids, pieces, finish, limit, reply.whole, stream)


def _argument_pieces(call: ToolCall) -> list[bytes]:
    text = call.arguments.decode()
    return [encode(text[at : at + 4])[1:-1] for at in range(0, len(text), 4)]


class _Reply:
    """One answer in both of its forms."""

    def __init__(self, prompt: Prompt, model: str, call: ToolCall | None, text: str, tokens: int, finish: str) -> None:
        self.prompt, self.model, self.call, self.text = prompt, model, call, text
        self.tokens, self.stop_reason = tokens, _STOP_REASONS[finish]

    def whole(self, cached: int) -> bytes:
        usage = self._usage(cached, self.tokens)
        return encode(self._message([self._block(full=True)], usage) | {"stop_reason": self.stop_reason})

    def stream(self) -> Stream:
        kind, field = ("text_delta", "text") if self.call is None else ("input_json_delta", "partial_json")
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: "\x00"}}
        before, _, after = _event(delta).partition(b"\\u0000")
        return Stream(self._opening, before, after, after, self._closing)

    def _opening(self, cached: int) -> Sequence[bytes]:
        start = {"type": "message_start", "message": self._message([], self._usage(cached, 0))}
        block = {"type": "content_block_start", "index": 0, "content_block": self._block(full=False)}
        return _event(start), _event(block)

    def _closing(self, cached: int) -> Sequence[bytes]:
        delta = {"stop_reason": self.stop_reason, "stop_sequence": None}
        ending = {"type": "message_delta", "delta": delta, "usage": self._usage(cached, self.tokens)}
        return _event({"type": "content_block_stop", "index": 0}), _event(ending), _event({"type": "message_stop"})

    def _usage(self, cached: int, output: int) -> dict[str, object]:
        return {"input_tokens": self.prompt.tokens - cached, "cache_read_input_tokens": cached, "output_tokens": output}

    def _message(self, content: Sequence[object], usage: object) -> dict[str, object]:
        stamp = {"id": f"msg_{self.prompt.seed:016x}", "type": "message", "role": "assistant", "model": self.model}
        return stamp | {"content": content, "stop_reason": None, "stop_sequence": None, "usage": usage}

    def _block(self, *, full: bool) -> dict[str, object]:
        if self.call is None:
            return {"type": "text", "text": self.text if full else ""}
        arguments = msgspec.Raw(self.call.arguments) if full else {}
        return {"type": "tool_use", "id": f"toolu_{self.prompt.seed:016x}", "name": self.call.name, "input": arguments}


def _event(payload: Mapping[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(payload["type"]).encode(), encode(payload))
