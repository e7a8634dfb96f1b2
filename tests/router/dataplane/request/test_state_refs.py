"""Ids in paths, bodies and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from router.dataplane.request.state_refs import (
    READ_BYTES,
    READ_PARTS,
    IdReader,
    in_body,
    in_path,
    keeps_nothing,
    thing_in,
)
from tests.fakes.each_case import each_case


@each_case(
    ("path", "ids"),
    [
        (b"/v1/responses", []),
        (b"/v1/responses/resp_1", ["resp_1"]),
        (b"/v1/responses/resp_1/cancel", ["resp_1"]),
        (b"/v1/files/file%2D1/content", ["file-1"]),
        (b"/v1/fine_tuning/jobs/j-1", ["j-1"]),
        (b"/v1/x/" + b"a" * 600, []),
        (b"/v1/x/" + b"a1/" * 600, ["a1"] * 8),
        (b"/v1/audio/speech", []),
    ],
)
def test_parts_of_a_path_may_be_ids(path: bytes, ids: list[str]) -> None:
    assert in_path(path) == ids


@each_case(
    "path",
    [
        b"/v1/responses/resp_1",
        b"/v1/responses/resp_1/input_items",
        b"/v1/conversations/conv_1/items/msg_1",
        b"/v1/batches/batch_1/cancel",
        b"/v1/files/file-1/content",
        b"/v1/videos/video_1/content",
        b"/v1/audio/jobs/job-1",
        b"/v1/messages/batches/msgbatch_1/results",
        b"/v1/chat/completions/chatcmpl-1",
    ],
)
def test_a_thing_in_a_collection_has_its_path(path: bytes) -> None:
    assert thing_in(path) in (id for id in in_path(path) if id[-1] == "1")
    assert thing_in(path[:3] + b"2" + path[3:]) == ""


@pytest.mark.parametrize("path", [b"/v1/responses", b"/v1/files/", b"/v1/models/m", b"/v1/lora/x", b"/v1/audio/speech"])
def test_other_paths_name_no_thing(path: bytes) -> None:
    assert thing_in(path) == ""


BODIES: Mapping[str, tuple[object, list[str]]] = {
    "a response": ({"previous_response_id": "resp_1"}, ["resp_1"]),
    "a conversation": ({"conversation": "conv_1"}, ["conv_1"]),
    "a conversation in an object": ({"conversation": {"id": "conv_1"}}, ["conv_1"]),
    "a batch's file": ({"input_file_id": "file-1", "endpoint": "/v1/responses"}, ["file-1"]),
    "a file in a message": ({"input": [{"content": [{"type": "input_file", "file_id": "file-2"}]}]}, ["file-2"]),
    "files of a container": (
        {"tools": [{"container": {"type": "auto", "file_ids": ["file-3", "file-4"]}}]},
        ["file-3"],
    ),
    "stores to search": ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, ["vs_1"]),
    "no files": ({"file_ids": []}, []),
    "none": ({"previous_response_id": None, "input": "hi"}, []),
    "text that looks like one": ({"input": 'say {"previous_response_id": "resp_1"}'}, []),
}


@each_case("which", BODIES)
@each_case("size", [0, 60_000], ids=["small", "large"])
def test_bodies_name_state(which: str, size: int) -> None:
    body, ids = BODIES[which]
    assert in_body(b"application/json", json.dumps([body, "x" * size], indent=1).encode()) == ids


def test_a_form_and_an_empty_body_name_nothing() -> None:
    assert in_body(b"multipart/form-data; boundary=x", b'{"file_id":"file-1"}') == []
    assert in_body(b"", b"") == []


@pytest.mark.parametrize(
    ("body", "expected"), [(b'{"store": false}', True), (b'{"store":true}', False), (b"{}", False)]
)
def test_a_request_may_ask_that_nothing_is_kept(body: bytes, expected: bool) -> None:
    assert keeps_nothing(body) is expected


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "metadata": {"id": "no"},
    "output": [{"id": "msg_1", "text": '{"id":"no"}'}],
}
CREATED = {"type": "response.created", "response": {**RESPONSE, "conversation": {"id": "c"}}, "sequence_number": 0}
ANSWERS: Mapping[str, tuple[bytes, list[str]]] = {
    "a response": (json.dumps(RESPONSE).encode(), ["resp_1"]),
    "an id at the end": (
        json.dumps({"object": "file", "x": {"y": [1, {"z": 2}]}, "id": "file-1"}).encode(),
        ["file-1"],
    ),
    "a batch's files": (
        json.dumps({"id": "batch_1", "output_file_id": "file-2", "error_file_id": None}).encode(),
        ["batch_1", "file-2"],
    ),
    "a conversation": (json.dumps({"id": "resp_1", "conversation": {"id": "conv_1"}}).encode(), ["resp_1", "conv_1"]),
    "a stream": (b"event: response.created\ndata: " + json.dumps(CREATED).encode() + b"\n\n", ["resp_1"]),
    "an array": (b'[{"id":"a"},"id"]', []),
    "text": (b'"id":"a", : } ] {', []),
    "escapes": (rb'{"a\"b":"c\\","id":"d"}', ["d"]),
    "a long text": (rb'{"t":"' + rb"\\\"" * 3000 + rb'","id":"d"}', ["d"]),
    "a long id": (b'{"id":"' + b"x" * 5000 + b'","input_file_id":"f"}', ["f"]),
    "an escaped id": (rb'{"id":"a\"b"}', []),
}


@each_case("which", ANSWERS)
@each_case("step", [1, 7, 10_000])
def test_answers_give_ids_out_however_they_are_cut(which: str, step: int) -> None:
    answer, ids = ANSWERS[which]
    reader = IdReader()
    assert [id for at in range(0, len(answer), step) for id in reader.feed(answer[at : at + step])] == ids


def test_no_more_than_the_beginning_of_an_answer_is_read() -> None:
    reader = IdReader()
    assert reader.feed(b'{"text":"' + b"x" * READ_BYTES) == []
    assert reader.left == 0
    assert reader.feed(b'","id":"late"}') == []
    reader = IdReader()
    assert reader.feed(b'{"id":"early","x":[' + b"," * READ_PARTS + b'],"conversation":"late"}') == ["early"]
    assert reader.left == 0
