"""Requests whose answers a simulated engine and a real vLLM are compared by, and the shapes of answers.

A shape has statuses, content types, keys in their order and types of values; of some keys it has the values, too, and
of error messages all but their numbers. Of the events with one shape the first counts.

Run against a real engine, this writes the record that the tests compare with:

    VLLM_ENABLE_RESPONSES_API_STORE=1 vllm serve MODEL --served-model-name tiny --max-model-len 8192 \
        --enable-prompt-tokens-details --enable-auto-tool-choice --tool-call-parser hermes
    python -m tests.loadtests.sim.simpod.vllm_shapes http://127.0.0.1:8000 > tests/data/vllm-0.32-shapes.json
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
RESPONSES, COUNT = "/v1/responses", "/v1/messages/count_tokens"
MAX_MODEL_LEN = 8192
ANSWER_S = 300.0

_LITERAL = frozenset({"object", "type", "role", "finish_reason", "status", "code", "param", "stop_sequence"})
"""Keys whose values are compared as well."""
_FREE = frozenset({"top_logprobs", "prompt_logprobs", "parameters", "metadata"})
"""Keys whose objects have keys of their own choice."""
_TOKENS = 32
"""Enough for a stream to have events in the middle: a busy engine puts several tokens into one."""
_SAME = {"model": "tiny", "temperature": 0}
"""The tiny model's likeliest tokens have text, others may be half a character."""
_TRIES = 30
_CUT_OFF = re.compile('"length"|"max_tokens"|"incomplete"')
_NUMBER = re.compile(r"\d+(\.\d+)?")
_HI = [{"role": "user", "content": "hi there"}]
_UNIT = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"]} | {
    "additionalProperties": False
}
_TOOL = {"type": "function", "function": {"name": "weather", "parameters": _UNIT, "strict": True}}
_FLAT_TOOL = {"type": "function", "name": "weather", "parameters": _UNIT, "strict": True}
_USE = {"name": "weather", "input_schema": _UNIT, "strict": True}
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
_ALWAYS = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


class Exchange(NamedTuple):
    """A request to compare by."""

    path: str
    body: object = None
    """JSON, or text as it is; None is a GET."""
    method: str = "POST"
    content_type: str | None = "application/json"
    loose: bool = False
    """Its message may differ: vLLM's has names of its own code in it."""
    complete: bool = False
    """Only an answer that ended by itself counts; the tiny model may go on with blanks up to the limit."""

    def send(self, client: httpx.Client) -> httpx.Response:
        """The answer."""
        answer = self._send(client)
        for _ in range(_TRIES):
            if not self.complete or not _CUT_OFF.search(answer.text):
                break
            answer = self._send(client)
        return answer

    def _send(self, client: httpx.Client) -> httpx.Response:
        headers = {"content-type": self.content_type} if self.content_type and self.method == "POST" else {}
        content = self.body if isinstance(self.body, str) or self.body is None else json.dumps(self.body)
        return client.request(self.method, self.path, content=content, headers=headers)


def get(path: str, method: str = "GET") -> Exchange:
    return Exchange(path, None, method)


def chat(**fields: object) -> Exchange:
    return Exchange(CHAT, {"messages": _HI, "max_tokens": _TOKENS, "ignore_eos": True} | _SAME | fields)


def completion(**fields: object) -> Exchange:
    return Exchange(COMPLETIONS, {"prompt": "a b", "max_tokens": _TOKENS, "ignore_eos": True} | _SAME | fields)


def message(path: str = MESSAGES, **fields: object) -> Exchange:
    """An answer of one token at least: the field that forbids an end is not Anthropic's."""
    tokens = {"max_tokens": 1} if path == MESSAGES else {}
    return Exchange(path, {"messages": _HI} | tokens | _SAME | fields)


def response(**fields: object) -> Exchange:
    return Exchange(RESPONSES, {"input": "hi there", "max_output_tokens": _TOKENS, "ignore_eos": True} | _SAME | fields)


def _schema(kind: str) -> dict[str, Any]:
    return {"type": kind, "json_schema": {"name": "unit", "schema": _UNIT}}


def _ending(**fields: object) -> Exchange:
    """A chat that ends by itself."""
    return chat(**{"ignore_eos": False, "max_tokens": 100, "temperature": 1} | fields)._replace(complete=True)


