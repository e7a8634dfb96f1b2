"""Real vLLM engines that are killed in mid-answer: each stream goes on on the other engine, and at temperature 0 its
text is that of an undisturbed run. TURNOUT_VLLM_SERVE is a command that serves the model `tiny` on the port after it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_vllm import ANSWER_S, unchanging
from tests.e2e.test_vllm_failover import MOVED, STREAMS, ask, body_of, without_usage
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.streamed_answer import streamed
from tests.fakes.waiting import wait_for

SERVE = os.environ.get("TURNOUT_VLLM_SERVE", "")

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not SERVE, reason="TURNOUT_VLLM_SERVE does not say how to start a vLLM engine"),
]

PORTS = (8731, 8732)
START_S = 600.0
TOKENS = 1500
"""So many that the engine is still at work when it is killed: on a busy machine hundreds come in one burst."""


class Engine:
    """A vLLM engine with its worker processes, one process group."""

    def __init__(self, port: int, log: Path) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self._command = [*shlex.split(SERVE), str(port)]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def is_well(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-4000:]
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=5.0).status_code == 200
        return False

    def kill(self) -> None:
        """SIGKILL to every process of it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    started = [Engine(port, tmp_path_factory.mktemp("engine") / "log") for port in PORTS]
    yield {engine.address: engine for engine in started}
    for engine in started:
        engine.kill()


@pytest.fixture(scope="module")
def gateway(engines: dict[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    for engine in engines.values():
        wait_for("the engine serves", engine.is_well, START_S)
    moving = pool(
        "default", list(engines), policy={"name": "round_robin"}, engine="vllm", failover={"mid_stream": True}
    )
    with running(config((), pools=[moving]), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def killed_in(url: str, path: str, body: object, engines: dict[str, Engine], events: int) -> tuple[bytes, Engine]:
    """A streamed answer, whose engine is killed once so many events of it have come; and this engine."""
    parts: list[bytes] = []
    killed: Engine | None = None
    seen = 0
    with httpx.stream("POST", url + path, json=body, trust_env=False, timeout=ANSWER_S) as answer:
        serving = next(engine for address, engine in engines.items() if address in answer.headers["x-turnout-pod"])
        for part in answer.iter_raw():
            parts.append(part)
            seen += part.count(b"\n\n")
            if killed is None and seen >= events:
                serving.kill()
                killed = serving
    assert killed is not None
    return b"".join(parts), killed


@pytest.mark.parametrize("number", range(STREAMS))
def test_a_stream_whose_engine_is_killed_has_the_text_of_an_undisturbed_run(
    gateway: GatewayProcess, engines: dict[str, Engine], number: int
) -> None:
    path, body = body_of(number)
    body |= {"max_tokens": TOKENS}
    calm, wanted = without_usage(ask(next(iter(engines.values())).url, path, body))
    answer, killed = killed_in(gateway.url, path, body, engines, 3 + number % 5)
    killed.start()
    wait_for("the engine serves again", killed.is_well, START_S)
    wait_for("the gateway sees it", lambda: gateway.pod(killed.address)["routable"], START_S)
    assert answer.count(MOVED) == 1, answer
    rough, counted = without_usage(answer.replace(MOVED, b""))
    assert streamed(unchanging(rough)).agrees(streamed(unchanging(calm))), (rough, calm)
    assert counted["turnout"] == {"moved": 1}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert counted["usage"][name] == wanted["usage"][name]
