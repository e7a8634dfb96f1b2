"""A field of a form is found by the form's boundary, and a form that engines may read in another way is refused."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request import openai
from router.dataplane.request.multipart import MAX_HEAD_BYTES, MAX_PARTS, field, is_form
from router.errors import BadRequest
from tests.fakes.each_case import each_case
from tests.fakes.examples import examples

TYPE = b"multipart/form-data; boundary=B"
END = b"--B--\r\n"


def part(disposition: bytes, value: bytes, *headers: bytes) -> bytes:
    head = b"".join(header + b"\r\n" for header in (b"Content-Disposition: form-data; " + disposition, *headers))
    return b"--B\r\n" + head + b"\r\n" + value + b"\r\n"


MODEL = part(b'name="model"', b"whisper")
FILE = part(b'name="file"; filename="a.wav"', b"\x00\r\n--\r\n--A\n\r\n\r\n", b"Content-Type: audio/wav")


def found(body: bytes, content_type: bytes = TYPE) -> bytes | None:
    span = field(content_type, body, b"model")
    return None if span is None else body[span[0] : span[1]]


@each_case(
    "body",
    [
        MODEL + END,
        MODEL + FILE + END,
        FILE + MODEL + b"--B--",
        b"\r\n" + MODEL + END,
        part(b"name=model", b"whisper") + END,
        part(b'NAME="model"', b"whisper", b"content-type: text/plain", b"Content-Transfer-Encoding: 8bit") + END,
        part(b'name="Model"', b"other") + MODEL + END,
        part(b'name="file"; filename="model\\"; name=x"', b"other") + MODEL + END,
        part(b'name="file"; filename="C:\\dir\\a.wav"; filename*=UTF-8\'\'a.wav', b"other") + MODEL + END,
    ],
)
def test_a_field_is_found_where_it_is(body: bytes) -> None:
    assert found(body) == b"whisper"


@pytest.mark.parametrize("text", [FILE + END, END, part(b'name="model[]"', b"x") + END])
def test_a_form_without_the_field_has_none(text: bytes) -> None:
    assert found(text) is None


@pytest.mark.parametrize(
    "content_type",
    [
        b"Multipart/Form-Data; Boundary=B",
        b'multipart/form-data;boundary="B"',
        b"multipart/form-data ; charset=UTF-8 ; boundary=B;",
    ],
)
def test_the_type_of_a_form_is_read_in_every_spelling(content_type: bytes) -> None:
    """Case D 12: the case of letters does not matter."""
    assert is_form(content_type)
    assert found(MODEL + END, content_type) == b"whisper"
    assert openai.read(content_type, MODEL + END).model == "whisper"


@each_case(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=B; boundary=C",
        b"multipart/form-data; boundary=B, multipart/form-data; boundary=C",
        b'multipart/form-data; boundary="B\\C"',
        b"multipart/form-data; boundary=" + b"B" * 201,
        b"multipart/form-data; boundary=B; charset=utf-16",
        b"multipart/mixed; boundary=B",
        b"multipart/form-data, application/json",
    ],
)
def test_a_type_that_may_be_read_in_two_ways_is_refused(content_type: bytes) -> None:
    with pytest.raises(BadRequest, match="cannot be read safely"):
        openai.read(content_type, MODEL + END)


@each_case(
    "body",
    [
        b"",
        b"preamble\r\n" + MODEL + END,
        MODEL,
        MODEL + b"--B",
        MODEL + END + MODEL + END,
        MODEL + MODEL + END,
        MODEL + b"--Bx\r\n" + END,
        MODEL + b"--B \r\n" + END,
        MODEL.replace(b"\r\n", b"\n") + END,
        part(b'name="text"', b"\n--B\r\ncontent-disposition: form-data; name=model\r\n\r\nother") + MODEL + END,
        part(b'name="model"; name="file"', b"x") + END,
        part(b'name="file"; name="model"', b"x") + END,
        part(b'name="mod\\el"', b"x") + END,
        part(b"name*=UTF-8''model", b"x") + END,
        part(b"name*0=mod; name*1=el", b"x") + END,
        part(b'name="model"; filename="m"', b"x") + END,
        part(b'name="file"; filename="\\\\"; name="model"', b"x") + END,
        part(b'name = "model"', b"x") + END,
        part(b'name="model', b"x") + END,
        part(b'name="file"', b"x", b'Content-Disposition: form-data; name="model"') + END,
        part(b'name="file";\r\n name="model"', b"x") + END,
        part(b'name="file"\rx: y', b"x") + END,
        part(b'name="model"', b"d2hpc3Blcg==", b"Content-Transfer-Encoding: base64") + END,
        b"--B\r\n\r\nx\r\n" + END,
        b"--B\r\ncontent-disposition: attachment; name=model\r\n\r\nx\r\n" + END,
        b'--B\r\ncontent-disposition: form-data; name="model"\r\n\r\n--B--\r\n',
    ],
)
def test_a_form_that_may_be_read_in_two_ways_is_refused(body: bytes) -> None:
    """Case E 21: gateway and engine never see different models."""
    with pytest.raises(BadRequest, match="cannot be read safely"):
        found(body)


def test_parts_and_their_headers_are_bounded() -> None:
    """Case E 21."""
    assert found(part(b"name=x", b"") * (MAX_PARTS - 1) + MODEL + END) == b"whisper"
    with pytest.raises(BadRequest, match="more than 2000 parts"):
        found(part(b"name=x", b"") * MAX_PARTS + MODEL + END)
    with pytest.raises(BadRequest, match="too many of them"):
        found(part(b"name=x", b"", b"x: " + b"y" * MAX_HEAD_BYTES) + MODEL + END)


@given(st.binary(max_size=60), st.sampled_from([b"B", b"----WebKitFormBoundary7MA4YWxkTrZu0gW"]), st.data())
def test_any_bytes_are_a_value(value: bytes, boundary: bytes, data: st.DataObject) -> None:
    value = value.replace(b"\n--" + boundary, b"")
    body = b"--B\r\ncontent-disposition: form-data; name=model\r\n\r\n".replace(b"--B", b"--" + boundary)
    body += value + b"\r\n--" + boundary + b"--\r\n"
    assert found(body, b"multipart/form-data; boundary=" + boundary) == value
    cut = data.draw(st.integers(0, len(body) - 5))
    with pytest.raises(BadRequest):
        found(body[:cut], b"multipart/form-data; boundary=" + boundary)


FRAGMENTS = (
    *(b"\r\n", b"\n", b"\r", b"--B", b"--B\r\n", b"\r\n--B\r\n", b"--", b";", b'"', b"\\", b" ", b"\t", b"*", b"="),
    *(b'name="model"', b"; name=model", b'; filename="', b"Content-Disposition: form-data", b"form-data;", b"\x00"),
)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 6), st.sampled_from(FRAGMENTS)), max_size=3))
@examples(500)
def test_a_form_that_is_accepted_means_the_same_to_a_lenient_parser(edits: list[tuple[int, int, bytes]]) -> None:
    """Case E 21: Python's own parser of MIME, which mends what it can, finds the same model."""
    body = part(b'name="file"; filename="a;b.wav"', b"RIFF", b"Content-Type: audio/wav") + MODEL + END
    for at, gone, put in edits:
        body = body[:at] + put + body[at + gone :]
    try:
        value = found(body)
    except BadRequest:
        return
    message = email.message_from_bytes(b"Content-Type: " + TYPE + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    parts = [each for each in message.iter_parts() if each.get_param("name", header="content-disposition") == "model"]
    assert [each.get_payload(decode=True) for each in parts] == ([] if value is None else [value])
