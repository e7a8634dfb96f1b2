"""OpenAI's endpoints in vLLM 0.32's dialect: request body in, script out. Pure.

Field names and their order are those of a real engine's answers, nulls included.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from typing import Any

from loadtests.sim.simpod.script import (
    CREATED,
    FINGERPRINT,
    ApiError,
    Body,
    PodSpec,
    Script,
    Stream,
    encode,
    event,
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

_MARK = "\x00"
"""Stands for a token's text while an event is encoded; JSON writes it as `\\u0000`."""
EMBEDDING_SIZE = 64


def chat(body: Body, spec: PodSpec) -> Script:
    """POST /v1/chat/completions."""
    model = model_of(body, spec)
    messages = body.get("messages")
    if messages is None:
        raise missing(body, "messages")
    if not isinstance(messages, list) or not messages:
        raise wrong_type("messages", "list")
    _only_one(body)
    try:
        prompt = prompt_of(chat_text(messages, tools=body.get("tools")))
    except ValueError as error:
        raise ApiError(400, str(error), "Bad Request", "body.messages") from None
    limit = limit_of(body, prompt, spec, "max_completion_tokens", "max_tokens")
    call = forced_call(body, prompt.seed)
    if call is not None:
        return _tool_script(body, prompt, model, call)
    tokens, finish = length_of(body, prompt, limit, spec)
    answer = answer_text(prompt.seed, tokens)
    message = _message(content=answer.decode())
    whole = _chat_whole(_id("chatcmpl", prompt), model, message, finish, (prompt.tokens, tokens))
    stream = _chat_stream(body, prompt, model, tokens, finish) if flag(body, "stream") else None
    return Script(prompt.tokens, ids_of(prompt, answer, spec), pieces_of(answer), finish, limit, whole, stream)


def completion(body: Body, spec: PodSpec) -> Script:
    """POST /v1/completions."""
    model = model_of(body, spec)
    if body.get("prompt") is None:
        raise missing(body, "prompt")
    _only_one(body)
    prompt = prompt_of(_prompt_text(body["prompt"]))
    limit = limit_of(body, prompt, spec, "max_tokens") or min(16, spec.profile.max_model_len - prompt.tokens)
    tokens, finish = length_of(body, prompt, limit, spec)
    answer = answer_text(prompt.seed, tokens)
    stamp = {"id": _id("cmpl", prompt), "object": "text_completion", "created": CREATED, "model": model}
    choice = {"index": 0, "text": answer.decode(), "logprobs": None, "finish_reason": finish, "stop_reason": None}

    def whole(cached: int) -> bytes:
        usage = _usage(prompt.tokens, tokens, cached)
        return encode(stamp | {"choices": [choice], "system_fingerprint": FINGERPRINT, "usage": usage})

    def chunk(finish: str | None) -> bytes:
        return event(stamp | {"choices": [choice | {"text": _MARK, "finish_reason": finish}]})

    before, after = _split(chunk(None))
    closing = _closing(body, stamp, prompt.tokens, tokens)
    stream = Stream(lambda _: (), before, after, _split(chunk(finish))[1], closing) if flag(body, "stream") else None
    return Script(prompt.tokens, ids_of(prompt, answer, spec), pieces_of(answer), finish, limit, whole, stream)


