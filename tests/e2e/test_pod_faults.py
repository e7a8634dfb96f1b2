"""Pods that fail in every way a simulated pod can: which pod answers instead, and what the client gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.fakes.endless_stream_pod import HosePod, hose_pod
from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Answer, Wire, chat, endless, events, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

PODS = 3
SLOW_READERS = 10
ROUND_ROBIN = {"policy": {"name": "round_robin"}}


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """No pod is ejected, so that each test reaches its pod."""
    with running(undaunted(all_sims), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def impatient(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The same with short timeouts, for pods that fall silent; answers of other pods may exceed them too. What the bad
    pod says before it falls silent must not."""
    timeouts = {"first_byte_s": 3.0, "idle_s": 3.0}
    with running(undaunted(all_sims, timeouts=timeouts), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def undaunted(sims: SimPods, **sections: object) -> dict[str, object]:
    """A pool that ejects no pod, whatever happens to its requests."""
    return config(
        (),
        pools=[pool("default", sims.urls[:PODS], **ROUND_ROBIN)],
        health=PATIENT_HEALTH | {"eject_failures": 1000, "failures": 1000},
        retries={"budget_min": 1000},
        **sections,
    )


@pytest.fixture
def bad(sims: SimPods) -> str:
    """The pod that is going to fail."""
    return sims.addresses[0]


def ask(port: int, body: dict[str, object], path: str = "/v1/chat/completions") -> Answer:
    with Wire("127.0.0.1", port) as wire:
        wire.send(post(body, path=path))
        return wire.answer()


def ask_each_pod(port: int, body: dict[str, object], path: str = "/v1/chat/completions") -> list[Answer]:
    """One request to each pod, in turn."""
    return [ask(port, body, path) for _ in range(PODS)]


def of_pod(answers: list[Answer], pod: str) -> Answer:
    """The answer of this pod."""
    (found,) = [answer for answer in answers if answer.headers["x-turnout-pod"] == pod]
    return found


# Another pod answers


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["refuse", "close_before_first_byte", "garbage", "http_429", "http_503"])
def test_before_the_first_byte_another_pod_answers(port: int, sims: SimPods, bad: str, kind: str, stream: bool) -> None:
    sims.fault(bad, kind)
    answers = ask_each_pod(port, chat(stream=stream))
    assert [answer.status for answer in answers] == [200] * PODS
    assert sorted(answer.headers["x-turnout-attempts"] for answer in answers) == ["1", "1", "2"]
    assert all(answer.complete and answer.headers["x-turnout-pod"] != bad for answer in answers)


def test_when_all_pods_refuse_the_client_gets_an_error_and_may_retry(port: int, sims: SimPods) -> None:
    for pod in sims.addresses[:PODS]:
        sims.fault(pod, "refuse")
    answer = ask(port, chat())
    assert (answer.status, answer.error["code"]) == (503, "pod_unreachable")
    assert answer.headers["x-turnout-attempts"] == "3"
    assert int(answer.headers["retry-after"]) >= 1


def test_when_all_pods_are_busy_the_last_pods_answer_is_passed_on(port: int, sims: SimPods) -> None:
    for pod in sims.addresses[:PODS]:
        sims.fault(pod, "http_429", retry_after_s=9)
    answer = ask(port, chat())
    assert (answer.status, answer.headers["retry-after"]) == (429, "9")
    assert answer.headers["x-turnout-attempts"] == "3"


def test_a_500_is_passed_on_as_the_pod_wrote_it(port: int, sims: SimPods, bad: str) -> None:
    sims.fault(bad, "http_500")
    answer = of_pod(ask_each_pod(port, chat()), bad)
    assert (answer.status, answer.headers["x-turnout-attempts"]) == (500, "1")
    assert "EngineCore" in answer.error["message"]


# The client gets an error


def test_a_pod_that_hangs_is_a_504_and_no_second_pod_repeats_the_work(
    impatient: GatewayProcess, sims: SimPods, bad: str
) -> None:
    sims.fault(bad, "hang")
    answer = of_pod(ask_each_pod(impatient.port, chat()), bad)
    assert (answer.status, answer.error["code"]) == (504, "pod_timeout")
    assert answer.headers["x-turnout-attempts"] == "1"
    wait_for("the pod has no open request", lambda: sims.state(bad)["open_requests"] == 0)


