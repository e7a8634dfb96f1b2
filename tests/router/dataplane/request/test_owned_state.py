"""However a request names state, a tenant's ids are all found, or the request is refused."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request.owned_state import MOST_ESCAPES, MOST_NAMED, named, plain
from router.errors import BadRequest, PermissionDenied
from tests.fakes.each_case import each_case

JSON = b"application/json"
NAMES = (
    *("previous_response_id", "conversation", "input_file_id", "file_id", "training_file", "validation_file"),
    *("batch_id", "video_id", "thread_id", "assistant_id", "vector_store_id", "container"),
)


def in_body(body: bytes, content_type: bytes = JSON) -> list[str]:
    return named(b"POST", b"/v1/responses", content_type, body)


@each_case(
    "method, path, body, expected",
    [
        (b"GET", b"/v1/responses/resp_1", b"", ["resp_1"]),
        (b"GET", b"/v1/%72esponses/resp%5f1/input_items", b"", ["resp_1"]),
        (b"GET", b"/v1/responses/word", b"", ["word"]),
        (b"DELETE", b"/v1/files/file-1/", b"", ["file-1"]),
        (b"POST", b"/v1/responses/resp_1/cancel", b"{}", ["resp_1"]),
        (b"POST", b"/v1/responses/word/cancel", b"{}", ["word"]),
        (b"POST", b"/v1/responses/compact", b"{}", []),
        (b"POST", b"/v1/responses/compact", b"", ["compact"]),
        (b"GET", b"/v1/threads/thread_1/runs/run_2", b"", ["thread_1"]),
        (b"POST", b"/v1/anything/x1/y2", b"{}", ["x1", "y2"]),
        (b"POST", b"/v1/audio/speech", b"{}", []),
        (b"POST", b"/v1/files", b"", []),
        (b"GET", b"/v1/responses/a%2Fb1", b"", ["a"]),
    ],
)
def test_a_path_names_its_thing(method: bytes, path: bytes, body: bytes, expected: list[str]) -> None:
    assert named(method, plain(path), JSON, body) == expected


@pytest.mark.parametrize(
    "path", [b"/v1/files", b"/v1/files/", b"/v1/%66iles", b"//%761///files", b"/v1/fine_tuning/jobs", b"/v1/batches"]
)
def test_a_list_is_refused_and_its_creation_is_not(path: bytes) -> None:
    for method in (b"GET", b"HEAD", b"DELETE"):
        with pytest.raises(PermissionDenied, match="other tenants"):
            named(method, plain(path), JSON, b"")
    assert named(b"POST", plain(path), JSON, b"{}") == []


@given(st.sampled_from(NAMES), st.text("abcdefXYZ0189_-.:", min_size=1), st.data())
def test_an_id_is_found_in_every_spelling_of_json(name: str, id: str, data: st.DataObject) -> None:
    def spelled(text: str) -> str:
        escaped = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
        return "".join(f"\\u{ord(each):04x}" if hide else each for each, hide in zip(text, escaped, strict=True))

    blank = data.draw(st.text(" \t\r\n", max_size=3))
    field = f'"{spelled(name)}"{blank}:{blank}"{spelled(id)}"'
    around = data.draw(st.sampled_from(["{%s}", '{"model":"m",%s}', '{"a":[{"b\\"":"\\\\","c":{%s}}]}', '{%s,"x":1}']))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]))
    body = around % field
    assert json.loads(body)
    assert id in in_body(body.encode(encoding))


@each_case(
    "body, expected",
    [
        (rb'{"conversation":{"a":{"id":"x"},"id":"conv_1"}}', ["conv_1"]),
        (rb'{"conversation":{"id":"conv_1"},"conversation":{"\u0069d":"conv_2"}}', ["conv_2"]),
        (rb'{"tools":[{"container":{"file_ids":["file_1" , "file\u005f2"]}}]}', ["file_1", "file_2"]),
        (rb'{"conversation":["id"]}', []),
        (b'{"input":"%b","f\\u0069le_id":"x1"}' % (rb"\u003c\u0022\u005C\u0026\u0027" * 5000), ["x1"]),
        (rb'{"conversation":{"id":7}}', []),
        (rb'{"file_ids":[],"file_id":"","previous_response_id":null}', []),
        (rb'{"input":"\"file_id\": \"file_1\"","temperature":NaN}', []),
        (rb'{"properties":{"file_id":{"type":"string"}}}', []),
        (rb'{"file_id":"a1","file_id":"b2"}', ["a1", "b2"]),
        (b"", []),
        (b"\x00\x01\x02 bytes", []),
        (b"\xff\xfe{", []),
    ],
)
def test_a_body_names_these(body: bytes, expected: list[str]) -> None:
    assert in_body(body) == expected


def test_a_form_names_nothing() -> None:
    assert in_body(b'"file_id": "x1"', b"Multipart/form-data; boundary=x") == []


@pytest.mark.parametrize(
    "body",
    [
        rb'{"file_ids":["x\"", "file_2"]}',
        b'{"file_ids":["]", {"file_2":1}]}',
        rb'{"file_id":"a\nb"}',
        b'{"a":',
        b'{"conversation":{"id":',
        json.dumps({"file_ids": [f"f{at}" for at in range(MOST_NAMED + 1)]}).encode(),
        json.dumps({"file_ids": [""] * (MOST_NAMED + 1)}).encode(),
        b'{"input":"%b"}' % (b"\\u0061" * (MOST_ESCAPES + 1)),
        rb'{"file_id":"a\u003cb"}',
    ],
)
def test_what_cannot_be_read_for_sure_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        in_body(body)


def test_a_conversation_of_many_parts_makes_no_objects() -> None:
    for body in (b'{"conversation":[%b[]]}', b'{"conversation":{"a":[%b[]]}}'):
        body %= b"[]," * 50_000
        tracemalloc.start()
        try:
            assert in_body(body) == []
            assert tracemalloc.get_traced_memory()[1] < 5 * len(body)
        finally:
            tracemalloc.stop()


@each_case(
    "item",
    [
        b'{"type":"item_reference","id":"msg_1"}',
        b'{"id":"msg_1","type" : "item_reference"}',
        b'{"id":"msg_1","\\u0074ype":"item_\\u0072eference"}',
        b'{ "id" : "msg_1" }',
    ],
)
def test_an_item_by_its_id_is_refused(item: bytes) -> None:
    for before in (b"", b'{"role":"user","content":"hi"}, '):
        with pytest.raises(BadRequest, match="Items are not read by their ids"):
            in_body(b'{"input":[%b%b]}' % (before, item))


def test_what_only_looks_like_an_item_passes() -> None:
    said = json.dumps({"input": '[{"id":"msg_1"}] "type":"item_reference"', "conversation": {"id": "conv_1"}})
    assert in_body(said.encode()) == ["conv_1"]


def test_an_id_that_the_client_chooses_is_refused() -> None:
    for body in (b'{"request_id":"resp_1"}', rb'{"request\u005fid":"resp_1"}'):
        with pytest.raises(PermissionDenied, match="request_id"):
            in_body(body)
    assert in_body(b'{"request_id":null,"metadata":{"request_id":"mine"}}') == []
