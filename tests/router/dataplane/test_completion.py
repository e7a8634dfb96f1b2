"""Every way to end a request gives back what the exchange holds, once, and counts it."""

from __future__ import annotations

import logging

import pytest

from router.dataplane.completion import CLIENT_LEFT
from router.dataplane.exchange import Exchange
from router.errors import IdleTimeout, NoPodAvailable
from router.settings import Logging, Settings
from tests.fakes.memory_client_and_pods import CHAT, SSE_HEAD, event, get, ok
from tests.fakes.memory_gateway import Rig


def under_way(rig: Rig) -> Exchange:
    """A request that a pod has."""
    rig.asks()
    (exchange,) = rig.admission.active
    return exchange


def test_an_ended_exchange_holds_nothing_and_is_counted_once() -> None:
    with Rig() as rig:
        exchange = under_way(rig)
        pod = rig.asked()
        for status in (200, 500, 200):
            rig.gateway.completion.end(exchange, status)
        assert exchange.done
        assert rig.inflight == 0
        assert rig.metrics.requests == {("main", "round_robin", pod.address, 200): 1}
        assert rig.metrics.pool("main").e2e.count == 1
        rig.wire.do(lambda: exchange.edge.abort())
        pod.dies()


def test_an_exchange_that_ended_is_not_refused_again() -> None:
    with Rig() as rig:
        exchange = under_way(rig)
        rig.asked().sends(ok())
        before = rig.clients[0].raw
        rig.wire.do(lambda: rig.gateway.completion.refuse(exchange, NoPodAvailable("x")))
        assert rig.clients[0].raw == before


@pytest.mark.parametrize("begun", [b"", SSE_HEAD + event("one")])
def test_giving_up_answers_with_an_error_or_cuts_the_answer(begun: bytes) -> None:
    with Rig() as rig:
        exchange = under_way(rig)
        pod = rig.asked()
        if begun:
            pod.sends(begun)
        rig.wire.do(lambda: rig.gateway.completion.give_up(exchange, IdleTimeout("too quiet")))
        assert pod.fate == "aborted"
        assert b"too quiet" in rig.clients[0].raw
        assert rig.clients[0].answer().complete == (not begun)
        rig.assert_clean()


@pytest.mark.parametrize("begun", [b"", SSE_HEAD + event("one")])
def test_a_defect_ends_in_an_answer_or_a_cut_and_its_traceback_in_the_log(begun: bytes) -> None:
    with Rig(expect_errors=True) as rig:
        exchange = under_way(rig)
        pod = rig.asked()
        if begun:
            pod.sends(begun)
        rig.wire.do(lambda: rig.gateway.completion.defect(exchange))
        assert pod.fate == "aborted"
        if begun:
            assert rig.clients[0].fate == "aborted"
        else:
            answer = rig.clients[0].answer()
            assert answer.status == 500
            assert exchange.request_id in answer.body
        assert rig.errors.messages == ["a request met a defect of the gateway"]
        rig.assert_clean()


def test_a_client_that_left_is_counted_with_status_499() -> None:
    with Rig() as rig:
        exchange = under_way(rig)
        rig.clients[0].leaves()
        assert exchange.done
        assert [key[3] for key in rig.metrics.requests] == [CLIENT_LEFT]
        assert rig.metrics.client_disconnects == 1


def test_a_refusal_is_counted_by_its_code_and_a_pods_failure_is_not() -> None:
    with Rig(pods=0) as rig:
        rig.asks()
        assert rig.metrics.rejections == {("main", "no_pod_available"): 1}
    with Rig(pods=1) as rig:
        rig.asks()
        rig.asked().dies()
        assert rig.metrics.rejections == {}


def test_a_local_answer_is_not_counted_as_a_request() -> None:
    with Rig() as rig:
        rig.client().sends(get("/livez"))
        assert rig.metrics.requests == {}


def test_bytes_that_never_became_a_request_are_counted_and_get_an_id() -> None:
    with Rig() as rig:
        client = rig.client().sends(b"\x16\x03\x01")
        assert rig.metrics.requests == {("-", "-", "-", 400): 1}
        assert client.answer().headers["x-request-id"]


def test_the_access_log_has_a_line_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(logging=Logging(access=True))
    with Rig(logging_section=settings.logging) as rig, caplog.at_level(logging.INFO, "turnout.access"):
        rig.asks(CHAT, "x-request-id: id-1")
        pod = rig.asked()
        rig.passes(0.5)
        pod.sends(ok())
        (line,) = [record for record in caplog.records if record.name == "turnout.access"]
        assert line.getMessage() == "POST /v1/chat/completions"
        said = line.__dict__
        assert (said["request_id"], said["pool"], said["pod"]) == ("id-1", "main", pod.address)
        assert (said["status"], said["attempts"], said["duration_s"]) == (200, 1, 0.5)
