"""Case G 36: what a client can ask of a real vLLM it can ask of a simulated engine, and gets an answer of that shape.

The record is of vLLM 0.32. Where TURNOUT_VLLM_URLS names a real engine (see `vllm_shapes.py` for how to start it), the
record itself is compared with it, so that it stays the truth.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.fleet import SimPod
from tests.fakes.each_case import each_case
from tests.loadtests.sim.simpod.vllm_shapes import ANSWER_S, MAX_MODEL_LEN, REQUESTS, record, shape_of

RECORD: dict[str, Any] = json.loads((Path(__file__).parents[3] / "data" / "vllm-0.32-shapes.json").read_text())
URLS = [url.strip() for url in os.environ.get("TURNOUT_VLLM_URLS", "").split(",") if url.strip()]
OPTIONS = ("--tool-call-parser", "VLLM_ENABLE_RESPONSES_API_STORE")
"""Without these a real engine refuses some of the requests, and says so."""


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    """The shapes of a simulated engine's answers."""

    async def scenario() -> dict[str, Any]:
        profile = PROFILES["tiny"]._replace(max_model_len=MAX_MODEL_LEN)
        async with SimPod(profile=profile, models=("tiny",), speed=100) as pod:
            return await asyncio.to_thread(record, pod.url)

    return asyncio.run(scenario())


def test_every_request_is_recorded_and_every_record_is_of_a_request() -> None:
    assert list(RECORD) == list(REQUESTS)


@each_case("named", REQUESTS)
def test_a_simulated_engine_answers_in_the_shape_of_a_real_one(named: str, simulated: dict[str, Any]) -> None:
    """Keys in their order, types, statuses, events and error messages."""
    assert json.dumps(simulated[named], indent=1) == json.dumps(RECORD[named], indent=1)


@pytest.fixture(scope="module")
def real() -> Iterator[httpx.Client]:
    with httpx.Client(base_url=URLS[0], trust_env=False, verify=False, timeout=ANSWER_S) as client:
        yield client


@pytest.mark.vllm
@pytest.mark.skipif(not URLS, reason="TURNOUT_VLLM_URLS names no vLLM engine")
@pytest.mark.parametrize("named", REQUESTS)
def test_a_real_engine_answers_as_recorded(named: str, real: httpx.Client) -> None:
    answer = REQUESTS[named].send(real)
    for option in OPTIONS:
        if answer.status_code == 400 and option in answer.text:
            pytest.skip(f"the engine was started without {option}")
    assert json.dumps(shape_of(answer, loose=REQUESTS[named].loose), indent=1) == json.dumps(RECORD[named], indent=1)