@pytest.mark.parametrize(
    ("kind", "asked", "code"),
    [
        ("reset_midstream", "gateway", "pod_closed_connection"),
        ("truncated_sse", "gateway", "pod_closed_connection"),
        ("stall", "impatient", "pod_stalled"),
    ],
)
def test_a_stream_that_dies_ends_with_an_error_event_and_does_not_look_complete(
    request: pytest.FixtureRequest, sims: SimPods, bad: str, kind: str, asked: str, code: str
) -> None:
    gateway: GatewayProcess = request.getfixturevalue(asked)
    sims.fault(bad, kind, after_chunks=4)
    answer = of_pod(ask_each_pod(gateway.port, chat(stream=True, max_tokens=30)), bad)
    assert answer.status == 200
    assert not answer.complete, "a last chunk was sent"
    seen = events(answer.body)
    assert [each for each in seen if "choices" in each] == seen[:-1]
    assert len(seen) == 5
    assert seen[-1]["error"]["code"] == code
    wait_for("the pod has no open request", lambda: sims.state(bad)["open_requests"] == 0)


def test_an_anthropic_stream_that_dies_gets_anthropics_error_event(port: int, sims: SimPods, bad: str) -> None:
    sims.fault(bad, "reset_midstream", after_chunks=4)
    answer = of_pod(ask_each_pod(port, chat(stream=True, max_tokens=30), "/v1/messages"), bad)
    last = answer.body.rstrip(b"\n").rpartition(b"\n\n")[2]
    assert last.startswith(b'event: error\ndata: {"type":"error","error":{')
    assert not answer.complete


def test_an_http_1_0_client_sees_the_error_event_too(port: int, sims: SimPods, bad: str) -> None:
    sims.fault(bad, "reset_midstream", after_chunks=4)
    request = post(chat(stream=True, max_tokens=30)).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answers = []
    for _ in range(PODS):
        with Wire("127.0.0.1", port) as wire:
            wire.send(request)
            answers.append(wire.answer())
    assert events(of_pod(answers, bad).body)[-1]["error"]["code"] == "pod_closed_connection"
    assert [events(answer.body)[-1] for answer in answers].count("[DONE]") == PODS - 1


@pytest.mark.parametrize(
    ("kind", "asked"), [("reset_midstream", "gateway"), ("truncated_sse", "gateway"), ("stall", "impatient")]
)
def test_an_answer_cut_in_half_is_cut_for_the_client_too(
    request: pytest.FixtureRequest, sims: SimPods, bad: str, kind: str, asked: str
) -> None:
    gateway: GatewayProcess = request.getfixturevalue(asked)
    sims.fault(bad, kind)
    answer = of_pod(ask_each_pod(gateway.port, chat()), bad)
    assert not answer.complete
    assert 0 < len(answer.body) < int(answer.headers["content-length"])


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_slow_drip_works(port: int, sims: SimPods, bad: str, stream: bool) -> None:
    whole = ask(port, chat(stream=stream)).body
    sims.fault(bad, "slow_drip", drip_bytes=100, drip_interval_s=0.02)
    for answer in ask_each_pod(port, chat(stream=stream)):
        assert answer.complete
        assert answer.body == whole


def test_a_deadline_ends_a_stream_with_an_error_event(port: int, sims: SimPods) -> None:
    def begun() -> Answer | None:
        """On a busy machine the time may be over before the stream begins."""
        with Wire("127.0.0.1", port) as wire:
            wire.send(post(endless(), "x-turnout-deadline-ms: 3000"))
            answer = wire.answer()
        return answer if answer.status == 200 else None

    answer = wait_for("a stream begins in time", begun)
    assert events(answer.body)[-1]["error"]["code"] == "request_timed_out"
    assert not answer.complete
    wait_for("no pod has an open request", lambda: sims.total("open_requests") == 0)


# Clients


def test_clients_that_leave_free_their_pods_at_once(gateway: GatewayProcess, sims: SimPods) -> None:
    """Every stream is aborted, long before its end."""
    before = sum(sims.state(pod)["finished"]["abort"] for pod in sims.addresses)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire("127.0.0.1", gateway.port)) for _ in range(50)]
        for at, wire in enumerate(wires):
            wire.send(post(endless(f"stream {at}")))
        for wire in wires:
            assert wire.some().startswith(b"HTTP/1.1 200")
        assert gateway.inflight() == sims.total("open_requests") == 50
    wait_for("the pods' streams are closed and the engines stopped", sims.idle)
    assert sum(sims.state(pod)["finished"]["abort"] for pod in sims.addresses) == before + 50
    gateway.settle()


def test_a_client_that_leaves_before_the_first_byte_frees_its_pod(
    gateway: GatewayProcess, sims: SimPods, bad: str
) -> None:
    for pod in sims.addresses[:PODS]:
        sims.fault(pod, "hang")
    with Wire("127.0.0.1", gateway.port) as wire:
        wire.send(post(chat()))
        wait_for("the pod has the request", lambda: sims.total("open_requests") == 1)
    wait_for("the pod has no open request", lambda: sims.total("open_requests") == 0)
    assert gateway.inflight() == 0


