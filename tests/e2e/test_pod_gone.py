"""A pod that is stopped by SIGSTOP while it has requests, with real processes: its connections stay open and silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import InternalServerError, OpenAI

from tests.fakes.gateway_process import PATIENT_HEALTH, PATIENT_TIMEOUTS, GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Wire, chat, post
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

REQUESTS = 12
"""Requests that are sent before one of the two pods stops, which has about half of them."""


@pytest.fixture
def two_pods(tmp_path: Path) -> Iterator[tuple[SimPods, SimPods]]:
    """Two pods, each in a process of its own."""
    with sim_pods(1, tmp_path / "a.log") as first, sim_pods(1, tmp_path / "b.log") as second:
        yield first, second


@pytest.fixture
def gateway(two_pods: tuple[SimPods, SimPods], tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that probes often and waits for a probe as long as a busy machine needs: the other pod must not be
    taken for gone, too."""
    urls = [url for pods in two_pods for url in pods.urls]
    settings = config(
        (),
        pools=[pool("default", urls, policy={"name": "round_robin"})],
        health=PATIENT_HEALTH | {"interval_s": 0.2, "timeout_s": 5.0, "failures": 2},
    )
    with running(settings, tmp_path / "gateway") as gateway:
        yield gateway


def test_case_b8_requests_of_a_stopped_pod_are_answered_by_the_other_one(
    two_pods: tuple[SimPods, SimPods], gateway: GatewayProcess
) -> None:
    stopped, well = two_pods
    (silent,), (other,) = stopped.addresses, well.addresses
    stopped.fault(silent, "hang")
    wires = [Wire("127.0.0.1", gateway.port) for _ in range(REQUESTS)]
    try:
        for wire in wires:
            wire.send(post(chat()))
        wait_for("every request is at a pod", lambda: stopped.served(silent) + well.served(other) == REQUESTS)
        held = stopped.served(silent)
        assert held > 0
        stopped.pause()
        answers = [wire.answer() for wire in wires]
        assert [(answer.status, answer.headers["x-turnout-pod"]) for answer in answers] == [(200, other)] * REQUESTS
        assert [answer.headers["x-turnout-attempts"] for answer in answers].count("2") == held
        assert gateway.metric("turnout_retries_total", reason="gone") == held
        assert gateway.pod(silent)["inflight"] == 0
    finally:
        stopped.go_on()
        for wire in wires:
            wire.close()


def test_case_b7_one_call_of_an_sdk_that_times_out_starts_the_engine_once(
    two_pods: tuple[SimPods, SimPods], tmp_path: Path
) -> None:
    urls = [url for pods in two_pods for url in pods.urls]
    for pods in two_pods:
        pods.fault(pods.addresses[0], "hang")
    settings = config(urls, timeouts=PATIENT_TIMEOUTS | {"first_byte_s": 0.5})
    with (
        running(settings, tmp_path / "impatient") as gateway,
        OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=5) as client,
    ):
        for call in range(1, 7):
            with pytest.raises(InternalServerError) as caught:
                client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
            assert caught.value.status_code == 504
            # A pod of a busy machine reads its request after the gateway has given up.
            wait_for("a pod has it", lambda call=call: served(two_pods) >= call)  # type: ignore[misc]
            assert served(two_pods) == call
        assert [pod["routable"] for pod in gateway.pods()] == [True, True]


def served(two_pods: tuple[SimPods, SimPods]) -> int:
    """The requests that both have received."""
    return sum(pods.served(pods.addresses[0]) for pods in two_pods)
