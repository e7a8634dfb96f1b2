"""The stream generator's input, and the reading of its output."""

from __future__ import annotations

import json

import pytest

from loadtests.bench.load.cases import CASES
from loadtests.bench.load.result import LoadFailed
from loadtests.bench.load.stream_load import Found, Pids, order, parse, request

ANSWER = {
    "requests": 3,
    "seconds": 2.0,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "failed": 0,
    "bad_status": 0,
    "chunks": 100,
    "gap_p50_ms": 20.0,
    "gap_p99_ms": 30.0,
    "open": 256,
    "usage": [0.5, 1000, [0.6, 0.7]],
    "load_cpu_s": 0.4,
}


def test_a_request_is_whole_and_different_from_the_next() -> None:
    one, other = request(CASES["paced-256"], 1), request(CASES["paced-256"], 2)
    head, _, body = one.partition("\r\n\r\n")
    assert f"Content-Length: {len(body)}" in head
    assert json.loads(body)["stream"] is True
    assert one != other


def test_an_order_has_target_number_and_process_to_watch() -> None:
    made = order("http://127.0.0.1:81", CASES["paced-2000"], 3, 0, Pids([1], [2, 3]))
    assert (made.host, made.port, made.streams, made.seconds) == ("127.0.0.1", 81, 2000, 3)
    assert (made.pids, made.engine_pids) == ([1], [2, 3])
    with pytest.raises(ValueError, match="no host and port"):
        order("http://127.0.0.1", CASES["paced-2000"], 3, 0, Pids([], []))


def test_the_output_is_read() -> None:
    found = parse(json.dumps(ANSWER))
    assert isinstance(found, Found)
    assert (found.load.chunks, found.usage.cores_s, found.open_streams) == (100, (0.6, 0.7), 256)


def test_a_run_without_a_chunk_is_an_error() -> None:
    with pytest.raises(LoadFailed, match="7 connections failed"):
        parse(json.dumps({**ANSWER, "chunks": 0, "failed": 7}))
