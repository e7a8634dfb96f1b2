"""Prefill and decode on separate pods, with real processes: answers are those of one pod, and no pod's death loses a
request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Answer, Wire, chat, post
from tests.fakes.sim_process import SimPods, sim_pods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

REQUESTS = 16
PROMPT_WORDS = 6000
"""Words of a prompt that a simulated pod computes in about 0.15 s."""

MODES = {"nixl": ("nixl", "nixl"), "sglang": ("sglang-prefill", "sglang-decode")}


class Fleet:
    """Two prefill and two decode pods, each in a process of its own, and the gateway in front of them."""

    def __init__(self, prefill: Sequence[SimPods], decode: Sequence[SimPods], gateway: GatewayProcess) -> None:
        self.prefill, self.decode, self.gateway = prefill, decode, gateway

    def load(self, pods: SimPods) -> int:
        """Requests that these pods have got."""
        return pods.served(pods.addresses[0])


@contextmanager
def fleet(connector: str, tmp_path: Path) -> Iterator[Fleet]:
    """The processes."""
    prefill_mode, decode_mode = MODES[connector]
    with ExitStack() as stack:

        def pods(name: str, mode: str) -> SimPods:
            return stack.enter_context(sim_pods(1, tmp_path / f"{name}.log", "--kv-transfer", mode))

        prefill = [pods(f"p{at}", prefill_mode) for at in range(2)]
        decode = [pods(f"d{at}", decode_mode) for at in range(2)]
        split = {"prefill": "p", "connector": connector, "bootstrap_port": 0}
        policy = {"name": "prefix_aware"}
        pools = [
            pool("d", [url for each in decode for url in each.urls], policy=policy, disaggregation=split),
            pool("p", [url for each in prefill for url in each.urls], policy=policy),
        ]
        settings = config((), pools=pools, retries={"budget_min": 1000})
        gateway = stack.enter_context(running(settings, tmp_path / "gateway", EXPECTED))
        yield Fleet(prefill, decode, gateway)


EXPECTED = ("answer cut short", "no scrape", "probe")
"""What the gateway may log about the pods that a test kills."""


def send(gateway: GatewayProcess, stack: ExitStack, *, stream: bool) -> list[Wire]:
    """Send the requests, each on a connection of its own; every prompt is another one."""
    wires = [stack.enter_context(Wire("127.0.0.1", gateway.port)) for _ in range(REQUESTS)]
    for at, wire in enumerate(wires):
        wire.send(post(chat(f"{at} " + "word " * PROMPT_WORDS, max_tokens=20, stream=stream, ignore_eos=True)))
    return wires


def ends(answers: Sequence[Answer]) -> list[tuple[int, bool]]:
    """Status and whether the stream is whole."""
    return [(answer.status, answer.body.rstrip().endswith(b"data: [DONE]")) for answer in answers]


@pytest.mark.parametrize("connector", ["nixl", "sglang"])
def test_two_pods_answer_as_one_would(connector: str, tmp_path: Path) -> None:
    with fleet(connector, tmp_path) as it, ExitStack() as stack, sim_pods(1, tmp_path / "one.log") as one:
        host, _, port = one.addresses[0].partition(":")
        answers = [wire.answer() for wire in send(it.gateway, stack, stream=False)]
        transferred = sum(pods.state(pods.addresses[0])["kv_received"] for pods in it.decode)
        named = [answer for answer in answers if "x-turnout-prefill-pod" in answer.headers]
        assert transferred == len(named) > 0
        if connector == "sglang":
            assert len(named) == REQUESTS
        for at, answer in enumerate(answers[:3]):
            with Wire(host, int(port)) as wire:
                wire.send(post(chat(f"{at} " + "word " * PROMPT_WORDS, max_tokens=20, ignore_eos=True)))
                assert answer.json()["choices"] == wire.answer().json()["choices"]
        wait_for("nothing is in flight", lambda: it.gateway.inflight() == 0)


@pytest.mark.parametrize("connector", ["nixl", "sglang"])
def test_a_prefill_pod_that_is_killed_under_load_loses_no_request(connector: str, tmp_path: Path) -> None:
    with fleet(connector, tmp_path) as it, ExitStack() as stack:
        it.prefill[0].fault(it.prefill[0].addresses[0], "hang")  # so that it has requests when it is killed
        wires = send(it.gateway, stack, stream=True)
        wait_for("both prefill pods are at work", lambda: all(it.load(pods) for pods in it.prefill))
        it.prefill[0].kill()
        assert ends([wire.answer() for wire in wires]) == [(200, True)] * REQUESTS
        assert it.gateway.metric("turnout_retries_total", pool="d") > 0
        again = [wire.answer() for wire in send(it.gateway, stack, stream=True)]
        assert ends(again) == [(200, True)] * REQUESTS
        wait_for("nothing is in flight", lambda: it.gateway.inflight() == 0)


def test_a_decode_pod_that_is_killed_before_its_first_byte_loses_no_request(tmp_path: Path) -> None:
    with fleet("nixl", tmp_path) as it, ExitStack() as stack:
        it.decode[0].fault(it.decode[0].addresses[0], "hang")
        wires = send(it.gateway, stack, stream=True)
        wait_for("the decode pod has a request", lambda: it.load(it.decode[0]) > 0)
        it.decode[0].kill()
        assert ends([wire.answer() for wire in wires]) == [(200, True)] * REQUESTS
        wait_for("nothing is in flight", lambda: it.gateway.inflight() == 0)


def test_clients_that_leave_stop_both_pods(tmp_path: Path) -> None:
    with fleet("sglang", tmp_path) as it:
        every = [*it.prefill, *it.decode]
        with ExitStack() as stack:
            send(it.gateway, stack, stream=True)
            wait_for("both prefill pods are at work", lambda: all(it.load(pods) for pods in it.prefill))
        wait_for("nothing is in flight", lambda: it.gateway.inflight() == 0)
        for pods in every:
            wait_for(f"{pods.addresses[0]} is idle", pods.idle)
