"""The two bodies of a request that two pods serve, by protocol."""

from __future__ import annotations

import json

import pytest

from router.dataplane.request.kv_transfer import (
    NIXL,
    PATHS,
    SGLANG,
    SHARED_STORAGE,
    Fields,
    can_split,
    fields_of,
    sglang_body,
    vllm_bodies,
    with_params,
    without_own,
)

CHAT = b"/v1/chat/completions"


def fields(**given: object) -> Fields:
    read = fields_of(CHAT, b"application/json", json.dumps(given).encode())
    assert read is not None
    return read


def test_only_json_bodies_of_completions_are_split() -> None:
    assert frozenset((CHAT, b"/v1/completions")) == PATHS
    assert fields_of(b"/v1/embeddings", b"application/json", b"{}") is None
    assert fields_of(CHAT, b"multipart/form-data; boundary=x", b"{}") is None
    assert fields_of(CHAT, b"application/json; charset=utf-8", b"{}") == {}
    assert fields_of(CHAT, b"application/json", b"[]") is None
    assert fields_of(CHAT, b"application/json", b"\xff{") is None


@pytest.mark.parametrize(
    ("given", "by_vllm", "by_sglang"),
    [
        ({}, True, True),
        ({"n": 1, "best_of": None, "echo": False, "prompt_logprobs": 0, "use_beam_search": False}, True, True),
        ({"n": 2}, False, False),
        ({"best_of": 3}, False, False),
        ({"echo": True}, False, False),
        ({"prompt": "one"}, True, True),
        ({"prompt": [1, 2, 3]}, True, True),
        ({"prompt": ["one", "two"]}, False, True),
        ({"prompt": [[1], [2]]}, False, True),
    ],
)
def test_which_requests_two_pods_can_serve(given: dict[str, object], by_vllm: bool, by_sglang: bool) -> None:
    assert can_split(fields(**given), NIXL) == by_vllm
    assert can_split(fields(**given), SGLANG) == by_sglang


def test_the_prefill_pod_generates_one_token_and_keeps_the_blocks() -> None:
    given = {"model": "m", "messages": [], "stream": True, "stream_options": {}, "max_completion_tokens": 9, "seed": 1}
    body = json.dumps(given).encode()
    bodies = vllm_bodies(fields(**given), body, NIXL)
    params = {"do_remote_decode": True, "do_remote_prefill": False}
    params |= dict.fromkeys(("remote_engine_id", "remote_block_ids", "remote_host", "remote_port"))  # type: ignore[arg-type]
    limits = {"max_tokens": 1, "max_completion_tokens": 1, "stream": False}
    kept = {"model": "m", "messages": [], "seed": 1}
    assert json.loads(bodies.prefill) == kept | limits | {"kv_transfer_params": params}
    assert bodies.decode is body
    shared = json.loads(vllm_bodies(fields(**given), body, SHARED_STORAGE).prefill)
    assert shared == kept | limits


def test_the_decode_pod_gets_what_the_prefill_pod_answered() -> None:
    decode = b'{"messages":[{"content":"a" }],"stream":true}'
    answer = b'{"id":"1","kv_transfer_params":{"remote_block_ids":[[1,2]],"remote_port":5600},"usage":{}}'
    both = json.loads(with_params(decode, answer))
    assert both == json.loads(decode) | {"kv_transfer_params": {"remote_block_ids": [[1, 2]], "remote_port": 5600}}
    assert with_params(decode, b'{"id":"1","kv_transfer_params":null}') is decode
    assert with_params(decode, b'{"id":"1"}') is decode
    with pytest.raises(ValueError, match="malformed"):
        with_params(decode, b"<html>")


def test_both_of_sglangs_pods_get_the_room_and_where_it_is() -> None:
    body = json.loads(sglang_body(fields(text="a"), "10.0.0.7:30000", 8998, 42))
    assert body == {"text": "a", "bootstrap_host": "10.0.0.7", "bootstrap_port": 8998, "bootstrap_room": 42}
    assert json.loads(sglang_body(fields(), "https://[fe80::1]:30000/base", 0, 1))["bootstrap_port"] == 30000
    assert json.loads(sglang_body(fields(), "https://[fe80::1]:30000/base", 0, 1))["bootstrap_host"] == "fe80::1"
    batch = json.loads(sglang_body(fields(prompt=["a", "b"]), "h:1", 8998, 5))
    assert (batch["bootstrap_room"], batch["bootstrap_host"], batch["bootstrap_port"]) == (
        [5, 6],
        ["h", "h"],
        [8998, 8998],
    )


def test_fields_that_name_the_blocks_of_others_are_taken_out() -> None:
    body = b'{"model":"m","kv_transfer_params":{"remote_block_ids":[1]},"bootstrap_room":7}'
    read = fields_of(CHAT, b"application/json", body)
    assert read is not None
    assert json.loads(without_own(read, body)) == {"model": "m"}
    assert list(read) == ["model"]
    assert without_own(read, body) is body


@pytest.mark.parametrize(("rank", "room"), [(0, 40), (3, 43)])
def test_the_room_is_one_of_the_prefill_pod_s_rank(rank: int, room: int) -> None:
    body = json.loads(sglang_body(fields(text="a"), "h:1", 8998, 42, rank, 4))
    assert body["bootstrap_room"] == room
    batch = json.loads(sglang_body(fields(prompt=["a", "b", "c"]), "h:1", 8998, 42, rank, 4))
    assert batch["bootstrap_room"] == [room, room + 4, room + 8]
