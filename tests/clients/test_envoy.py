"""The real Envoy with endpoint pickers over simulated pods: requests as through a gateway, rolls, and no picker."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.sim.ports import HOST, free_ports
from tests.clients.conftest import ROOT
from tests.fakes.certificates import Authority
from tests.fakes.envoy_process import envoy
from tests.fakes.gateway_process import config, pool, running, starting
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, until, wait_for

CLIENTS_AT_ONCE = 8


@pytest.fixture(scope="module")
def program() -> Path:
    """Envoy's program, from its wheel."""
    for found in ROOT.glob(".venv-clients/lib/python3*/site-packages/envoy/_bin/envoy"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("Envoy is missing: run `make test-clients`", pytrace=False)
    pytest.skip("Envoy is missing: run `make test-clients`")


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    with sim_pods(3, tmp_path_factory.mktemp("pods") / "pods.log", "--profile", "tiny") as pods:
        yield pods


def picker_config(pods: SimPods, port: int, settle_s: float = 1.0, **sections: Any) -> dict[str, Any]:
    chat = pool("default", pods.urls, aliases={"alias": MODEL})
    drain = {"settle_s": settle_s, "timeout_s": DEADLINE_S}
    return config((), listen=f"{HOST}:{port}", pools=[chat], drain=drain, **sections)


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]} | fields


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE_S)


@pytest.mark.parametrize(("mode", "tls"), [("FULL_DUPLEX_STREAMED", False), ("BUFFERED", False), ("BUFFERED", True)])
def test_requests_pass_envoy_as_they_pass_a_gateway(
    mode: str, tls: bool, program: Path, pods: SimPods, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    at = f"{HOST}:{port}"
    sections: dict[str, Any] = {}
    options: dict[str, Any] = {"mode": mode}
    if tls:
        authority = Authority(tmp_path)
        pair = authority.issue()
        sections["tls"] = {"cert_file": str(pair.cert), "key_file": str(pair.key)}
        options["trusted"] = authority.cert
    with ExitStack() as stack:
        picker = stack.enter_context(running(picker_config(pods, port, **sections), tmp_path / "picker", command="epp"))
        proxy = stack.enter_context(envoy(program, tmp_path / "envoy", [at], pods.addresses, **options))
        http = stack.enter_context(client(proxy.url))
        answer = http.post("/v1/chat/completions", json=chat(model="alias"))
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-turnout-pod"] in pods.addresses
        assert (
            answer.headers["x-inference-pod"].rpartition("-")[2] == answer.headers["x-turnout-pod"].rpartition(":")[2]
        )
        large = http.post("/v1/chat/completions", json=chat(messages=[{"role": "user", "content": "word " * 40_000}]))
        assert large.status_code in (200, 400), large.text
        with http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as stream:
            assert stream.read().endswith(b"data: [DONE]\n\n")
        refused = http.post("/v1/chat/completions", json=chat(model="other"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert {each["id"] for each in http.get("/v1/models").json()["data"]} == {"alias", MODEL}
        wait_for("nothing is in flight", lambda: picker.inflight() == 0)
        assert picker.metric("turnout_time_to_first_token_seconds_count") == 1


def test_a_pod_that_is_gone_is_passed_over_by_envoys_retry(program: Path, pods: SimPods, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        settings = picker_config(pods, port, health={"interval_s": DEADLINE_S, "timeout_s": DEADLINE_S})
        settings["pools"][0]["policy"] = {"name": "round_robin"}  # each pod is picked, whatever the caches hold
        picker = stack.enter_context(starting(settings, tmp_path / "picker", "epp", ["--endpoints", "3"]))
        picker.wait_until_ready()
        at = [f"{HOST}:{port}"]
        proxy = stack.enter_context(envoy(program, tmp_path / "envoy", at, pods.addresses, retries=2))
        http = stack.enter_context(client(proxy.url))
        pods.fault(pods.addresses[0], "http_503")
        try:
            answers = [http.post("/v1/chat/completions", json=chat()) for _ in range(9)]
        finally:
            pods.well()
        assert [answer.status_code for answer in answers] == [200] * 9
        assert {answer.headers["x-turnout-pod"] for answer in answers} == set(pods.addresses[1:])
        wait_for("nothing is in flight", lambda: picker.inflight() == 0)


def test_two_pickers_are_active_and_one_is_rolled_without_a_failed_request(
    program: Path, pods: SimPods, tmp_path: Path
) -> None:
    first, second = free_ports(2)
    with ExitStack() as stack:
        state = f"redis://{HOST}:{stack.enter_context(redis_server()).port}"
        stack.enter_context(running(picker_config(pods, second, state=state), tmp_path / "second", command="epp"))
        # It settles for long enough that Envoy sees it on a busy machine, too.
        leaving = picker_config(pods, first, settle_s=5.0, state=state)
        rolled = stack.enter_context(starting(leaving, tmp_path / "first", "epp"))
        rolled.wait_until_ready()
        pickers = [f"{HOST}:{first}", f"{HOST}:{second}"]
        proxy = stack.enter_context(envoy(program, tmp_path / "envoy", pickers, pods.addresses))

        async def roll() -> None:
            rolled.signal(signal.SIGTERM)
            await until(lambda: rolled.exit_status is not None)
            assert (rolled.exit_status, rolled.complaints()) == (0, [])
            again = await asyncio.to_thread(
                stack.enter_context, running(picker_config(pods, first, state=state), tmp_path / "again", command="epp")
            )
            await until(lambda: proxy.healthy() == set(pickers))
            served = again.metric("turnout_requests_total")
            await until(lambda: again.metric("turnout_requests_total") > served)

        statuses = asyncio.run(under_load(proxy.url, roll()))
        assert set(statuses) == {200}
        assert len(statuses) > 3 * CLIENTS_AT_ONCE


async def under_load(url: str, work: Any) -> list[int]:
    """The statuses of requests that clients send one after the other while `work` is done."""
    done = asyncio.Event()
    statuses: list[int] = []

    async def ask(http: httpx.AsyncClient) -> None:
        while not done.is_set():
            statuses.append((await http.post("/v1/chat/completions", json=chat())).status_code)

    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE_S) as http:
        asking = [asyncio.create_task(ask(http)) for _ in range(CLIENTS_AT_ONCE)]  # noqa: TID251  awaited below
        try:
            await work
        finally:
            done.set()
            await asyncio.gather(*asking)
    return statuses


@pytest.mark.parametrize(("allow_failure", "expected"), [(True, 200), (False, 500)])
def test_without_a_picker_envoy_does_as_it_is_configured(
    allow_failure: bool, expected: int, program: Path, pods: SimPods, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        picker = stack.enter_context(starting(picker_config(pods, port), tmp_path / "picker", "epp"))
        picker.wait_until_ready()
        at = [f"{HOST}:{port}"]
        # With FULL_DUPLEX_STREAMED nothing can go on without the picker: it has the body.
        modes: dict[str, Any] = {"mode": "BUFFERED", "allow_failure": allow_failure}
        proxy = stack.enter_context(envoy(program, tmp_path / "envoy", at, pods.addresses, **modes))
        http = stack.enter_context(client(proxy.url))
        assert http.post("/v1/chat/completions", json=chat()).status_code == 200
        picker.signal(signal.SIGKILL)
        picker.ended()
        wait_for("Envoy has seen it", lambda: not proxy.healthy())
        assert http.post("/v1/chat/completions", json=chat()).status_code == expected
