"""Requests of a pod that is gone by its probes move on; those of a pod that is only slow never do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router.dataplane.handback import MOVABLE_SILENT_S, SILENT_S
from router.settings import Failover, Limits, Retries, Timeouts
from schedulers.types import PodId
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, PodEnd, event, ok
from tests.fakes.memory_gateway import Rig, one_pool


def fails_its_probes(rig: Rig, pod: str) -> None:
    """Every probe of this pod fails from now on, until it is blocked."""
    for _ in range(2):
        rig.wire.do(lambda: rig.health.probe(PodId(pod), False, rig.wire.clock()))


def answers_its_probes(rig: Rig, pod: str) -> None:
    rig.wire.do(lambda: rig.health.probe(PodId(pod), True, rig.wire.clock()))


def proven(rig: Rig) -> Rig:
    """The pods have answered a probe before."""
    for end in rig.view.statuses():
        answers_its_probes(rig, end.pod.id)
    return rig


@pytest.mark.parametrize("sent", [b"", SSE_HEAD, ok(b"abc")[:-5]], ids=["nothing", "a head", "part of a head"])
def test_case_b8_a_request_without_a_byte_moves_on_once_the_probes_find_its_pod_gone(sent: bytes) -> None:
    with Rig() as rig:
        proven(rig)
        client = rig.asks()
        gone = rig.asked()
        if sent:
            gone.sends(sent)
        rig.passes(20)
        assert client.raw == b""
        fails_its_probes(rig, gone.address)
        second = rig.net.made[-1]
        assert second.address != gone.address
        assert second.request.body == CHAT
        assert gone.fate == "aborted"
        assert rig.view.status(PodId(gone.address)).load.inflight == 0
        second.sends(ok(b'{"id":"2"}'))
        assert (client.answer().status, client.answer().body) == (200, b'{"id":"2"}')
        assert rig.metrics.retries == {("main", "gone"): 1}


def test_case_b8_a_hundred_requests_move_on_whatever_the_retry_budget_has() -> None:
    with Rig() as rig:
        proven(rig)
        clients = [rig.asks() for _ in range(200)]
        fails_its_probes(rig, "10.0.0.1:8000")
        well = [end for end in rig.net.made if end.address == "10.0.0.2:8000"]
        assert len(well) == 200
        for end in well:
            end.sends(ok())
        assert {client.answer().status for client in clients} == {200}


def test_requests_move_on_from_every_pod_that_is_gone_though_the_rotation_keeps_one_of_them() -> None:
    with Rig(pods=3) as rig:
        proven(rig)
        clients = [rig.asks() for _ in range(9)]
        for pod in ("10.0.0.1:8000", "10.0.0.2:8000"):
            fails_its_probes(rig, pod)
        assert [bool(status.kept) for status in rig.view.statuses()].count(True) == 1
        waiting = [end for end in rig.net.made if end.fate == ""]
        assert [end.address for end in waiting] == ["10.0.0.3:8000"] * 9
        for end in waiting:
            end.sends(ok())
        assert {client.answer().status for client in clients} == {200}


def test_where_all_pods_fail_their_probes_requests_wait_for_the_first_one_that_comes_back() -> None:
    with Rig() as rig:
        proven(rig)
        clients = [rig.asks() for _ in range(4)]
        fails_its_probes(rig, "10.0.0.1:8000")
        fails_its_probes(rig, "10.0.0.2:8000")
        made = len(rig.net.made)
        assert made == 6, "the second one's requests stay with it: none that answers is left"
        rig.passes(100)
        answers_its_probes(rig, "10.0.0.1:8000")
        waiting = [end for end in rig.net.made if end.fate == ""]
        assert {end.address for end in waiting} == {"10.0.0.1:8000"}
        for end in waiting:
            end.sends(ok())
        assert {client.answer().status for client in clients} == {200}


def test_a_begun_answer_stays_with_its_pod() -> None:
    with Rig() as rig:
        proven(rig)
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        fails_its_probes(rig, pod.address)
        assert len(rig.net.made) == 1
        pod.sends(LAST_CHUNK)
        assert client.answer().complete


def test_an_answer_that_has_begun_ends_once_its_pod_was_silent_and_gone_for_long() -> None:
    with Rig() as rig:
        proven(rig)
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        fails_its_probes(rig, pod.address)
        rig.passes(SILENT_S - 1)
        pod.sends(event("two"))
        rig.passes(2)
        rig.passes(SILENT_S - 2)
        assert client.fate == ""
        rig.passes(SILENT_S)
        assert b'"pod_gone"' in client.raw
        assert (client.answer().complete, pod.fate) == (False, "aborted")


def test_a_stream_that_can_be_moved_leaves_a_silent_pod_that_is_gone_soon() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True))) as rig:
        proven(rig)
        client = rig.asks(CHAT.replace(b"{", b'{"stream":true,', 1))
        gone = rig.asked().sends(SSE_HEAD + event('{"id":"a","choices":[{"index":0,"delta":{"content":"Hel"}}]}'))
        fails_its_probes(rig, gone.address)
        rig.passes(MOVABLE_SILENT_S)
        second = rig.asked()
        assert gone.fate == "aborted"
        assert b'"content":"Hel"' in second.request.body
        ending = event('{"id":"b","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}')
        second.sends(SSE_HEAD + ending + event("[DONE]") + LAST_CHUNK)
        assert client.answer().complete
        assert rig.metrics.moves == {("main", "moved"): 1}


def test_a_stream_that_can_be_moved_stays_where_no_other_pod_is_well_for_as_long_as_requests_wait() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True)), limits=Limits(queue_timeout_s=45.0)) as rig:
        proven(rig)
        client = rig.asks(CHAT.replace(b"{", b'{"stream":true,', 1))
        silent = rig.asked().sends(SSE_HEAD + event('{"id":"a","choices":[{"index":0,"delta":{"content":"Hel"}}]}'))
        for status in rig.view.statuses():
            fails_its_probes(rig, status.pod.id)
        rig.passes(4 * MOVABLE_SILENT_S)
        assert silent.fate == ""
        rig.passes(MOVABLE_SILENT_S)
        assert silent.fate == "aborted"
        client.leaves()


def test_a_stream_that_waits_for_its_next_pod_is_not_taken_from_the_last_one_once_more() -> None:
    moves_once = Failover(mid_stream=True, max_moves=1)
    with Rig(one_pool(failover=moves_once, max_inflight_per_pod=1), limits=Limits(queue_timeout_s=60.0)) as rig:
        proven(rig)
        streamed = CHAT.replace(b"{", b'{"stream":true,', 1)
        client, other = rig.asks(streamed), rig.asks(streamed)
        gone, full = rig.net.made
        rig.net.trouble[gone.address] = ConnectionRefusedError(111, "Connection refused")
        gone.sends(SSE_HEAD + event('{"id":"a","choices":[{"index":0,"delta":{"content":"Hel"}}]}'))
        fails_its_probes(rig, gone.address)
        gone.dies()
        rig.passes(MOVABLE_SILENT_S)
        assert rig.admission.queued == 1
        ending = event('{"id":"b","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}')
        for _ in (other, client):
            full.sends(SSE_HEAD + ending + event("[DONE]") + LAST_CHUNK)
        assert client.answer().complete
        assert rig.metrics.moves == {("main", "moved"): 1}


def test_a_silent_answer_of_a_pod_that_is_well_again_goes_on() -> None:
    with Rig() as rig:
        proven(rig)
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        fails_its_probes(rig, pod.address)
        rig.passes(60)
        answers_its_probes(rig, pod.address)
        rig.passes(600)
        pod.sends(LAST_CHUNK)
        assert client.answer().complete


def test_a_request_that_no_other_pod_takes_ends_with_an_error_that_may_be_retried() -> None:
    with Rig(pods=1) as rig:
        proven(rig)
        client = rig.asks()
        fails_its_probes(rig, "10.0.0.1:8000")
        rig.passes(SILENT_S + 1)
        answer = client.answer()
        assert (answer.status, b'"pod_gone"' in answer.body) == (502, True)
        assert "x-should-retry" not in answer.headers


def test_a_request_stays_where_no_other_pod_takes_it_and_gets_the_answer_of_a_pod_that_comes_back() -> None:
    with Rig() as rig:
        proven(rig)
        rig.net.trouble["10.0.0.2:8000"] = ConnectionRefusedError(111, "Connection refused")
        first, second = rig.asks(), rig.asks()
        pod = rig.asked()
        assert [each.raw for each in (first, second)] == [b"", b""]
        rig.wire.do(lambda: rig.view.block(PodId("10.0.0.2:8000"), "draining"))
        fails_its_probes(rig, pod.address)
        assert pod.fate == ""
        answers_its_probes(rig, pod.address)
        for end in rig.net.made:
            end.sends(ok())
        assert [each.answer().status for each in (first, second)] == [200, 200]


def test_where_the_other_pods_are_full_it_waits_in_the_queue() -> None:
    with Rig(one_pool(max_inflight_per_pod=1)) as rig:
        proven(rig)
        held, kept = rig.asks(), rig.asks()
        gone, full = (rig.net.made[0], rig.net.made[1])
        fails_its_probes(rig, gone.address)
        assert (gone.fate, rig.admission.queued) == ("aborted", 1)
        full.sends(ok(b"kept"))
        assert kept.answer().body == b"kept"
        rig.asked().sends(ok(b"moved"))
        assert held.answer().body == b"moved"
        rig.assert_clean()


def test_where_the_queue_is_full_too_it_stays() -> None:
    with Rig(one_pool(max_inflight_per_pod=1), limits=Limits(max_queue=0)) as rig:
        proven(rig)
        held, _ = rig.asks(), rig.asks()
        gone = rig.net.made[0]
        fails_its_probes(rig, gone.address)
        assert gone.fate == ""
        gone.sends(ok(b"back"))
        assert held.answer().body == b"back"


def test_a_request_whose_connection_is_still_being_made_moves_on_too() -> None:
    with Rig(timeouts=Timeouts(connect_s=60)) as rig:
        proven(rig)
        rig.net.slow.add("10.0.0.1:8000")
        client = rig.asks()
        fails_its_probes(rig, "10.0.0.1:8000")
        rig.asked().sends(ok())
        assert client.answer().status == 200
        rig.wire.do(rig.net.accept)
        assert [end.fate for end in rig.net.made if end.address == "10.0.0.1:8000"] == ["aborted"]


@pytest.mark.parametrize("silent_s", [75, 330, 599, 1800])
def test_case_b6_a_stream_may_be_silent_for_minutes_by_default(silent_s: float) -> None:
    with Rig() as rig:
        client = rig.asks()
        pod: PodEnd = rig.asked().sends(SSE_HEAD + event("one"))
        rig.passes(silent_s)
        pod.sends(event("two") + LAST_CHUNK)
        assert client.answer().complete
        assert (client.answer().status, rig.health.unsettled - {PodId("10.0.0.2:8000")}) == (200, set())


@pytest.mark.parametrize("taken_s", [320, 599, 1800])
def test_case_b7_an_answer_may_take_as_long_as_sdks_wait_by_default(taken_s: float) -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked()
        rig.passes(taken_s)
        pod.sends(ok())
        assert (client.answer().status, len(rig.net.made)) == (200, 1)


@pytest.mark.parametrize("begun", [b"", SSE_HEAD, SSE_HEAD + event("one")], ids=["silent", "head", "stalled"])
def test_case_b7_a_timeout_of_ours_never_starts_the_work_again_and_is_no_mark_against_the_pod(begun: bytes) -> None:
    with Rig(timeouts=Timeouts(first_byte_s=5, idle_s=5), pods=3) as rig:
        proven(rig)
        clients = [rig.asks() for _ in range(30)]
        for end in list(rig.net.made):
            if begun:
                end.sends(begun)
        rig.passes(6)
        assert len(rig.net.made) == 30
        assert rig.metrics.retries == {}
        assert [status.blockers for status in rig.view.statuses()] == [()] * 3
        if not begun.endswith(b"\n\n\r\n"):
            answers = [client.answer() for client in clients]
            assert {answer.status for answer in answers} == {504}
            assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}, "SDKs would start it again"


def test_a_request_that_moved_has_all_its_attempts_left() -> None:
    with Rig(pods=3, retries=Retries(attempts=1)) as rig:
        proven(rig)
        client = rig.asks()
        fails_its_probes(rig, rig.asked().address)
        rig.asked().dies()
        rig.asked().sends(ok())
        assert (client.answer().status, client.answer().headers["x-turnout-attempts"]) == (200, "3")


def test_a_pod_that_comes_and_goes_does_not_gather_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    with Rig(pods=3) as rig:
        proven(rig)
        set_for, call_later = list[float](), rig.wire.loop.call_later

        def counted(delay: float, *call: Any, **more: Any) -> asyncio.TimerHandle:
            set_for.append(delay)
            return call_later(delay, *call, **more)

        monkeypatch.setattr(rig.wire.loop, "call_later", counted)
        client = rig.asks(CHAT[:-1] + b',"stream":true}')
        pod = rig.asked().sends(SSE_HEAD + event("1"))
        for _ in range(5):
            fails_its_probes(rig, pod.address)
            for _ in range(3):
                answers_its_probes(rig, pod.address)
        assert set_for == [SILENT_S]
        pod.sends(LAST_CHUNK)
        assert client.answer().complete


def test_a_stream_that_cannot_be_moved_is_given_as_long_as_without_mid_stream() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True))) as rig:
        proven(rig)
        client = rig.asks(CHAT.replace(b"{", b'{"stream":true,"response_format":{"type":"json_object"},', 1))
        pod = rig.asked().sends(SSE_HEAD + event("one"))
        fails_its_probes(rig, pod.address)
        rig.passes(SILENT_S - 1)
        assert client.fate == ""  # was: ended with an error after 10 s
        pod.sends(LAST_CHUNK)
        assert client.answer().complete
