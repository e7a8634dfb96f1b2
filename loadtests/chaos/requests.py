"""The requests: every kind that clients send, drawn from a seed, and the answer that the engine has for each. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from loadtests.chaos.reading import Said, of_whole
from loadtests.sim.engine.profiles import PACED
from loadtests.sim.simpod import anthropic, openai, responses
from loadtests.sim.simpod.bodies import ResponsesBody, read
from loadtests.sim.simpod.chat import chat
from loadtests.sim.simpod.completions import completion
from loadtests.sim.simpod.script import PodSpec, Script

TOKENS: Final = (4, 60)
"""Least and most tokens of an answer."""
MEAN_TOKENS: Final = sum(TOKENS) / 2
CANCELLED: Final = 0.08
"""Fraction of the streams whose client leaves in the middle."""

_PARAMETERS: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}


class Asked(NamedTuple):
    """One request."""

    kind: str
    """`chat`, `completion`, `embedding`, `tool`, `messages` or `response`."""
    path: str
    body: Mapping[str, Any]
    session: str
    leave_after: int = 0
    """Pieces of the answer after which the client leaves; 0: it stays."""

    @property
    def stream(self) -> bool:
        """Whether the answer is streamed."""
        return bool(self.body.get("stream"))

    @property
    def name(self) -> str:
        """Its kind and form, for reports."""
        return f"{self.kind} {'stream' if self.stream else 'whole'}"


class _Drawn(NamedTuple):
    """What all kinds have in common."""

    model: str
    system: str
    question: str
    tokens: int
    stream: bool

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.question}]

    def body(self, fields: Mapping[str, Any], *, usage: bool = False) -> dict[str, Any]:
        """The fields, and those of a stream."""
        streamed: dict[str, Any] = {"stream": True} if self.stream else {}
        if usage and self.stream:
            streamed["stream_options"] = {"include_usage": True}
        return {"model": self.model, **fields, **streamed}


def _chat(drawn: _Drawn) -> dict[str, Any]:
    fields = {"messages": drawn.messages, "max_tokens": drawn.tokens, "ignore_eos": True}
    return drawn.body(fields, usage=True)


def _completion(drawn: _Drawn) -> dict[str, Any]:
    fields = {"prompt": f"{drawn.system}\n{drawn.question}", "max_tokens": drawn.tokens, "ignore_eos": True}
    return drawn.body(fields, usage=True)


def _embedding(drawn: _Drawn) -> dict[str, Any]:
    return {"model": drawn.model, "input": [drawn.question, drawn.system]}


def _tool(drawn: _Drawn) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "weather", "parameters": _PARAMETERS}}
    fields = {"messages": drawn.messages, "tools": [tool], "tool_choice": "required", "max_tokens": 60}
    return drawn.body(fields, usage=True)


def _messages(drawn: _Drawn) -> dict[str, Any]:
    asked = [{"role": "user", "content": drawn.question}]
    fields = {"system": drawn.system, "messages": asked, "max_tokens": drawn.tokens, "ignore_eos": True}
    return drawn.body(fields)


def _response(drawn: _Drawn) -> dict[str, Any]:
    fields = {"instructions": drawn.system, "input": drawn.question, "max_output_tokens": drawn.tokens}
    return drawn.body({**fields, "store": False})


KINDS: Final[Mapping[str, tuple[str, Callable[[_Drawn], dict[str, Any]], int]]] = {
    "chat": ("/v1/chat/completions", _chat, 48),
    "completion": ("/v1/completions", _completion, 14),
    "embedding": ("/v1/embeddings", _embedding, 8),
    "tool": ("/v1/chat/completions", _tool, 10),
    "messages": ("/v1/messages", _messages, 11),
    "response": ("/v1/responses", _response, 9),
}
"""Each kind's path, its body, and its weight in the mix."""


def draw(rng: random.Random, number: int, models: Mapping[str, int]) -> Asked:
    """The next request; `models` are those served, by their weight."""
    (kind,) = rng.choices(list(KINDS), [weight for _, _, weight in KINDS.values()])
    (model,) = rng.choices(list(models), list(models.values()))
    topic = rng.randrange(12)
    system = f"You know everything about subject {topic}. " * 20
    stream = rng.random() < 0.7
    drawn = _Drawn(model, system, f"Question {number}: {rng.getrandbits(64):x}?", rng.randint(*TOKENS), stream)
    path, make, _ = KINDS[kind]
    body = make(drawn)
    leaves = bool(body.get("stream")) and rng.random() < CANCELLED
    return Asked(kind, path, body, f"session-{topic}-{number % 5}", rng.randint(1, 12) if leaves else 0)


def right_answer(asked: Asked) -> Said:
    """What the simulated engine says to it, in the form of an answer that was read."""
    plain = {key: value for key, value in asked.body.items() if key not in ("stream", "stream_options")}
    return of_whole(asked.path, msgspec.json.decode(_script(asked.path, plain).whole(0)))


def engine_bytes(asked: Asked) -> bytes:
    """The body of the simulated engine's answer, whole or streamed."""
    script = _script(asked.path, asked.body)
    if script.stream is None:
        return script.whole(0)
    (choice,) = script.choices
    assert choice.event is not None
    tokens = [choice.event(at) for at in range(choice.tokens)]
    return b"".join([*script.stream.opening(0), *tokens, *script.stream.closing(0)])


def _script(path: str, body: Mapping[str, Any]) -> Script:
    spec = PodSpec("pod", (str(body["model"]),), PACED)
    if path == "/v1/responses":
        return responses.write(read(ResponsesBody, body), spec, "resp_0", []).script
    return _WRITERS[path](body, spec)


_WRITERS: Final[Mapping[str, Callable[[object, PodSpec], Script]]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
    "/v1/embeddings": openai.embedding,
    "/v1/messages": anthropic.messages,
}
