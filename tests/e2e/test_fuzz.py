"""5,000 damaged requests over raw sockets: the gateway serves on, logs no defect and keeps nothing behind."""

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
from tests.fakes.raw_http_client import Wire, chat, post
from tests.fakes.request_mutations import SEEDS, mutant
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

SEED = 20261122
MUTANTS = 5000
CONNECTIONS = 32
PROBE_EVERY = 200
BOUND_S = 10.0
"""Every connection is answered or closed in this time; the gateway's own limits are a tenth of it and less."""


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


async def send(port: int, data: bytes, dice: random.Random) -> str:
    """Send one mutant, whole or in two parts, with a valid request behind it or without; and how it ended."""
    leaves = dice.random() < 0.15
    if dice.random() < 0.15:
        data += dice.choice(SEEDS)
    cut = dice.randrange(len(data) + 1) if dice.random() < 0.3 else len(data)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in (data[:cut], data[cut:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if leaves:
            return "left"
        async with asyncio.timeout(BOUND_S):
            return "answered" if (await reader.read(65536)).startswith(b"HTTP/1.1 ") else "closed"
    except ConnectionError:
        return "closed"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def probe(port: int) -> None:
    """A good client is served."""
    answered = await asyncio.to_thread(ask, port)
    assert answered == 200


def ask(port: int) -> int:
    with Wire("127.0.0.1", port) as wire:
        wire.send(post(chat("are you there")))
        return wire.answer().status


async def campaign(port: int) -> Counter[str]:
    """All mutants, a bounded number at a time, with a probe every so often."""
    dice = random.Random(SEED)
    mutants = iter([(at, mutant(dice), random.Random(SEED + at)) for at in range(MUTANTS)])
    ended: Counter[str] = Counter()

    async def worker() -> None:
        for at, data, own_dice in mutants:
            try:
                ended[await send(port, data, own_dice)] += 1
            except TimeoutError:
                raise AssertionError(f"neither answered nor closed: {data!r}") from None
            if at % PROBE_EVERY == 0:
                await probe(port)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker())
    return ended


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_damaged_requests_hurt_nobody_and_leave_nothing(gateway: GatewayProcess, sims: SimPods) -> None:
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
    assert all(pod["routable"] for pod in gateway.pods()), "a client's bytes took a pod out"
    assert ask(gateway.port) == 200


def test_the_seeds_are_all_answered_in_full(gateway: GatewayProcess) -> None:
    """Otherwise the mutants would be mutants of nothing."""
    for seed in SEEDS:
        with Wire("127.0.0.1", gateway.port) as wire:
            wire.send(seed)
            answer = wire.answer(head_only=seed.startswith(b"HEAD"))
            if answer.status == 100:
                answer = wire.answer()
            assert answer.status in (200, 400, 404), seed
            assert answer.complete


def test_the_pods_met_nothing_they_could_not_read(all_sims: SimPods) -> None:
    """What a damaged head looks like behind the gateway is still HTTP."""
    assert "Traceback" not in Path(all_sims.log).read_text()
