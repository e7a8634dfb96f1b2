"""The gateway's predictions of cached tokens against the counts that two real vLLM engines report.

The engines serve a model named `tiny` with --enable-prompt-tokens-details; give their URLs in TURNOUT_VLLM_URLS. The
restart test runs the command in TURNOUT_VLLM_RESTART, which ends the second engine, starts it and returns at once.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.waiting import wait_for

URLS = [url.strip().rstrip("/") for url in os.environ.get("TURNOUT_VLLM_URLS", "").split(",") if url.strip()]
RESTART = os.environ.get("TURNOUT_VLLM_RESTART", "")

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(len(URLS) != 2, reason="TURNOUT_VLLM_URLS does not name two vLLM engines"),
]

TALKS = 6
TURNS = 4
WITHIN = 0.10


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config((), pools=[pool("default", URLS, policy={"name": "prefix_aware"})], scrape={"interval_s": 0.2})
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


class Talk:
    """A conversation that grows by a long message each turn."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []

    def turn(self, url: str) -> None:
        """Half of the answers are streams."""
        words = f"The licensee of {secrets.token_hex(4)} may copy and distribute the program. " * 25
        self.messages.append({"role": "user", "content": words})
        body: dict[str, object] = {"model": "tiny", "messages": self.messages, "temperature": 0, "max_tokens": 8}
        if len(self.messages) % 4 == 1:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=300.0) as client:
            answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        self.messages.append({"role": "assistant", "content": "Yes."})


def sums(gateway: GatewayProcess) -> tuple[float, float]:
    """Predicted and found cached tokens, over both pods."""
    return gateway.metric("turnout_prefix_predicted_tokens_total"), gateway.metric("turnout_prefix_true_tokens_total")


def round_of(gateway: GatewayProcess, talks: list[Talk]) -> tuple[float, float]:
    """Run one turn of each conversation; returns the predicted and the found tokens of it."""
    before = sums(gateway)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda talk: talk.turn(gateway.url), talks))
    gateway.settle()
    after = sums(gateway)
    return after[0] - before[0], after[1] - before[1]


def test_predicted_cached_tokens_are_within_a_tenth_of_those_the_engines_find(gateway: GatewayProcess) -> None:
    talks = [Talk() for _ in range(TALKS)]
    rounds = [round_of(gateway, talks) for _ in range(TURNS)]
    predicted, true = map(sum, zip(*rounds, strict=True))
    assert true > 1000 * TALKS
    assert abs(predicted - true) <= WITHIN * true, rounds


@pytest.mark.skipif(not RESTART, reason="TURNOUT_VLLM_RESTART does not say how to restart the second engine")
def test_three_turns_after_a_restart_the_predictions_are_right_again(gateway: GatewayProcess) -> None:
    talks = [Talk() for _ in range(TALKS)]
    for _ in range(2):
        round_of(gateway, talks)
    # Its output must not be waited for: the engine that it starts keeps the pipe.
    subprocess.run(RESTART, shell=True, check=True, timeout=300.0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("the engine is gone", lambda: sum(pod["routable"] for pod in gateway.pods()) == 1, 300.0)
    wait_for("the engine is back", lambda: sum(pod["routable"] for pod in gateway.pods()) == 2, 600.0)
    rounds = [round_of(gateway, talks) for _ in range(3)]
    predicted, true = rounds[-1]
    assert abs(predicted - true) <= WITHIN * true, rounds
