"""Bodies as engines read them: Python's `json`, then pydantic. Every case is Case D 12."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.dataplane.request import openai
from router.dataplane.request.lenient_json import UnreadableBody, read, with_field
from router.dataplane.request.openai import Call
from router.errors import BadRequest
from tests.fakes.each_case import each_case

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LARGE = "a long word of a long prompt " * 4000


def body(size: str, **fields: Any) -> bytes:
    filling = {"messages": [{"role": "user", "content": LARGE}]} if size == "large" else {}
    return json.dumps(CHAT | filling | fields).encode()


def called(data: bytes) -> Call:
    return openai.read(b"application/json", data)


every_size = each_case("size", ["small", "large"])


@every_size
@each_case(
    ("field", "value", "read_as"),
    [
        ("max_tokens", "64", 64),
        ("max_tokens", " 64 ", 64),
        ("max_tokens", "64.0", 64),
        ("max_completion_tokens", 64.0, 64),
        ("max_tokens", True, 1),
        ("stream", 1, True),
        ("stream", 1.0, True),
        ("stream", 0, False),
        ("stream", "true", True),
        ("stream", "True", True),
        ("stream", "yes", True),
        ("stream", "off", False),
        ("stream", None, False),
        ("prompt_cache_key", 7, ""),
        ("prompt_cache_key", ["k"], ""),
    ],
)
def test_values_are_read_as_pydantic_reads_them(size: str, field: str, value: object, read_as: object) -> None:
    call = called(body(size, **{field: value}))
    found = {"stream": call.stream, "prompt_cache_key": call.session_key}
    assert found.get(field, call.max_tokens) == read_as


@every_size
@each_case(
    ("field", "value"),
    [
        ("max_tokens", "many"),
        ("max_tokens", [64]),
        ("max_tokens", "1" * 600),
        ("stream", "perhaps"),
        ("stream", 2),
        ("stream", {}),
        ("model", 3),
        ("model", ["m"]),
        ("user", 7),
    ],
)
def test_what_pydantic_refuses_is_refused_with_the_name_of_the_field(size: str, field: str, value: object) -> None:
    with pytest.raises(BadRequest, match=f"field '{field}'"):
        called(body(size, **{field: value}))


@every_size
@each_case(
    "content",
    [r'"\ud83d"', r'"\ude00\ud83d"', r'"\uD83D and \ud83d\ude00"', "NaN", "[Infinity, -Infinity]", '"NaN", "x": NaN'],
)
def test_what_json_of_python_reads_is_read(size: str, content: str) -> None:
    data = body(size).replace(b'"role"', b'"content": %b, "role"' % content.encode())
    json.loads(data)
    assert called(data).model == "m"


@every_size
@each_case("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_every_encoding_of_json_is_read(size: str, encoding: str) -> None:
    data = body(size, stream=True).decode().encode(encoding)
    call = called(data)
    plain = called(body(size, stream=True))
    assert (call.model, call.stream, call.prompt_tokens) == ("m", True, plain.prompt_tokens)
    assert b"".join(map(bytes, call.prompt)) == b"".join(map(bytes, plain.prompt))


@each_case(
    "data",
    [
        b"NaN",
        b"[NaN]",
        b"\xef\xbb\xbf",
        b"\xff\xfe{\x00",
        b'\xef\xbb\xbf{"model": ',
        b'{"model": "\xff"}',
        b'{"model": "\\ud83d"}',
        b'{"model": "m", "x": NaN, "y": nan}',
        b'{"model": "m", "x": "\n"}',
    ],
)
def test_what_is_no_json_for_an_engine_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableBody):
        read(data)
    with pytest.raises(BadRequest):
        called(data)


def test_gateway_and_engine_never_see_different_models() -> None:
    """A name that the replacements would change is not read."""
    with pytest.raises(UnreadableBody, match="model"):
        read(b'{"model": "NaN", "x": NaN}')
    assert read(b'{"model": "m", "x": NaN, "user": "NaN"}').model == "m"


@pytest.mark.parametrize("data", [b'{"model": "alias", "x": NaN} ', '{"model": "alias"}'.encode("utf-16")])
def test_an_alias_is_replaced_in_such_a_body_too(data: bytes) -> None:
    changed = openai.with_model(data, b"application/json", "real")
    assert json.loads(changed)["model"] == "real"
    assert changed == with_field(data, "model", "real")


def test_deep_nesting_is_read_or_refused() -> None:
    for depth in (500, 100_000):
        data = b'{"model": "m", "y": NaN, "x": ' + b"[" * depth + b"]" * depth + b"}"
        try:
            assert read(data).model == "m"
        except UnreadableBody:
            assert depth == 100_000
