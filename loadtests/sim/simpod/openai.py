"""OpenAI's smaller endpoints in vLLM 0.32's dialect: embeddings, tokens and models. Pure."""

from __future__ import annotations

import base64
import struct
from functools import lru_cache

import msgspec

from loadtests.sim.simpod.bodies import ChatBody, DetokenizeBody, EmbeddingBody, TokenizeBody, read
from loadtests.sim.simpod.chat import chat_prompt
from loadtests.sim.simpod.completions import prompts_of
from loadtests.sim.simpod.errors import body_error, rejected
from loadtests.sim.simpod.script import CREATED, Choice, PodSpec, Script, encode, model_of
from loadtests.sim.simpod.text import Prompt, prompt_of, text_of

EMBEDDING_SIZE = 64


def embedding(given: object, spec: PodSpec) -> Script:
    """POST /v1/embeddings: a string, or a list of strings or of token ids; floats or base64."""
    body = read(EmbeddingBody, given)
    model = model_of(body.model, spec)
    if not body.input:
        raise rejected("Either input or messages must be provided and non-empty.", "input")
    prompts = prompts_of(body.input)
    size = EMBEDDING_SIZE if body.dimensions is None else body.dimensions
    if not 1 <= size <= 4096:
        raise rejected(f"dimensions must be between 1 and 4096, got {size}.", "dimensions", size)
    longest = spec.profile.max_model_len
    for prompt in prompts:
        if prompt.tokens > longest:
            message = f"This model's maximum context length is {longest} tokens. However, your prompt contains"
            raise rejected(f"{message} {prompt.tokens} input tokens.", "input_tokens", prompt.tokens)
    tokens = sum(prompt.tokens for prompt in prompts)
    vectors = [_vector(prompt.seed, size, body.encoding_format != "float") for prompt in prompts]
    rows = [{"index": at, "object": "embedding", "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
    stamp = {"id": f"embd-{prompts[0].seed:016x}", "object": "list", "created": CREATED, "model": model}
    answer = encode(stamp | {"data": rows, "usage": usage})
    return Script([Choice(prompt.tokens, (), 0, "stop", None) for prompt in prompts], lambda _: answer)


def tokenize(given: object, spec: PodSpec) -> bytes:
    """POST /tokenize, for a prompt or for messages."""
    body = read(TokenizeBody, given)
    if body.prompt is None and body.messages is None:
        missing = {"type": "missing", "msg": "Field required", "input": given}
        raise body_error([missing | {"loc": (field,)} for field in ("prompt", "messages")])
    model_of(body.model, spec)
    if body.prompt is not None:
        prompt = prompt_of(body.prompt.encode(errors="surrogatepass"))
    else:
        prompt = chat_prompt(body.messages or [], body.tools)
    tokens = prompt.token_ids()
    strings = [text_of([token]).decode(errors="replace") for token in tokens] if body.return_token_strs else None
    fields = {"count": len(tokens), "max_model_len": spec.profile.max_model_len, "tokens": tokens}
    return encode(fields | {"token_strs": strings})


def render(given: object, spec: PodSpec) -> bytes:
    """POST /v1/chat/completions/render: the request as the engine would get it, nothing generated."""
    body = read(ChatBody, given)
    model = model_of(body.model, spec)
    prompt = chat_prompt(body.messages, body.tools)
    limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    sampling = {"max_tokens": limit, "temperature": body.temperature, "ignore_eos": bool(body.ignore_eos)}
    fields: dict[str, object] = {"request_id": f"chatcmpl-{prompt.seed:016x}", "token_ids": _written(prompt)}
    fields |= {"features": None, "sampling_params": sampling, "model": model}
    fields |= {"stream": bool(body.stream), "stream_options": None}
    return encode(fields | {"cache_salt": None, "priority": 0, "kv_transfer_params": None})


@lru_cache(maxsize=4)
def _written(prompt: Prompt) -> msgspec.Raw:
    """The prompt's tokens as JSON. A router asks all pods of this process for the same ones, one after the other."""
    return msgspec.Raw(encode(prompt.token_ids()))


def detokenize(given: object, spec: PodSpec) -> bytes:
    """POST /detokenize."""
    body = read(DetokenizeBody, given)
    model_of(body.model, spec)
    return encode({"prompt": text_of(body.tokens).decode(errors="replace")})


def models(spec: PodSpec) -> bytes:
    """GET /v1/models."""
    return encode({"object": "list", "data": [_card(name, spec) for name in spec.models]})


def _card(name: str, spec: PodSpec) -> dict[str, object]:
    permission = {"id": "modelperm-0", "object": "model_permission", "created": CREATED, "allow_create_engine": False}
    permission |= dict.fromkeys(("allow_sampling", "allow_logprobs"), True)
    permission |= {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
    permission |= {"organization": "*", "group": None, "is_blocking": False}
    root, parent = (spec.adapters[name], spec.models[0]) if name in spec.adapters else (name, None)
    stamp = {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm", "root": root, "parent": parent}
    return stamp | {"max_model_len": spec.profile.max_model_len, "permission": [permission]}


def _vector(seed: int, size: int, packed: bool) -> list[float] | str:
    state, floats = seed | 1, []
    for _ in range(size):
        state = state * 6364136223846793005 + 1442695040888963407 & (2**64 - 1)
        floats.append((state >> 40) / 2**23 - 1.0)
    norm = sum(one * one for one in floats) ** 0.5
    unit = [one / norm for one in floats]
    return base64.b64encode(struct.pack(f"<{size}f", *unit)).decode() if packed else unit
