"""Streams of two real vLLM engines that are cut in mid-answer: each goes on on the other engine, and at temperature 0
its text is that of an undisturbed run. Give the engines' URLs in TURNOUT_VLLM_URLS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.test_vllm import ANSWER_S, URLS, unchanging
from tests.fakes.cutting_proxy import Cutter, cutting_proxies
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.streamed_answer import streamed

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(len(URLS) != 2, reason="TURNOUT_VLLM_URLS does not name two vLLM engines"),
]

STREAMS = 20
TOKENS = 100
MOVED = b": turnout moved\n\n"
_PROMPTS = ("What is free software", "Who may copy a work", "Name a warranty", "Why do we share")
_USAGE = re.compile(rb'data: \{[^\n]*"choices":\[\],"usage":\{[^\n]*\n\n')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, Cutter]]:
    with cutting_proxies(URLS) as (urls, cutter):
        moving = pool("default", urls, policy={"name": "round_robin"}, engine="vllm", failover={"mid_stream": True})
        with running(config((), pools=[moving]), tmp_path_factory.mktemp("gateway")) as gateway:
            yield gateway, cutter


def ask(url: str, path: str, body: dict[str, Any]) -> bytes:
    with httpx.Client(base_url=url, trust_env=False, timeout=ANSWER_S) as client:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.content


def body_of(number: int) -> tuple[str, dict[str, Any]]:
    """Chats and completions in turn, each with a prompt of its own."""
    said = f"{_PROMPTS[number % len(_PROMPTS)]}, number {number}?"
    body = {"model": "tiny", "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    if number % 2:
        return "/v1/completions", body | {"prompt": said}
    return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": said}]}


def without_usage(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """A stream without its last count, and this count."""
    (counted,) = _USAGE.findall(body)
    return body.replace(counted, b""), json.loads(counted.removeprefix(b"data: "))


@pytest.mark.parametrize("number", range(STREAMS))
def test_a_stream_that_is_cut_has_the_text_of_an_undisturbed_run(
    gateway: tuple[GatewayProcess, Cutter], number: int
) -> None:
    process, cutter = gateway
    path, body = body_of(number)
    calm, wanted = without_usage(ask(URLS[0], path, body))
    before = cutter.cuts
    cutter.cut_in(3 + number % 5)
    answer = ask(process.url, path, body)
    assert cutter.cuts == before + 1
    assert answer.count(MOVED) == 1
    rough, counted = without_usage(answer.replace(MOVED, b""))
    assert streamed(unchanging(rough)).agrees(streamed(unchanging(calm))), (rough, calm)
    assert len(set(re.findall(rb'"id":"([^"]*)"', answer))) == 1
    assert counted["turnout"] == {"moved": 1}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert counted["usage"][name] == wanted["usage"][name]