def test_slow_readers_cost_no_memory_and_do_not_delay_other_clients(
    all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with hose_pod() as hose:
        settings = config((), pools=[pool("hose", [hose.url]), pool("sims", all_sims.urls[:1])])
        with running(settings, tmp_path_factory.mktemp("gateway")) as gateway, ExitStack() as stack:
            before = gateway.rss_bytes()
            slow = [
                stack.enter_context(Wire("127.0.0.1", gateway.port, receive_bytes=8192)) for _ in range(SLOW_READERS)
            ]
            for wire in slow:
                wire.send(post(chat(model="hose", stream=True)))
            wait_for(
                "slow streams stand still",
                lambda: stands_still_while_others_are_served(hose, gateway),
            )
            # The kernel holds the sockets' buffers; the gateway holds at most one write buffer for each stream.
            assert gateway.rss_bytes() - before < 10 * 2**20
            held = hose.sent_bytes
            wait_for("its stream goes on", lambda: taken(slow[0]) and hose.sent_bytes > held)
            stack.close()
            wait_for("the pod's streams end", lambda: hose.streams == 0)


def taken(wire: Wire) -> int:
    """How many bytes can be read now; read in many small pieces."""
    return sum(len(wire.some()) for _ in range(200))


def stands_still_while_others_are_served(hose: HosePod, gateway: GatewayProcess) -> bool:
    """Whether no slow reader's stream moved while the gateway served twenty requests in full."""
    held = hose.sent_bytes
    if hose.stuck < SLOW_READERS:
        return False
    assert [ask(gateway.port, chat()).status for _ in range(20)] == [200] * 20
    return hose.stuck == SLOW_READERS and hose.sent_bytes == held


# Ejection


def ejecting(sims: SimPods, **health: float) -> dict[str, object]:
    """Four pods, each ejected after three failures."""
    return config(
        (),
        pools=[pool("default", sims.urls[2:6], **ROUND_ROBIN)],
        health=PATIENT_HEALTH | {"failures": 1000, "eject_failures": 3} | health,
        retries={"budget_min": 1000},
    )


@pytest.fixture
def for_good(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Ejected pods stay ejected for longer than any test."""
    with running(ejecting(all_sims, eject_s=600.0, eject_max_s=600.0), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def for_a_moment(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Ejected pods are tried again soon."""
    settings = ejecting(all_sims, interval_s=0.2, eject_s=0.2, eject_max_s=0.4)
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def ejected(gateway: GatewayProcess) -> set[str]:
    return {pod["address"] for pod in gateway.pods() if "ejected" in pod["blockers"]}


def test_a_pod_that_keeps_failing_is_ejected(for_good: GatewayProcess, sims: SimPods) -> None:
    bad = sims.addresses[2]
    sims.fault(bad, "close_before_first_byte")
    answers = [ask(for_good.port, chat()) for _ in range(12)]
    assert [answer.status for answer in answers] == [200] * 12
    assert ejected(for_good) == {bad}
    struck = sims.state(bad)["struck"]
    assert {ask(for_good.port, chat()).headers["x-turnout-attempts"] for _ in range(4)} == {"1"}
    assert sims.state(bad)["struck"] == struck
    assert for_good.metric("turnout_ejections_total", pod=bad) == 1


def test_never_more_than_half_of_a_pool_is_ejected(for_good: GatewayProcess, sims: SimPods) -> None:
    for pod in sims.addresses[2:6]:
        sims.fault(pod, "close_before_first_byte")
    out = []
    for _ in range(24):
        assert ask(for_good.port, chat()).status in (502, 503)
        out.append(sum(not pod["routable"] for pod in for_good.pods()))
    assert out == sorted(out)
    assert max(out) == 2
    sims.well()
    assert [ask(for_good.port, chat()).status for _ in range(8)] == [200] * 8


def test_ejected_pods_are_tried_again_and_return(for_a_moment: GatewayProcess, sims: SimPods) -> None:
    pods = sims.addresses[2:6]
    for pod in pods:
        sims.fault(pod, "close_before_first_byte")

    def two_were_ejected() -> bool:
        assert ask(for_a_moment.port, chat()).status in (502, 503)
        return sum(for_a_moment.metric("turnout_ejections_total", pod=pod) >= 1 for pod in pods) >= 2

    wait_for("two were ejected", two_were_ejected)
    sims.well()
    wait_for("every pod is routable", lambda: all(pod["routable"] for pod in for_a_moment.pods()))
    answers = [ask(for_a_moment.port, chat()) for _ in range(8)]
    assert [answer.status for answer in answers] == [200] * 8
    assert {answer.headers["x-turnout-pod"] for answer in answers} == set(pods)
