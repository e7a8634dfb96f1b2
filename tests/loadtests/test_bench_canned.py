"""The canned engine: where a request ends, and what it answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx

from loadtests.bench.canned import ANSWER_BYTES, CHUNKS, completion, split
from loadtests.bench.process import Owned, wait_until_ready
from loadtests.ports import free_ports

ONE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
PROBE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_are_split_wherever_the_bytes_were_cut() -> None:
    wire = ONE + PROBE + ONE
    for cut in range(len(wire)):
        first, rest = split(wire[:cut])
        then, left = split(rest + wire[cut:])
        assert [body for _, body in first + then] == [b"{}", b"", b"{}"]
        assert left == b""


def test_the_answer_is_a_completion_of_the_promised_size() -> None:
    assert len(completion()) == ANSWER_BYTES
    assert json.loads(completion())["usage"]["total_tokens"] == 308


def test_it_serves_probes_whole_answers_and_streams(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtests.bench.canned", str(port), "--gap-ms", "0.1"]
    base = f"http://127.0.0.1:{port}"
    with Owned(command, 1, tmp_path / "log") as owned, httpx.Client(base_url=base, trust_env=False) as client:
        wait_until_ready(owned, f"{base}/health")
        assert "vllm:num_requests_waiting" in client.get("/metrics").text
        assert client.get("/v1/models").json()["data"][0]["id"] == "bench"
        whole = client.post("/v1/chat/completions", content=b'{"stream":false}')
        assert whole.json()["object"] == "chat.completion"
        stream = client.post("/v1/chat/completions", content=b'{"stream":true}')
        lines = [line for line in stream.text.splitlines() if line.startswith("data: ")]
        assert len(lines) == CHUNKS + 1
        assert lines[-1] == "data: [DONE]"
