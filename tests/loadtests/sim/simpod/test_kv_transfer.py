"""Prompts that one simulated pod computes and another takes over."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from loadtests.sim.simpod.fleet import SimPod

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "word " * 800}], "max_tokens": 8}
ASKED = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None}


async def ask(client: httpx.AsyncClient, pod: SimPod, **fields: object) -> tuple[int, Any]:
    answer = await client.post(f"{pod.url}/v1/chat/completions", json={**CHAT, **fields})
    return answer.status_code, answer.json()


def run(test: Any, *modes: str) -> None:
    """Run a test with a pod of each mode."""

    async def whole() -> None:
        pods = [SimPod(kv_transfer=mode, speed=20.0) for mode in modes]
        try:
            for pod in pods:
                await pod.start()
            async with httpx.AsyncClient(trust_env=False, timeout=60.0) as client:
                await test(client, *pods)
        finally:
            for pod in pods:
                await pod.stop()

    asyncio.run(whole())


def test_a_decode_pod_answers_as_one_pod_would_without_computing_the_prompt() -> None:
    async def test(client: httpx.AsyncClient, prefill: SimPod, decode: SimPod, alone: SimPod) -> None:
        _, first = await ask(client, prefill, max_tokens=1, kv_transfer_params=ASKED)
        params = first["kv_transfer_params"]
        assert params["do_remote_prefill"]
        assert params["remote_block_ids"]
        status, answer = await ask(client, decode, kv_transfer_params=params)
        _, expected = await ask(client, alone)
        assert (status, answer["choices"]) == (200, expected["choices"])
        tokens = answer["usage"]["prompt_tokens"]
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == tokens - 1
        assert (prefill.state()["kv_sent"], decode.state()["kv_received"]) == (1, 1)
        assert decode.engine.prefix_hits_tokens == 0

    run(test, "nixl", "nixl", "")


def test_blocks_that_no_pod_holds_are_an_error() -> None:
    async def test(client: httpx.AsyncClient, prefill: SimPod, decode: SimPod) -> None:
        _, first = await ask(client, prefill, max_tokens=1, kv_transfer_params=ASKED)
        params = first["kv_transfer_params"]
        wrong = params | {"remote_request_id": "another"}
        assert (await ask(client, decode, kv_transfer_params=wrong))[0] == 500
        half = {"do_remote_prefill": True, "remote_block_ids": [[1]]}
        assert (await ask(client, decode, kv_transfer_params=half))[0] == 500
        assert (await ask(client, decode, kv_transfer_params=params))[0] == 200
        assert (await ask(client, decode, kv_transfer_params=params))[0] == 500  # they were read once
        _, second = await ask(client, prefill, max_tokens=1, kv_transfer_params=ASKED)
        await prefill.stop()
        assert (await ask(client, decode, kv_transfer_params=second["kv_transfer_params"]))[0] == 500

    run(test, "nixl", "nixl")


@pytest.mark.parametrize("stream", [False, True])
def test_two_pods_meet_in_a_room(stream: bool) -> None:
    async def test(client: httpx.AsyncClient, prefill: SimPod, decode: SimPod) -> None:
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.port, "bootstrap_room": 7}
        both = await asyncio.gather(
            client.post(f"{decode.url}/v1/chat/completions", json={**CHAT, **room, "stream": stream}),
            client.post(f"{prefill.url}/v1/chat/completions", json={**CHAT, **room, "stream": stream}),
        )
        assert [answer.status_code for answer in both] == [200, 200]
        assert (decode.state()["kv_received"], prefill.engine.generation_tokens) == (1, 1)
        assert stream == both[0].text.startswith("data:")
        refused = await client.post(f"{decode.url}/v1/chat/completions", json=CHAT)
        assert (refused.status_code, "bootstrap room" in json.dumps(refused.json())) == (400, True)

    run(test, "sglang-prefill", "sglang-decode")


def test_a_decode_pod_whose_prefill_pod_is_gone_answers_500() -> None:
    async def test(client: httpx.AsyncClient, prefill: SimPod, decode: SimPod) -> None:
        await prefill.stop()
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": prefill.port, "bootstrap_room": 7}
        assert (await ask(client, decode, **room))[0] == 500

    run(test, "sglang-prefill", "sglang-decode")