def embedding(body: Body, spec: PodSpec) -> Script:
    """POST /v1/embeddings: a string, or a list of strings or of token ids; floats or base64."""
    model = model_of(body, spec)
    given = body.get("input")
    if given is None:
        raise missing(body, "input")
    many = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    prompts = [prompt_of(_prompt_text(one)) for one in (given if many and isinstance(given, list) else [given])]
    size = body.get("dimensions") or EMBEDDING_SIZE
    if not isinstance(size, int) or not 1 <= size <= 4096:
        raise wrong_type("dimensions", "int")
    tokens = sum(prompt.tokens for prompt in prompts)
    if tokens > spec.profile.max_model_len:
        raise ApiError(
            400, f"This model's maximum context length is {spec.profile.max_model_len} tokens.", param="input"
        )
    packed = body.get("encoding_format") == "base64"
    vectors = [_vector(prompt.seed, size, packed) for prompt in prompts]
    rows = [{"index": at, "object": "embedding", "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
    stamp = {"id": _id("embd", prompts[0]), "object": "list", "created": CREATED, "model": model}
    answer = encode(stamp | {"data": rows, "usage": usage})
    return Script(tokens, (), (), "stop", None, lambda _: answer)


def tokenize(body: Body, spec: PodSpec) -> bytes:
    """POST /tokenize, for a prompt or for messages."""
    model_of(body, spec)
    messages = body.get("messages")
    try:
        text = chat_text(messages) if isinstance(messages, list) else _prompt_text(body.get("prompt"))
    except ValueError as error:
        raise ApiError(400, str(error), "Bad Request", "body.messages") from None
    tokens = [int.from_bytes(piece, "little") for piece in pieces_of(text)]
    fields = {"count": len(tokens), "max_model_len": spec.profile.max_model_len, "tokens": tokens, "token_strs": None}
    return encode(fields)


def models(spec: PodSpec) -> bytes:
    """GET /v1/models."""
    return encode({"object": "list", "data": [model_card(name, spec) for name in spec.models]})


def model_card(name: str, spec: PodSpec) -> dict[str, object]:
    """One model as /v1/models lists it."""
    stamp = {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm"}
    return stamp | {"root": name, "parent": None, "max_model_len": spec.profile.max_model_len, "permission": []}


def _only_one(body: Body) -> None:
    if body.get("n") not in (None, 1):
        raise ApiError(400, "this engine is simulated and gives one choice only (parameter=n)", param="n")


def _id(prefix: str, prompt: Prompt) -> str:
    return f"{prefix}-{prompt.seed:016x}"


def _prompt_text(prompt: object) -> bytes:
    """A text, a list with one text, or token ids, each of which stands for four bytes."""
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt.encode(errors="surrogatepass")
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return b"".join((token & 0xFFFFFFFF).to_bytes(4, "little") for token in prompt)
    raise ApiError(400, "a prompt is a string or a list of token ids", "Bad Request", "body.prompt")


def _usage(prompt: int, output: int, cached: int) -> dict[str, object]:
    details = {"cached_tokens": cached, "created_cache_tokens": 0}
    counts = {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}
    return counts | {"prompt_tokens_details": details}


def _message(content: str | None, calls: Sequence[object] = ()) -> dict[str, object]:
    fields = {"role": "assistant", "content": content, "refusal": None, "annotations": None, "audio": None}
    return fields | {"function_call": None, "tool_calls": list(calls), "reasoning": None}


def _chat_whole(name: str, model: str, message: object, finish: str, tokens: tuple[int, int]) -> Callable[[int], bytes]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    stamp = {"id": name, "object": "chat.completion", "created": CREATED, "model": model}
    head = stamp | {"choices": [choice | {"token_ids": None}], "service_tier": None, "system_fingerprint": FINGERPRINT}
    tail = {"prompt_logprobs": None, "prompt_token_ids": None, "kv_transfer_params": None}
    return lambda cached: encode(head | {"usage": _usage(*tokens, cached)} | tail)


def _chunk(stamp: dict[str, Any], delta: object, finish: str | None = None, *, ended: bool = False) -> bytes:
    choice: dict[str, object] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event(stamp | {"choices": [choice | ({"stop_reason": None} if ended else {}) | {"token_ids": None}]})


def _chat_stamp(prompt: Prompt, model: str) -> dict[str, Any]:
    return {"id": _id("chatcmpl", prompt), "object": "chat.completion.chunk", "created": CREATED, "model": model}


def _role_chunk(stamp: dict[str, Any]) -> bytes:
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return event(stamp | {"choices": [choice], "prompt_token_ids": None, "prompt_text": None})


def _chat_stream(body: Body, prompt: Prompt, model: str, tokens: int, finish: str) -> Stream:
    stamp = _chat_stamp(prompt, model)
    before, after = _split(_chunk(stamp, {"content": _MARK}))
    last_after = _split(_chunk(stamp, {"content": _MARK}, finish, ended=True))[1]
    opening = (_role_chunk(stamp),)
    return Stream(lambda _: opening, before, after, last_after, _closing(body, stamp, prompt.tokens, tokens))


def _tool_script(body: Body, prompt: Prompt, model: str, call: ToolCall) -> Script:
    """A tool call is streamed as its name first, then its arguments piece by piece."""
    pieces = [encode(piece.decode())[1:-1] for piece in _text_pieces(call.arguments.decode())]
    named = {"name": call.name, "arguments": ""}
    start = {"id": f"chatcmpl-tool-{prompt.seed:016x}", "type": "function", "function": named}
    full = start | {"function": named | {"arguments": call.arguments.decode()}}
    tokens = (prompt.tokens, len(pieces))
    whole = _chat_whole(_id("chatcmpl", prompt), model, _message(None, [full]), "tool_calls", tokens)
    stamp = _chat_stamp(prompt, model)
    opening = (_role_chunk(stamp), _chunk(stamp, {"tool_calls": [{"index": 0} | start]}))
    delta = {"tool_calls": [{"index": 0, "function": {"arguments": _MARK}}]}
    before, after = _split(_chunk(stamp, delta))
    last_after = _split(_chunk(stamp, delta, "tool_calls", ended=True))[1]
    stream = Stream(lambda _: opening, before, after, last_after, _closing(body, stamp, *tokens))
    return Script(prompt.tokens, (), pieces, "stop", None, whole, stream if flag(body, "stream") else None)


def _text_pieces(text: str) -> list[bytes]:
    return [text[at : at + 4].encode() for at in range(0, len(text), 4)]


def _split(framed: bytes) -> tuple[bytes, bytes]:
    """The parts of an event before and after the mark in it."""
    before, _, after = framed.partition(b"\\u0000")
    return before, after


def _closing(body: Body, stamp: dict[str, Any], prompt: int, output: int) -> Callable[[int], Sequence[bytes]]:
    options = body.get("stream_options")
    wanted = isinstance(options, dict) and options.get("include_usage") is True

    def closing(cached: int) -> Sequence[bytes]:
        if not wanted:
            return (b"data: [DONE]\n\n",)
        usage = {"choices": [], "usage": _usage(prompt, output, cached), "system_fingerprint": FINGERPRINT}
        return event(stamp | usage), b"data: [DONE]\n\n"

    return closing


def _vector(seed: int, size: int, packed: bool) -> list[float] | str:
    state, floats = seed | 1, []
    for _ in range(size):
        state = state * 6364136223846793005 + 1442695040888963407 & (2**64 - 1)
        floats.append((state >> 40) / 2**23 - 1.0)
    norm = sum(one * one for one in floats) ** 0.5
    unit = [one / norm for one in floats]
    return base64.b64encode(struct.pack(f"<{size}f", *unit)).decode() if packed else unit