def _forced(exchange: Exchange) -> Exchange:
    assert isinstance(exchange.body, dict)
    return exchange._replace(body=exchange.body | {"temperature": 1}, complete=True)


_LONG = "a b " * 9000
_NAMED = {"type": "function", "function": {"name": "weather"}}

ANSWERS: dict[str, Exchange] = {
    "health": get("/health"),
    "ping": get("/ping"),
    "posted ping": Exchange("/ping", ""),
    "version": get("/version"),
    "load": get("/load"),
    "models": get("/v1/models"),
    "tokenize": Exchange("/tokenize", {"model": "tiny", "prompt": "Terms"}),
    "tokenize with strings": Exchange("/tokenize", {"prompt": "Terms", "return_token_strs": True}),
    "tokenize messages": Exchange("/tokenize", {"model": "tiny", "messages": _HI}),
    "detokenize": Exchange("/detokenize", {"model": "tiny", "tokens": [116, 101]}),
    "chat": chat(),
    "chat without a model": chat(model=None),
    "chat, numbers as text": chat(max_tokens="4", temperature="0.5"),
    "chat, max_completion_tokens": chat(max_completion_tokens=2),
    "chat stream": chat(stream=True),
    "chat stream with usage": chat(**_USAGE),
    "chat stream with usage always": chat(**_ALWAYS),
    "two choices": chat(n=2, temperature=1),
    "logprobs": chat(logprobs=True, top_logprobs=2),
    "logprobs without top": chat(logprobs=True),
    "logprobs in a stream": chat(logprobs=True, top_logprobs=1, max_tokens=8, **_ALWAYS),
    "token ids": chat(return_token_ids=True),
    "token ids in a stream": chat(return_token_ids=True, stream=True, max_tokens=8),
    "min_tokens": chat(min_tokens=2, ignore_eos=False, max_tokens=2),
    "json_schema": _ending(response_format=_schema("json_schema")),
    "structured choice": _ending(structured_outputs={"choice": ["yes", "no"]}),
    "structured regex": _ending(structured_outputs={"regex": "[a-c]{3}"}),
    "structured json": _ending(structured_outputs={"json": _UNIT}),
    "removed guided field": chat(guided_json=_UNIT),
    "tool required": _ending(tools=[_TOOL], tool_choice="required"),
    "tool required in a stream": _ending(tools=[_TOOL], tool_choice="required", stream=True),
    "tool named": _ending(tools=[_TOOL], tool_choice=_NAMED),
    "tool named in a stream": _ending(tools=[_TOOL], tool_choice=_NAMED, **_USAGE),
    "tools, none to be called": chat(tools=[_TOOL], tool_choice="none"),
    "tools, auto": chat(tools=[_TOOL]),
    "chat echo": chat(messages=[*_HI, {"role": "assistant", "content": "so"}], echo=True),
    "content in parts": chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]),
    "completion": completion(),
    "completion stream": completion(stream=True),
    "completion stream with usage": completion(**_USAGE),
    "completion stream with usage always": completion(**_ALWAYS),
    "list of prompts": completion(prompt=["a b", "c d"]),
    "list of prompts in a stream": completion(prompt=["a b", "c d"], stream=True),
    "token ids as prompt": completion(prompt=[116, 101]),
    "lists of token ids": completion(prompt=[[116, 101], [101]], n=2, temperature=1),
    "completion logprobs": completion(logprobs=1),
    "completion logprobs in a stream": completion(logprobs=1, stream=True),
    "echo": completion(echo=True),
    "echo with logprobs": completion(prompt="a b c d e f", echo=True, logprobs=1),
    "echo alone": completion(echo=True, max_tokens=0),
    "best_of is ignored": completion(best_of=3),
    "completion token ids": completion(return_token_ids=True),
    "message": message(),
    "message stream": message(stream=True),
    "message with system and tools": message(system="be brief", tools=[_USE]),
    "message with a forced tool": _forced(message(tools=[_USE], tool_choice={"type": "any"}, max_tokens=100)),
    "message with a forced tool in a stream": _forced(
        message(tools=[_USE], tool_choice={"type": "tool", "name": "weather"}, max_tokens=100, stream=True)
    ),
    "count_tokens": message(COUNT),
    "count_tokens with tools": message(COUNT, tools=[_USE], system=[{"type": "text", "text": "x"}]),
    "response": response(),
    "response stream": response(stream=True),
    "response with instructions": response(instructions="be brief", metadata={"a": "b"}, user="u"),
    "response to items": response(input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]),
    "response with logprobs": response(include=["message.output_text.logprobs"], top_logprobs=1),
    "response in the background": response(background=True),
    "response with a forced tool": _forced(
        response(tools=[_FLAT_TOOL], tool_choice="required", max_output_tokens=100, ignore_eos=False)
    ),
    "response with a forced tool in a stream": _forced(
        response(tools=[_FLAT_TOOL], tool_choice="required", max_output_tokens=100, ignore_eos=False, stream=True)
    ),
}
"""Requests that are answered."""

