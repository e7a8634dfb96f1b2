"""What is read from a body, what is refused, and what an alias changes in it."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request import openai
from router.dataplane.request.inline_data import IMAGE_TOKENS
from router.dataplane.request.openai import Call, with_model
from router.errors import BadRequest
from tests.fakes.each_case import each_case

JSON = b"application/json"
FORM = b"multipart/form-data; boundary=B"


def read(body: bytes) -> Call:
    return openai.read(JSON, body)


def prompt(call: Call) -> bytes:
    return b"".join(bytes(part) for part in call.prompt)


def part(disposition: str, value: bytes) -> bytes:
    return f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + value + b"\r\n"


def test_a_chat_is_read() -> None:
    call = read(b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":7,"stream":true,"user":"u"}')
    assert call.model == "m"
    assert prompt(call) == b'[{"role":"user","content":"hi"}]'
    assert (call.max_tokens, call.stream, call.session_key) == (7, True, "u")


def test_the_content_type_does_not_matter_unless_it_is_a_form() -> None:
    assert openai.read(b"", b'{"model":"m"}').model == "m"
    assert openai.read(b"text/plain", b'{"model":"m"}').model == "m"


@each_case(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model":"m"',
        b'{"model":"m"}x',
        b"\xff",
        b'{"model":"\xff"}',
        b'{"a":1e}',
        b"NaN",
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        read(body)


@each_case("body", [b"[]", b"[", b'"text"', b"1", b"null", b"true", b'[{"model":"m"}]'])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        read(body)


@pytest.mark.parametrize("depth", [500, 5_000, 100_000])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    body = b'{"model":"m","messages":' + b"[" * depth + b"]" * depth + b"}"
    try:
        assert read(body).model == "m"
    except BadRequest as error:
        assert "not valid JSON" in error.message


@pytest.mark.parametrize("body", [b"{}", b'{"model":null}', b'{"model":""}', b'{"Model":"m"}'])
def test_a_body_may_name_no_model(body: bytes) -> None:
    assert read(body).model == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "1"), ("max_tokens", '"five"'), ("stream", '"perhaps"'), ("user", "3"), ("max_completion_tokens", "[]")],
)
def test_a_field_of_the_wrong_type_is_named(field: str, value: str) -> None:
    body = f'{{"model":"m","{field}":{value}}}' if field != "model" else f'{{"model":{value}}}'
    with pytest.raises(BadRequest, match=f"'{field}'"):
        read(body.encode())


@each_case(
    ("fields", "expected"),
    [
        ("", 0),
        ('"max_tokens":5', 5),
        ('"max_completion_tokens":6,"max_tokens":5', 6),
        ('"max_output_tokens":8', 8),
        ('"max_tokens":5.0', 5),
        ('"max_tokens":5.9', 5),
        ('"max_tokens":null', 0),
        ('"max_tokens":-3', 0),
    ],
)
def test_the_answers_limit_is_read_under_any_of_its_names(fields: str, expected: int) -> None:
    assert read(f'{{"model":"m"{"," if fields else ""}{fields}}}'.encode()).max_tokens == expected


@pytest.mark.parametrize("huge", ["1" + "0" * 30, "1e300", "9223372036854775808"])
def test_a_huge_limit_is_capped(huge: str) -> None:
    assert read(f'{{"model":"m","max_tokens":{huge}}}'.encode()).max_tokens <= 1 << 32


def test_the_prompts_parts_come_in_the_order_of_an_engines_template() -> None:
    call = read(b'{"messages":["M"],"model":"m","system":"S","tools":["T"]}')
    assert prompt(call) == b'["T"]"S"["M"]'
    assert prompt(read(b'{"model":"m","instructions":"I","input":"in"}')) == b'"I""in"'
    assert prompt(read(b'{"model":"m","query":"q","documents":["d"]}')) == b'"q"["d"]'


def test_a_prompt_does_not_depend_on_the_bodys_other_fields() -> None:
    one = read(b'{"model":"m","messages":[{"content":"a"}],"temperature":0}')
    other = read(b'{"seed":1,"messages":[{"content":"a"}],"stream":true,"model":"m"}')
    assert prompt(one) == prompt(other)


@each_case(
    ("value", "tokens"),
    [("[1,2,3]", 3), ("[[1,2],[3,4]]", 4), ("[ 17 ]", 1), ('"' + "word " * 80 + '"', 100), ('""', 1), ("[]", 1)],
)
def test_tokens_are_estimated_from_text_or_counted_from_ids(value: str, tokens: int) -> None:
    assert read(f'{{"model":"m","prompt":{value}}}'.encode()).prompt_tokens == tokens


def test_an_inline_image_counts_as_an_image_and_not_as_text() -> None:
    image = "A" * 400_000
    body = f'{{"model":"m","messages":[{{"image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}'.encode()
    assert IMAGE_TOKENS <= read(body).prompt_tokens < IMAGE_TOKENS + 50
    text = read(body.replace(b";base64,", b"        "))
    assert text.prompt_tokens > 90_000


@given(st.integers(0, 6000), st.integers(0, 6000), st.sampled_from([4095, 4096, 4097, 9000]))
def test_data_is_found_wherever_it_lies_between_words(before: int, after: int, length: int) -> None:
    prose = "word " * 1200
    said = f'"{prose[:before]} ;base64,{"A" * length}.{prose[:after]}{" " * 4096}"'
    tokens = read(f'{{"model":"m","prompt":{said}}}'.encode()).prompt_tokens
    assert tokens == ((len(said) - length) // 4 + IMAGE_TOKENS if length >= 4096 else len(said) // 4)


def test_an_audio_clip_counts_as_one_clip() -> None:
    body = b'{"model":"m","messages":[{"type":"input_audio","input_audio":{"data":"' + b"A" * 200_000 + b'"}}]}'
    assert read(body).prompt_tokens < IMAGE_TOKENS + 50


@pytest.mark.parametrize("disposition", ['name="model"', "name=model", 'name="model"; x=y', 'NAME="model"'])
def test_the_model_of_a_form_is_found(disposition: str) -> None:
    assert openai.read(FORM, part(disposition, b"whisper") + b"--B--\r\n").model == "whisper"


@pytest.mark.parametrize(
    "other",
    ['name="file"; filename="model.bin"', 'name="model_version"', 'name="file"; filename="model"', 'name="models"'],
)
def test_another_part_of_a_form_is_not_read_as_its_model(other: str) -> None:
    body = part(other, b"wrong") + part('name="model"', b"whisper") + b"--B--\r\n"
    assert openai.read(FORM, body).model == "whisper"
    assert with_model(body, FORM, "other") == body.replace(b"whisper", b"other")
    assert openai.read(FORM, part(other, b"wrong") + b"--B--\r\n").model == ""


@pytest.mark.parametrize("parts", [b"", part('name="model"', b""), part('name="file"', b"x")])
def test_a_form_may_name_no_model(parts: bytes) -> None:
    assert openai.read(FORM, parts + b"--B--\r\n").model == ""


def test_a_form_whose_model_is_no_text_is_refused() -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        openai.read(FORM, part('name="model"', b"\xff\xfe") + b"--B--\r\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6), st.text(min_size=1, max_size=20))
def test_an_alias_changes_the_model_and_no_other_value(fields: dict[str, object], model: str) -> None:
    body = msgspec.json.encode({**fields, "model": "alias"})
    changed = msgspec.json.decode(with_model(body, JSON, model))
    assert changed == msgspec.json.decode(body) | {"model": model}


@given(st.binary(max_size=200) | st.dictionaries(st.text(max_size=8), json_values, max_size=6).map(msgspec.json.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        call = read(body)
    except BadRequest:
        return
    assert call.prompt_tokens >= 1
    call.model.encode()


@pytest.mark.parametrize("blank", [b"", b" "])
def test_an_alias_does_not_take_a_body_of_countless_fields_apart(blank: bytes) -> None:
    """Case E 21: the last of two fields of one name is what engines read."""
    body = b'{"model":"alias"' + b"".join(b',"%d"%b:0' % (at, blank) for at in range(150_000)) + b"}"
    tracemalloc.start()
    try:
        changed = with_model(body, JSON, "m")
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()
    assert msgspec.json.decode(changed)["model"] == read(changed).model == "m"


@each_case(
    "query, model",
    [
        (b"", ""),
        (b"?x=1", ""),
        (b"?model=a+b", "a b"),
        (b"?x=1&mod%65l=a", "a"),
        (b"?model=a&%6dodel=%61", "a"),
    ],
)
def test_the_model_of_a_query_is_found_in_every_spelling(query: bytes, model: str) -> None:
    assert openai.of_query(b"/v1/realtime" + query).model == model
    assert openai.of_query(openai.with_query_model(b"/v1/realtime" + query, "other")).model == "other"


def test_a_query_that_names_two_models_is_refused() -> None:
    with pytest.raises(BadRequest, match="two models"):
        openai.of_query(b"/v1/realtime?model=a&mod%65l=b")
