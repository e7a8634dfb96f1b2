from __future__ import annotations

import msgspec
from pydantic import BaseModel

from router.dataplane.request import openai
from router.ray.calls import CallMetadata, request_of

NOTHING = CallMetadata()


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    """As Ray Serve LLM's: pydantic objects within a pydantic object."""

    model: str
    messages: list[Message]
    max_tokens: int | None = None
    temperature: float = 1.0


class HttpRequest:
    """As Ray's proxy sends it on: a scope, and a body that is still at the proxy."""

    def __init__(self) -> None:
        self.asgi_scope = {"type": "http", "headers": [(b"x-session-id", b"s1"), (b"content-encoding", b"gzip")]}


def body_of(*arguments: object, metadata: CallMetadata = NOTHING) -> dict[str, object]:
    read: dict[str, object] = msgspec.json.decode(request_of(arguments, metadata).body)
    return read


def test_a_chat_of_ray_serve_llm_is_read_as_a_gateway_reads_its_json() -> None:
    chat = ChatRequest(model="llama", messages=[Message(role="user", content="hello " * 100)], max_tokens=7)
    call = request_of([chat, None], CallMetadata("r1", stream=True))
    read = openai.read(call.head.header_map[b"content-type"], call.body)
    plain = openai.read(b"application/json", chat.model_dump_json(include={"model", "messages"}).encode())
    assert (read.model, read.max_tokens, read.stream) == ("llama", 7, True)
    assert [bytes(part) for part in read.prompt] == [bytes(part) for part in plain.prompt]
    assert call.head.header_map[b"x-request-id"] == b"r1"


def test_mappings_json_and_plain_prompts_are_prompts() -> None:
    assert body_of({"prompt": "a", "temperature": 0}) == {"prompt": "a", "stream": False, "model": ""}
    assert body_of('{"input": "b", "model": "m"}')["input"] == "b"
    assert body_of(b"c")["prompt"] == "c"


def test_the_first_argument_with_a_prompt_counts() -> None:
    assert body_of(3, {"n": 1}, {"prompt": "a"}, {"prompt": "b"})["prompt"] == "a"


def test_the_multiplexed_model_is_the_model_where_the_request_names_none() -> None:
    metadata = CallMetadata(model_id="adapter")
    assert body_of({"prompt": "a"}, metadata=metadata)["model"] == "adapter"
    assert body_of({"prompt": "a", "model": "m"}, metadata=metadata)["model"] == "m"
    assert body_of(metadata=metadata)["model"] == "adapter"


def test_a_session_comes_from_the_call_or_from_the_headers_of_an_http_request() -> None:
    http = request_of([HttpRequest()], NOTHING)
    assert (http.body, http.head.header_map) == (b"", {b"x-session-id": b"s1"})
    assert http.head.kept == [b"x-session-id: s1\r\n"]
    assert request_of([HttpRequest()], CallMetadata(session_id="s2")).head.header_map[b"x-session-id"] == b"s2"


def test_what_is_no_request_of_a_model_has_no_body() -> None:
    for nothing in (None, 3, "", b"", "{broken", '{"a": 1}', "{1}", [1], {"a": 1}):
        assert request_of([nothing], NOTHING).body == b""