ERRORS: dict[str, Exchange] = {
    "no such path": get("/nope"),
    "no such path under v1": Exchange("/v1/nope", {}),
    "a model by its name": get("/v1/models/tiny"),
    "GET of a POST path": get(CHAT),
    "POST of a GET path": Exchange("/v1/models", {}),
    "DELETE of models": get("/v1/models", "DELETE"),
    "HEAD of health": get("/health", "HEAD"),
    "HEAD of no path": get("/", "HEAD"),
    "a slash too many": get("/v1/models/?a=1"),
    "a slash too many in a POST": Exchange(f"{CHAT}/", {"model": "tiny"}),
    "a slash too many on health": get("/health/"),
    "text/plain": chat()._replace(content_type="text/plain"),
    "no content type": chat()._replace(content_type=None),
    "JSON with a charset": chat()._replace(content_type="application/json; charset=utf-8"),
    "no body": Exchange(CHAT, ""),
    "broken JSON": Exchange(CHAT, '{"model": '),
    "JSON with rubbish behind": Exchange(CHAT, '{"model": "tiny"} x'),
    "a list as body": Exchange(CHAT, []),
    "no messages": Exchange(CHAT, {"model": "tiny"}),
    "messages of another type": chat(messages="hi"),
    "unknown model": chat(model="nope"),
    "model of another type": chat(model=7),
    "temperature below its range": chat(temperature=-1),
    "temperature above its range": chat(temperature=3),
    "top_p of zero": chat(top_p=0),
    "top_k below its range": chat(top_k=-2),
    "presence_penalty above its range": chat(presence_penalty=3),
    "n of zero": chat(n=0),
    "greedy and several": chat(n=2, temperature=0),
    "max_tokens of zero": chat(max_tokens=0),
    "max_tokens below zero": chat(max_tokens=-1),
    "max_tokens as a word": chat(max_tokens="many"),
    "more tokens than the model has": chat(max_tokens=99999),
    "more completion tokens than the model has": chat(max_completion_tokens=99999),
    "chat too long": chat(messages=[{"role": "user", "content": _LONG}]),
    "completion too long": completion(prompt=_LONG),
    "message too long in itself": message(messages=[{"role": "user", "content": _LONG}]),
    "response too long": response(input=_LONG),
    "tool_choice without a function": chat(tools=[_TOOL], tool_choice={"type": "function"}),
    "tool_choice without a name": chat(tools=[_TOOL], tool_choice={"type": "function", "function": {}}),
    "min_tokens above max_tokens": chat(min_tokens=50),
    "min_tokens below zero": chat(min_tokens=-1),
    "stop as an empty string": chat(stop=""),
    "too many stops": chat(stop=["a", "b", "c", "d", "e"]),
    "stream of another type": chat(stream="maybe"),
    "stream_options without a stream": chat(stream_options={"include_usage": True}),
    "top_logprobs without logprobs": chat(top_logprobs=1),
    "top_logprobs below zero": chat(logprobs=True, top_logprobs=-2),
    "too many top_logprobs": chat(logprobs=True, top_logprobs=21),
    "no tools in the list": chat(tools=[]),
    "tool_choice without tools": chat(tool_choice="auto"),
    "unknown tool named": chat(tools=[_TOOL], tool_choice={"type": "function", "function": {"name": "nope"}}),
    "tool_choice of another kind": chat(tools=[_TOOL], tool_choice="always"),
    "response_format of another kind": chat(response_format={"type": "yaml"})._replace(loose=True),
    "json_schema without one": chat(response_format={"type": "json_schema"}),
    "structured outputs of no kind": chat(structured_outputs={})._replace(loose=True),
    "structured outputs of two kinds": chat(structured_outputs={"choice": ["a"], "regex": "a"}),
    "completion without a prompt": Exchange(COMPLETIONS, {"model": "tiny"}),
    "completion of an empty prompt": completion(prompt=""),
    "completion of an unknown model": completion(model="nope"),
    "completion of a prompt of another type": completion(prompt={"a": 1}),
    "completion with too many logprobs": completion(logprobs=21),
    "completion, n of zero": completion(n=0),
    "message of an unknown model": message(model="nope"),
    "message without max_tokens": Exchange(MESSAGES, {"model": "tiny", "messages": _HI}),
    "message without a model": Exchange(MESSAGES, {"messages": _HI, "max_tokens": 1}),
    "message with max_tokens of zero": message(max_tokens=0),
    "message with more tokens than the model has": message(max_tokens=99999),
    "message of another role": message(messages=[{"role": "wizard", "content": "hi"}]),
    "message as text": message()._replace(content_type="text/plain"),
    "count_tokens of an unknown model": message(COUNT, model="nope"),
    "count_tokens without messages": Exchange(COUNT, {"model": "tiny"}),
    "tokenize of nothing": Exchange("/tokenize", {"model": "tiny"}),
    "tokenize of an unknown model": Exchange("/tokenize", {"model": "nope", "prompt": "x"}),
    "detokenize of words": Exchange("/detokenize", {"model": "tiny", "tokens": ["x"]}),
    "detokenize without tokens": Exchange("/detokenize", {"model": "tiny"}),
    "response without input": Exchange(RESPONSES, {"model": "tiny"}),
    "response of an unknown model": response(model="nope"),
    "response after an unknown one": response(previous_response_id="resp_nope"),
    "response in the background, not stored": response(background=True, store=False),
    "response with a required tool and no tools": response(tool_choice="required"),
    "response with an unknown tool": response(tools=[_FLAT_TOOL], tool_choice={"type": "function", "name": "nope"}),
    "unknown response": get(f"{RESPONSES}/resp_nope"),
    "cancel of an unknown response": Exchange(f"{RESPONSES}/resp_nope/cancel", ""),
}
"""Requests that are refused."""

