"""Streams whose pods are killed in the middle of them, with real processes: each goes on on another pod."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.sim.http_client import Answer, ClientConnection
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.realtime]

PODS = 8
STREAMS = 200
TOKENS = 50
_log = logging.getLogger("tests.failover")
MOVED = b": turnout moved\n\n"


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SimPods]]:
    """Eight pods, each in a process of its own."""
    logs = tmp_path_factory.mktemp("pods")
    with ExitStack() as stack:
        yield [stack.enter_context(sim_pods(1, logs / f"{at}.log", "--profile", "paced")) for at in range(PODS)]


@pytest.fixture
def gateway(pods: list[SimPods], tmp_path: Path) -> Iterator[GatewayProcess]:
    urls = [url for each in pods for url in each.urls]
    moving = pool("default", urls, policy={"name": "round_robin"}, engine="vllm", failover={"mid_stream": True})
    with running(config((), pools=[moving]), tmp_path / "gateway") as gateway:
        yield gateway


def request(number: int) -> bytes:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Say something about the number {number}."}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    raw = msgspec.json.encode(body)
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw


class Load:
    """Streams under way at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections: list[ClientConnection] = []

    async def run(self, kills: Sequence[SimPods] = ()) -> list[Answer]:
        """Send all requests, and kill the pods one after another while all of them are in mid-answer."""
        loop = asyncio.get_running_loop()
        for _ in range(STREAMS):
            _, connection = await loop.create_connection(ClientConnection, "127.0.0.1", self._port)
            self.connections.append(connection)
        tasks = [loop.create_task(each.exchange(request(at))) for at, each in enumerate(self.connections)]
        for number, victim in enumerate(kills, start=1):
            await self._reach(number * TOKENS // (len(kills) + 2))
            victim.kill()
        async with asyncio.timeout(120):
            answers = await asyncio.gather(*tasks)
        for each in self.connections:
            each.abort()
        await until(lambda: not any(each.usable for each in self.connections))
        return answers

    async def _reach(self, pieces: int) -> None:
        """Wait until half of the streams have this number of pieces."""
        await until(lambda: statistics.median(len(each.answer.pieces) for each in self.connections) >= pieces)


def parts(answer: Answer) -> tuple[bytes, dict[str, Any]]:
    """A stream without its mark and its usage, and the usage chunk."""
    assert (answer.status, answer.complete, answer.failure) == (200, True, "")
    events = answer.body.replace(MOVED, b"").split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""], answer.body[-300:]
    return b"\n\n".join(events[:-3]), msgspec.json.decode(events[-3].removeprefix(b"data: "))


def widest(answer: Answer) -> float:
    """The longest pause in a stream, in seconds."""
    return max(late - early for early, late in zip(answer.times, answer.times[1:], strict=False))


def test_two_hundred_streams_outlive_half_of_their_pods(pods: list[SimPods], gateway: GatewayProcess) -> None:
    undisturbed = asyncio.run(Load(gateway.port).run())
    moved = asyncio.run(Load(gateway.port).run(pods[::2]))
    for calm, rough in zip(undisturbed, moved, strict=True):
        (wanted, usage), (got, counted) = parts(calm), parts(rough)
        assert got == wanted
        assert {**counted["usage"], "prompt_tokens_details": None} == {**usage["usage"], "prompt_tokens_details": None}
        assert counted.get("turnout", {"moved": 0})["moved"] == rough.body.count(MOVED)
    marked = sum(MOVED in each.body for each in moved)
    assert marked >= STREAMS // 4
    assert gateway.metric("turnout_stream_moves_total", result="moved") >= marked
    ttft_s = statistics.median(each.first_at - each.sent_at for each in moved)
    seam_s = statistics.quantiles((widest(each) for each in moved if MOVED in each.body), n=100)[98]
    _log.info("%d streams moved; TTFT p50 %.3f s, pause p99 %.3f s", marked, ttft_s, seam_s)
