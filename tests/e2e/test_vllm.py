"""Two real vLLM engines behind the gateway, serving a model named `tiny`; give their URLs in TURNOUT_VLLM_URLS.

A simulated engine cannot show that a real one's bytes pass unchanged, and that its prefix cache, its gauges and its
way to abort are as the gateway expects.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Wire, events, get, post
from tests.fakes.streamed_answer import streamed
from tests.fakes.waiting import wait_for

URLS = [url.strip().rstrip("/") for url in os.environ.get("TURNOUT_VLLM_URLS", "").split(",") if url.strip()]

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(len(URLS) != 2, reason="TURNOUT_VLLM_URLS does not name two vLLM engines"),
]

ANSWER_S = 300.0
"""Limit in seconds, in case an answer hangs. On a busy machine a real engine is slow."""
BLOCK_TOKENS = 128
"""vLLM's cache block on a CPU."""

_CHANGING = (
    (re.compile(rb'"id":"[^"]*"'), b'"id":"-"'),
    (re.compile(rb'"created":\d+'), b'"created":0'),
    (re.compile(rb'"system_fingerprint":"[^"]*"'), b'"system_fingerprint":"-"'),
)
"""What differs between two answers to the same request, or between two engines of one version."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config((), pools=[pool("default", URLS, policy={"name": "prefix_aware"})], scrape={"interval_s": 0.2})
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def exchange(url: str, path: str, body: object) -> httpx.Response:
    with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=ANSWER_S) as client:
        return client.post(path, json=body)


def chat(content: str, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 24} | fields


def unchanging(body: bytes) -> bytes:
    for pattern, instead in _CHANGING:
        body = pattern.sub(instead, body)
    return body


def prose(topic: str) -> str:
    """Several cache blocks of text that no engine has seen."""
    sentence = f"The licensee of {topic} may copy and distribute the program under the terms of this license. "
    return secrets.token_hex(8) + " " + sentence * 40


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", chat("What is free software?")),
    "chat stream": (
        "/v1/chat/completions",
        chat("What is a warranty?", stream=True, stream_options={"include_usage": True}),
    ),
    "completion": ("/v1/completions", {"model": "tiny", "prompt": "Everyone is", "temperature": 0, "max_tokens": 24}),
    "completion stream": (
        "/v1/completions",
        {"model": "tiny", "prompt": "You may", "temperature": 0, "max_tokens": 24, "stream": True},
    ),
    "message": ("/v1/messages", chat("Good morning")),
    "message stream": ("/v1/messages", chat("Good evening", stream=True)),
    "tokenize": ("/tokenize", {"model": "tiny", "prompt": "Terms and conditions"}),
    "detokenize": ("/detokenize", {"model": "tiny", "tokens": [716, 263, 28]}),
}


@pytest.mark.parametrize("named", REQUESTS)
def test_an_answer_passes_byte_for_byte(gateway: GatewayProcess, named: str) -> None:
    """Streams are compared without their chunk boundaries, which vary."""
    path, body = REQUESTS[named]
    routed, direct = exchange(gateway.url, path, body), exchange(URLS[0], path, body)
    assert routed.status_code == direct.status_code == 200
    assert routed.headers["content-type"] == direct.headers["content-type"]
    through, straight = unchanging(routed.content), unchanging(direct.content)
    if body.get("stream"):
        assert streamed(through).agrees(streamed(straight)), (through, straight)
    else:
        assert through == straight


ERRORS: dict[str, tuple[str, object]] = {
    "no messages": ("/v1/chat/completions", {"model": "tiny"}),
    "too many tokens": ("/v1/chat/completions", chat("hi", max_tokens=99999)),
    "a bad temperature": ("/v1/chat/completions", chat("hi", temperature=-1)),
    "not an embedding model": ("/v1/embeddings", {"model": "tiny", "input": "hi"}),
}


@pytest.mark.parametrize("named", ERRORS)
def test_an_error_is_passed_on_as_vllm_wrote_it(gateway: GatewayProcess, named: str) -> None:
    path, body = ERRORS[named]
    routed, direct = exchange(gateway.url, path, body), exchange(URLS[0], path, body)
    assert routed.status_code == direct.status_code >= 400
    assert routed.content == direct.content
    assert routed.headers["x-turnout-attempts"] == "1"


def test_the_engine_knows_the_request_by_the_gateways_id(gateway: GatewayProcess) -> None:
    answer = exchange(gateway.url, "/v1/chat/completions", chat("hi"))
    assert answer.json()["id"] == f"chatcmpl-{answer.headers['x-request-id']}"


def test_the_second_turn_lands_where_the_first_is_cached(gateway: GatewayProcess) -> None:
    talks: list[list[dict[str, str]]] = []
    homes: list[str] = []
    # Six conversations, and as many more as it takes for both engines to have one.
    while len(talks) < 6 or len(set(homes)) < 2:
        messages = [{"role": "user", "content": prose(f"work {len(talks)}")}]
        answer = exchange(gateway.url, "/v1/chat/completions", chat("") | {"messages": messages})
        assert cached_tokens(answer) == 0
        homes.append(answer.headers["x-turnout-pod"])
        messages += [answer.json()["choices"][0]["message"] | {"content": "Yes."}, {"role": "user", "content": "Why?"}]
        talks.append(messages)
    for messages, home in zip(talks, homes, strict=True):
        answer = exchange(gateway.url, "/v1/chat/completions", chat("") | {"messages": messages})
        assert answer.headers["x-turnout-pod"] == home
        prompt = answer.json()["usage"]["prompt_tokens"]
        # All of the first turn's full blocks; the second adds less than a block's worth of tokens.
        assert cached_tokens(answer) >= prompt - 2 * BLOCK_TOKENS >= BLOCK_TOKENS
        assert cached_tokens(answer) % BLOCK_TOKENS == 0


def cached_tokens(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int((answer.json()["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


@contextmanager
def endless_streams(gateway: GatewayProcess, content: str) -> Iterator[None]:
    """Four that run when the block begins: each has thousands of tokens to go then."""
    body = chat(content, max_tokens=7000, ignore_eos=True, stream=True)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire("127.0.0.1", gateway.port, timeout_s=ANSWER_S)) for _ in range(4)]
        for wire in wires:
            wire.send(post(body))
        for wire in wires:
            assert wire.some().startswith(b"HTTP/1.1 200")
        yield


@contextmanager
def running_requests(gateway: GatewayProcess, content: str) -> Iterator[None]:
    """Four at any time until the block ends, however fast the engines are."""
    body = chat(content, max_tokens=2000, ignore_eos=True, stream=True)
    over = Event()

    def ask() -> None:
        while not over.is_set():
            assert exchange(gateway.url, "/v1/chat/completions", body).status_code == 200

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        try:
            yield
        finally:
            over.set()
    for each in asking:
        each.result()


def test_the_engines_gauges_are_read(gateway: GatewayProcess) -> None:
    with running_requests(gateway, prose("gauges")):
        wait_for("the gauges show running requests", lambda: sum(pod["running"] for pod in gateway.pods()) > 0)
        wait_for("the cache fills", lambda: max(pod["kv_usage"] for pod in gateway.pods()) > 0)
    wait_for("no request is running", lambda: sum(pod["running"] for pod in gateway.pods()) == 0)


def engines(metric: str) -> float:
    """The sum of a metric over both, by their own word; `metric` is the start of a sample."""
    total = 0.0
    for url in URLS:
        with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=ANSWER_S) as client:
            lines = client.get("/metrics").text.splitlines()
        total += sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(metric, line))
    return total


RUNNING = r"vllm:num_requests_running\{"
FINISHED = r"vllm:request_generation_tokens_count\{"
FINISHED_SHORT = r"vllm:request_generation_tokens_bucket\{.*le=\"5000\.0\""


def finished_long() -> float:
    """Requests that the engines generated more than 5,000 tokens for, to their end."""
    return engines(FINISHED) - engines(FINISHED_SHORT)


def test_a_client_that_leaves_aborts_the_request_in_the_engine(gateway: GatewayProcess) -> None:
    """Without the abort each would generate 7,000 tokens."""
    before = finished_long()
    with endless_streams(gateway, "Never stop."):
        pass  # each has its first token
    wait_for("they are aborted", lambda: engines(RUNNING) == 0)
    assert finished_long() == before
    gateway.settle()


def test_many_streams_at_once_all_end_whole(gateway: GatewayProcess) -> None:
    with ThreadPoolExecutor(16) as threads:
        bodies = [chat(f"Number {at}.", stream=True, max_tokens=40) for at in range(32)]
        answers = list(threads.map(lambda body: exchange(gateway.url, "/v1/chat/completions", body), bodies))
    assert all(events(answer.content)[-1] == "[DONE]" for answer in answers)
    assert {answer.headers["x-turnout-pod"] for answer in answers} == {url.removeprefix("http://") for url in URLS}


def test_one_connection_serves_request_after_request_without_a_retry(gateway: GatewayProcess) -> None:
    with Wire("127.0.0.1", gateway.port, timeout_s=ANSWER_S) as wire:
        for _ in range(3):
            wire.send(post(chat("hi", max_tokens=2)))
            assert wire.answer().headers["x-turnout-attempts"] == "1"
        wire.send(get("/v1/models"))
        assert [card["id"] for card in wire.answer().json()["data"]] == ["tiny"]
    assert gateway.metric("turnout_retries_total") == 0