REQUESTS = ANSWERS | ERRORS


def shape_of(answer: httpx.Response, *, loose: bool = False) -> dict[str, Any]:
    """What is compared of an answer."""
    kind = answer.headers.get("content-type", "")
    shape: dict[str, Any] = {"status": answer.status_code, "content_type": kind}
    if "location" in answer.headers:
        place = httpx.URL(answer.headers["location"])
        shape["location"] = place.raw_path.decode()
    if "allow" in answer.headers:
        shape["allow"] = answer.headers["allow"]
    if kind.startswith("text/event-stream"):
        return shape | {"events": list(_events(answer.text))}
    if not kind.startswith("application/json") or not answer.content:
        return shape
    return shape | {"body": _typed(answer.json(), message=answer.status_code >= 400 and not loose)}


def _events(text: str) -> Iterator[list[Any]]:
    """Name and shape of each event, in order, each shape once: engines may send several tokens in one event."""
    parsed = []
    for event in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines())
        data = fields["data"]
        parsed.append([fields.get("event"), data if data == "[DONE]" else _typed(json.loads(data))])
    yield from (event for at, event in enumerate(parsed) if event not in parsed[:at])


def _typed(value: Any, key: str = "", *, message: bool = False) -> Any:
    if isinstance(value, dict):
        named = key not in _FREE or "token" in value
        return {name if named else "*": _typed(each, name, message=message) for name, each in value.items()}
    if isinstance(value, list):
        if key == "bytes":
            return "bytes"
        shapes = [_typed(each, key if key in _FREE else "") for each in value]
        return [one for at, one in enumerate(shapes) if one not in shapes[:at]]
    if key in _LITERAL or value is None:
        return value
    if key == "message" and message:
        return _NUMBER.sub("0", value)
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def record(url: str) -> dict[str, Any]:
    """The shapes of all answers of an engine."""
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=ANSWER_S) as client:
        return {name: shape_of(each.send(client), loose=each.loose) for name, each in REQUESTS.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record(sys.argv[1]), indent=1) + "\n")
