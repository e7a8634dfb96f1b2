"""5,000 damaged requests over raw sockets: the gateway still serves, logs no defect and keeps no state of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.raw_http_client import Answer, Closed, Wire, chat, post
from tests.fakes.request_mutations import SEEDS, mutant
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

SEED = 20261122
MUTANTS = 5000
CONNECTIONS = 64
PROBE_EVERY = 200


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config(
        all_sims.urls[:3],
        timeouts={
            "client_header_s": 0.25,
            "client_body_s": 0.25,
            "client_keepalive_s": 0.25,
            "upstream_keepalive_s": 0.5,
        },
        limits={"max_header_bytes": 4096, "max_body_bytes": 65536},
    )
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


async def send(port: int, data: bytes, rng: random.Random) -> str:
    """Send one mutant, whole or in two parts, with or without a valid request behind it; returns how it ended."""
    leaves = rng.random() < 0.15
    if rng.random() < 0.15:
        data += rng.choice(SEEDS)
    cut = rng.randrange(len(data) + 1) if rng.random() < 0.3 else len(data)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in (data[:cut], data[cut:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if leaves:
            return "left"
        async with asyncio.timeout(DEADLINE_S):
            return "answered" if (await reader.read(65536)).startswith(b"HTTP/1.1 ") else "closed"
    except ConnectionError:
        return "closed"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def serves_on(port: int) -> None:
    """A good client is served."""
    assert answer_to(port, post(chat("are you there"))).status == 200


def answer_to(port: int, request: bytes) -> Answer:
    """The answer to `request`; sent again after a 408, because a good client may exceed such short timeouts too."""

    def look() -> Answer | None:
        with Wire("127.0.0.1", port) as wire, contextlib.suppress(Closed):
            wire.send(request)
            answer = wire.answer(head_only=request.startswith(b"HEAD"))
            if answer.status == 100:
                answer = wire.answer()
            return answer if answer.status != 408 else None
        return None

    return wait_for("a good request is answered", look)


async def campaign(port: int) -> Counter[str]:
    """Send all mutants, a bounded number at a time, with a probe after every `PROBE_EVERY`."""
    rng = random.Random(SEED)
    mutants = iter([(at, mutant(rng), random.Random(SEED + at)) for at in range(MUTANTS)])
    ended: Counter[str] = Counter()

    async def worker() -> None:
        for at, data, own_dice in mutants:
            try:
                ended[await send(port, data, own_dice)] += 1
            except TimeoutError:
                raise AssertionError(f"neither answered nor closed: {data!r}") from None
            if at % PROBE_EVERY == 0:
                await asyncio.to_thread(serves_on, port)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker())
    return ended


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_damaged_requests_disturb_no_client_and_leave_no_state(gateway: GatewayProcess, sims: SimPods) -> None:
    files = open_files(gateway.pid)
    rss = gateway.rss_bytes()
    ended = asyncio.run(campaign(gateway.port))
    assert sum(ended.values()) == MUTANTS
    assert ended["answered"] > MUTANTS / 2
    gateway.settle()
    wait_for("the pods have nothing open", lambda: sims.total("open_requests") == 0)
    wait_for("all sockets are given back", lambda: open_files(gateway.pid) <= files)
    assert gateway.complaints() == []
    assert gateway.rss_bytes() < rss + 64 * 2**20
    assert all(pod["routable"] for pod in gateway.pods()), "a client's bytes ejected a pod"
    serves_on(gateway.port)
    # Behind the gateway a damaged head is still valid HTTP.
    assert "Traceback" not in Path(sims.log).read_text()


def test_the_seeds_are_all_answered_in_full(gateway: GatewayProcess) -> None:
    """Otherwise the mutants would not be made of valid requests."""
    for seed in SEEDS:
        answer = answer_to(gateway.port, seed)
        assert answer.status in (200, 400, 404), seed
        assert answer.complete
