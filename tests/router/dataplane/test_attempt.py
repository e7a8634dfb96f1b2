"""When another pod gets the request, when the same one gets it again, and when no pod does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.settings import Retries
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, SSE_HEAD, PodEnd, event, ok
from tests.fakes.memory_gateway import Rig

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"

FAILINGS: dict[str, tuple[Callable[[PodEnd], object], str]] = {
    "reset before it answers": (lambda pod: pod.dies(), "reset"),
    "close before it answers": (lambda pod: pod.closes(), "reset"),
    "half a head": (lambda pod: pod.sends(HEAD[:30]).dies(), "reset"),
    "a head and no body": (lambda pod: pod.sends(HEAD).dies(), "cut"),
    "a stream's head and no event": (lambda pod: pod.sends(SSE_HEAD).closes(), "cut"),
    "part of the first event": (lambda pod: pod.sends(SSE_HEAD + event("one")[:9]).closes(), "cut"),
    "429": (lambda pod: pod.sends(ok(b"busy", status="429 Too Many Requests")), "refused"),
    "502": (lambda pod: pod.sends(ok(b"bad", status="502 Bad Gateway")), "refused"),
    "503": (lambda pod: pod.sends(ok(b"full", status="503 Service Unavailable")), "refused"),
    "504": (lambda pod: pod.sends(ok(b"late", status="504 Gateway Timeout")), "refused"),
    "garbage": (lambda pod: pod.sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_answer"),
    "a head that never ends": (lambda pod: pod.sends(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000), "bad_answer"),
    "two lengths": (lambda pod: pod.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n" + ok()[17:]), "bad_answer"),
    "an unknown coding": (lambda pod: pod.sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"), "bad_answer"),
    "broken chunks": (lambda pod: pod.sends(SSE_HEAD + b"zz\r\n"), "bad_answer"),
}


@each_case("how", FAILINGS)
def test_a_pod_that_fails_before_the_first_byte_is_replaced(how: str) -> None:
    fail, reason = FAILINGS[how]
    with Rig() as rig:
        client = rig.asks()
        first = rig.asked()
        fail(first)
        assert client.raw == b""
        second = rig.asked()
        assert second.address != first.address
        assert second.request.body == CHAT
        assert rig.load(first).inflight == 0, "the first pod's charge is given back"
        second.sends(ok(b'{"id":"2"}'))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b'{"id":"2"}')
        assert (answer.headers["x-turnout-pod"], answer.headers["x-turnout-attempts"]) == (second.address, "2")
        assert rig.metrics.retries == {("main", reason): 1}


@pytest.mark.parametrize(
    "trouble",
    [ConnectionRefusedError(111, "Connection refused"), OSError(113, "No route to host"), UnicodeError("label")],
)
def test_a_pod_that_cannot_be_reached_is_replaced(trouble: Exception) -> None:
    with Rig() as rig:
        rig.net.trouble["10.0.0.1:8000"] = trouble
        client = rig.asks()
        assert rig.net.dialled == ["10.0.0.1:8000", "10.0.0.2:8000"]
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert rig.metrics.retries == {("main", "connect"): 1}


def test_a_pod_that_does_not_accept_in_time_is_replaced() -> None:
    with Rig() as rig:
        rig.net.silent.add("10.0.0.1:8000")
        client = rig.asks()
        rig.passes(1.9)
        assert rig.net.dialled == ["10.0.0.1:8000"]
        rig.passes(0.2)
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert rig.metrics.retries == {("main", "connect_timeout"): 1}


def test_a_pod_that_closes_as_it_accepts_is_replaced() -> None:
    with Rig() as rig:
        rig.net.rude.add("10.0.0.1:8000")
        client = rig.asks()
        rig.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize("begun", [SSE_HEAD + event("one"), HEAD + b"12345"])
def test_no_attempt_follows_after_the_first_byte(begun: bytes) -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(begun).dies()
        assert len(rig.net.made) == 1
        assert client.fate
        assert not client.answer().complete
        assert rig.metrics.retries == {}


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "400 Bad Request", "404 Not Found", "501 Not Implemented"]
)
def test_an_answer_about_the_request_is_passed_on(status: str) -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(ok(b"why", status=status))
        assert (client.answer().status, client.answer().body) == (int(status[:3]), b"why")
        assert len(rig.net.made) == 1


def test_at_most_two_more_attempts_are_made() -> None:
    with Rig(pods=5) as rig:
        client = rig.asks()
        tried = []
        for _ in range(3):
            tried.append(rig.asked().address)
            rig.asked().dies()
        assert len(set(tried)) == 3
        assert rig.nobody_asked()
        answer = client.answer()
        assert (answer.status, answer.headers["x-turnout-attempts"]) == (502, "3")
        assert b'"pod_closed_connection"' in answer.body
        assert client.fate == "", "the connection can be used again"


def test_when_no_other_pod_is_left_the_pods_own_answer_is_passed_on() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(ok(b"full-1", "retry-after: 7", status="429 Too Many Requests"))
        second = rig.asked()
        second.sends(ok(b"full-2", "retry-after: 9", status="429 Too Many Requests"))
        answer = client.answer()
        assert (answer.status, answer.body, answer.headers["retry-after"]) == (429, b"full-2", "9")
        assert answer.headers["x-turnout-pod"] == second.address


def test_a_refusing_pods_connection_is_used_again_once_its_body_was_read() -> None:
    with Rig() as rig:
        rig.asks()
        first = rig.asked().sends(ok(b"busy", status="429 Too Many Requests")[:-2])
        rig.asked().sends(ok())
        assert first.fate == ""
        first.sends(b"sy")
        assert len(rig.upstream.idle[first.address]) == 1
        rig.assert_clean()


def test_the_connection_of_a_refusing_pod_that_never_ends_its_body_is_closed() -> None:
    with Rig() as rig:
        rig.asks()
        first = rig.asked().sends(ok(b"busy", status="429 Too Many Requests")[:-2])
        rig.asked().sends(ok())
        rig.passes(61)
        assert first.fate == "aborted"


def test_a_stale_kept_alive_connection_is_replaced_by_a_fresh_one_to_the_same_pod() -> None:
    with Rig(pods=1) as rig:
        rig.asks()
        rig.asked().sends(ok())
        client = rig.asks()
        assert len(rig.net.made) == 1
        rig.asked().dies()
        assert len(rig.net.made) == 2
        rig.asked().sends(ok(b"again"))
        answer = client.answer()
        assert (answer.body, answer.headers["x-turnout-attempts"]) == (b"again", "1")
        assert rig.metrics.retries == {}, "no retry: nothing was processed"


def test_a_fresh_connection_that_dies_is_a_failure_and_not_stale() -> None:
    with Rig(pods=1) as rig:
        rig.asks()
        rig.asked().sends(ok())
        client = rig.asks()
        rig.asked().dies()
        rig.asked().dies()
        assert len(rig.net.made) == 2
        assert client.answer().status == 502


def test_all_idle_connections_of_a_pod_are_dropped_when_one_is_stale() -> None:
    with Rig(pods=1) as rig:
        rig.asks()
        rig.asks()
        first, second = rig.net.made
        first.sends(ok())
        second.sends(ok())
        rig.asks()
        rig.asked().dies()
        assert {first.fate, second.fate} == {"lost", "aborted"}
        rig.asked().sends(ok())


def test_retries_stop_when_the_budget_is_spent() -> None:
    with Rig(retries=Retries(budget_ratio=0.0, budget_min=0)) as rig:
        client = rig.asks()
        rig.asked().sends(ok(b"full", status="503 Service Unavailable"))
        assert (client.answer().status, client.answer().body) == (503, b"full")
        assert rig.metrics.rejections == {("main", "retry_budget"): 1}


def test_retries_can_be_turned_off() -> None:
    with Rig(retries=Retries(attempts=0)) as rig:
        client = rig.asks()
        rig.asked().dies()
        assert client.answer().status == 502
        assert len(rig.net.made) == 1


def test_a_pod_that_fails_repeatedly_is_ejected() -> None:
    with Rig() as rig:
        for _ in range(6):
            rig.asks()
            if (pod := rig.asked()).address == "10.0.0.1:8000":
                pod.dies()
            rig.asked().sends(ok())
        assert rig.health.blockers(rig.view.statuses()[0].pod.id) == {"ejected"}
        rig.asks()
        assert rig.asked().address == "10.0.0.2:8000"
        rig.asked().sends(ok())


def test_a_busy_pod_is_not_ejected() -> None:
    with Rig() as rig:
        for _ in range(10):
            rig.asks()
            rig.asked().sends(ok(b"busy", status="429 Too Many Requests"))
            rig.asked().sends(ok())
        assert all(status.routable for status in rig.view.statuses())
