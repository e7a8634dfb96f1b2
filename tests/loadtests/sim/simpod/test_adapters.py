"""Adapters that are loaded and unloaded at run time."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from loadtests.sim.simpod.fleet import SimPod

LORA = {"lora_name": "lora", "lora_path": "/adapters/lora"}
CHAT = {"model": "lora", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def test_case_a_2_an_adapter_is_served_and_listed_from_its_loading_to_its_unloading() -> None:
    async def story() -> None:
        async with SimPod(0, speed=1000.0) as pod, httpx.AsyncClient(base_url=pod.url, trust_env=False) as client:
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 404
            loaded = await client.post("/v1/load_lora_adapter", json=LORA)
            assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'lora' added successfully.")
            base, lora = (await client.get("/v1/models")).json()["data"]
            assert (lora["id"], lora["root"], lora["parent"]) == ("lora", "/adapters/lora", base["id"])
            assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
            assert (await client.post("/v1/load_lora_adapter", json=LORA)).status_code == 400
            assert (await client.post("/v1/unload_lora_adapter", json=LORA)).status_code == 200
            assert (await client.post("/v1/unload_lora_adapter", json=LORA)).status_code == 404
            assert [card["id"] for card in (await client.get("/v1/models")).json()["data"]] == [base["id"]]
            refused = await client.post("/v1/chat/completions", json=CHAT)
            assert refused.json()["error"]["param"] == "model"
            assert ["`lora`" in message for _, message in pod.refused] == [True, True]

    asyncio.run(story())


@pytest.mark.parametrize("body", [{}, {"lora_name": "x"}, {"lora_name": 5, "lora_path": "/x"}, []])
def test_a_name_and_a_path_are_needed(body: object) -> None:
    async def story() -> None:
        async with SimPod(0) as pod, httpx.AsyncClient(base_url=pod.url, trust_env=False) as client:
            assert (await client.post("/v1/load_lora_adapter", json=body)).status_code == 400

    asyncio.run(story())
