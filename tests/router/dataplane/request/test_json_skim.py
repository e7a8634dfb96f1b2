"""Large bodies with their long strings cut: the same fields and prompt are read as from the whole body."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request import openai
from router.dataplane.request.json_skim import FROM_BYTES, KEPT, abridge, original
from router.dataplane.request.openai import Call
from router.dataplane.request.openai_fields import decode
from router.errors import BadRequest
from tests.fakes.each_case import each_case

PROSE = "Answer briefly, \\ and cite the manual.\n" * 2000


def body(content: str, **fields: object) -> bytes:
    asked = {"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": content}], "user": "me", **fields}
    return json.dumps(asked).encode()


def whole(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The call as it is read without any cut."""
    with monkeypatch.context() as patch:
        patch.setattr(openai, "FROM_BYTES", len(raw) + 1)
        return openai.read(b"application/json", raw)


def alike(one: Call, other: Call) -> None:
    assert one._replace(prompt=()) == other._replace(prompt=())
    assert [bytes(part) for part in one.prompt] == [bytes(part) for part in other.prompt]


def test_a_long_text_is_cut_to_its_ends() -> None:
    raw = body("a" * 50_000)
    short = abridge(raw)
    assert short is not None
    assert short.text == body("a" * 2 * KEPT)
    assert original(short.cuts, 0) == 0
    assert original(short.cuts, short.text.index(b'"user": "me"')) == raw.index(b'"user": "me"')


def test_a_body_of_many_small_texts_is_left_alone() -> None:
    assert abridge(body('"quoted" ' * 5000)) is None
    assert abridge(json.dumps({"prompt": list(range(20_000))}).encode()) is None
    assert abridge(b"x" * 10_000) is None
    assert abridge(b'{"a": 1' + b" " * 10_000 + b"}") is None


def test_blanks_behind_a_string_are_not_cut_as_text() -> None:
    raw = b'{"model": "m", "prompt": "a:"' + b" " * 20_000 + b', "user": "me"}'
    assert abridge(raw) is None
    assert openai.read(b"", raw).session_key == "me"


@each_case("tail", ["\\", "\\\\", '"', '\\"', "\n" * 40, "\\" * 39, "\\" * 40, "é" * 40, "\u0001" * 20])
@each_case("head", ["\\", "\\\\", '"', '\\"', "\n" * 40, "\\" * 39, "é" * 40, "\u0001" * 20, " ,", ":"])
def test_escapes_where_a_text_is_cut_stay_whole(head: str, tail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = body(head + "x" * FROM_BYTES + tail)
    alike(openai.read(b"", raw), whole(raw, monkeypatch))


@given(
    st.lists(
        st.text(alphabet='ab "\\\n,:]}[{é\u0001', max_size=40).map(lambda part: part * 60) | st.just("long" * 3000),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_a_cut_body_reads_as_the_whole_body(texts: list[str], ascii_only: bool) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    asked = {"messages": messages, "model": "m", "tools": [{"d": texts[0]}], "system": texts[-1], "user": texts[0][:9]}
    raw = json.dumps(asked, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as monkeypatch:
        alike(openai.read(b"", raw), whole(raw, monkeypatch))
    short = abridge(raw)
    if short is not None:
        fields = decode(short.text)
        assert (fields.model, len(json.loads(bytes(fields.messages)))) == ("m", len(texts))


def test_a_cut_field_that_is_no_prompt_is_read_whole() -> None:
    raw = body("hello", user="u" * 20_000)
    assert openai.read(b"", raw).session_key == "u" * 20_000


def test_the_same_bytes_in_two_fields_are_not_confused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = "a" * KEPT + "b" * 9000 + "c" * KEPT, "a" * KEPT + "d" * 9000 + "c" * KEPT
    raw = json.dumps({"model": "m", "metadata": one, "prompt": two}).encode()
    alike(openai.read(b"", raw), whole(raw, monkeypatch))


def test_a_broken_large_body_is_refused_with_the_error_for_the_whole_body() -> None:
    raw = body("x" * 20_000)
    with pytest.raises(BadRequest, match="not valid JSON") as refused:
        openai.read(b"", raw[:-2])
    assert "truncated" in str(refused.value)
    with pytest.raises(BadRequest, match="max_tokens"):
        openai.read(b"", raw.replace(b"7", b'"many"'))
