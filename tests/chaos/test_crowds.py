"""Many clients at once: a burst over two replicas at the same moment, and a crowd that disconnects mid-stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import uvloop

from loadtests.sim.http_client import ClientConnection
from loadtests.sim.right_answer import expected, judge
from statesync.tasks import spawn
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.raw_http_client import chat
from tests.fakes.replica_fleet import ground, needs_redis
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = [pytest.mark.realtime, needs_redis]

BURST, BURSTS = 256, 3
CROWD, WAVE = 2000, 250
MOST_APART = 8


def request(number: int, tokens: int) -> tuple[list[dict[str, str]], bytes]:
    """Messages that no other request has, and the bytes of a request for a stream of `tokens` tokens."""
    messages = [{"role": "user", "content": f"Write story {number}."}]
    body = msgspec.json.encode(chat(messages=messages, stream=True, max_tokens=tokens, ignore_eos=True))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    return messages, head.encode() + body


async def connected(gateways: Sequence[GatewayProcess], count: int) -> list[ClientConnection]:
    """`count` connections, to each gateway in turn."""
    loop = asyncio.get_running_loop()
    wires = []
    for at in range(count):
        gateway = gateways[at % len(gateways)]
        wires.append((await loop.create_connection(ClientConnection, gateway.host, gateway.port))[1])
    return wires


def test_a_burst_over_two_replicas_spreads_evenly_over_four_pods(tmp_path: Path) -> None:
    """Pods make two tokens a second, so that a whole burst is placed before its first answer."""
    with ground(tmp_path, 2, "--profile", "paced", "--speed", "0.2") as fleet:
        fleet.use("least_load")
        gateways = [*fleet.gateways.values()]

        async def burst(first: int) -> list[str]:
            wires = await connected(gateways, BURST)
            asked = [request(number, 8) for number in range(first, first + BURST)]
            answers = await asyncio.gather(*(w.exchange(raw) for w, (_, raw) in zip(wires, asked, strict=True)))
            for wire in wires:
                wire.abort()
            return [
                judge(got, stream=True, wanted=expected(messages, 8)).fault
                for got, (messages, _) in zip(answers, asked, strict=True)
            ]

        for number in range(BURSTS):
            before = [fleet.sims.served(pod) for pod in fleet.sims.addresses]
            assert set(uvloop.run(burst(number * BURST))) == {""}
            counts = [fleet.sims.served(pod) - had for pod, had in zip(fleet.sims.addresses, before, strict=True)]
            assert sum(counts) == BURST
            assert max(counts) - min(counts) <= MOST_APART, counts
            fleet.wait_until_empty()


def test_two_thousand_clients_that_disconnect_mid_stream_leave_nothing_in_flight(tmp_path: Path) -> None:
    """Clients come in waves and disconnect together. Each gets a token a second, few enough for a small machine."""
    with ground(tmp_path, 2, "--profile", "paced", "--speed", "0.1") as fleet:
        gateways = [*fleet.gateways.values()]

        async def read(wire: ClientConnection, number: int) -> None:
            await wire.exchange(request(number, 4000)[1])

        async def crowd() -> None:
            wires: list[ClientConnection] = []
            reading = []
            for first in range(0, CROWD, WAVE):
                wave = await connected(gateways, WAVE)
                reading += [spawn(read(wire, first + at), "client") for at, wire in enumerate(wave)]
                async with asyncio.timeout(DEADLINE_S):
                    while not all(wire.answer.pieces for wire in wave):  # noqa: ASYNC110  hundreds of flags, no event
                        await asyncio.sleep(0.02)
                wires += wave
            assert {wire.answer.status for wire in wires} == {200}
            await asyncio.to_thread(
                wait_for, "one replica sees them all", lambda: sum(fleet.view("replica-0").values()) == CROWD
            )
            for wire in wires:
                wire.abort()
            await asyncio.gather(*reading)

        uvloop.run(crowd())
        fleet.wait_until_empty()
        finished = [fleet.sims.state(pod)["finished"] for pod in fleet.sims.addresses]
        assert sum(each.get("abort", 0) for each in finished) == CROWD
