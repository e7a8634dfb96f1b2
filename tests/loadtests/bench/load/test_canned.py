"""The canned engine: the end of a request, and the answers."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.bench.load.canned import ANSWER_BYTES, CHUNKS, MARK, STREAM, Requests, completion
from loadtests.bench.load.streams import END
from loadtests.processes.owned import Owned, wait_until_ready
from loadtests.sim.ports import free_ports

ONE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
PROBE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_are_separated_however_the_bytes_were_cut() -> None:
    wire = ONE + PROBE + ONE
    for cut in range(len(wire)):
        requests = Requests()
        heads = requests.feed(wire[:cut]) + requests.feed(wire[cut:])
        assert [head.split(b" ")[0] for head in heads] == [b"POST", b"GET", b"POST"]


def test_a_request_counts_only_when_its_body_is_complete() -> None:
    requests = Requests()
    assert requests.feed(ONE[:-1]) == []
    assert len(requests.feed(ONE[-1:])) == 1


def test_a_streamed_answer_has_a_mark_in_each_event_and_one_end() -> None:
    wire = b"".join(STREAM)
    assert wire.count(MARK) == CHUNKS
    assert MARK not in STREAM[0].partition(b"\r\n\r\n")[0]
    assert wire.endswith(END)
    assert wire.count(END) == 1


def test_the_answer_is_a_completion_of_the_configured_size() -> None:
    assert len(completion()) == ANSWER_BYTES
    assert json.loads(completion())["usage"]["total_tokens"] == 308


@pytest.mark.slow
def test_it_serves_whole_answers_and_the_requests_that_routers_send_at_start(tmp_path: Path) -> None:
    with running(tmp_path) as client:
        assert "vllm:num_requests_waiting" in client.get("/metrics").text
        assert client.get("/v1/models").json()["data"][0]["id"] == "bench"
        for page in ("/server_info", "/get_server_info", "/model_info", "/get_model_info"):
            assert client.get(page).json()["model_id"] == "bench"
        assert client.post("/v1/chat/completions", content=b"{}").json()["object"] == "chat.completion"


@pytest.mark.slow
@pytest.mark.parametrize("gap_ms", ["0", "1"])
def test_it_serves_streams_at_any_pace(tmp_path: Path, gap_ms: str) -> None:
    with running(tmp_path, "--stream", "--gap-ms", gap_ms) as client:
        for _ in range(2):
            stream = client.post("/v1/chat/completions", content=b"{}")
            lines = [line for line in stream.text.splitlines() if line.startswith("data: ")]
            assert len(lines) == CHUNKS + 1
            assert lines[-1] == "data: [DONE]"


@contextlib.contextmanager
def running(directory: Path, *arguments: str) -> Iterator[httpx.Client]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtests.bench.load.canned", str(port), *arguments]
    base = f"http://127.0.0.1:{port}"
    with Owned(command, 1, directory / "log") as owned, httpx.Client(base_url=base, trust_env=False) as client:
        wait_until_ready(owned, f"{base}/health")
        yield client
