"""One connection to one pod: the calls that its receiver gets for each way an answer can go."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from router.dataplane.http.response_parser import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE
from router.dataplane.http.upstream_connection import MAX_INTERIM
from router.dataplane.http.write_batcher import MIN_ACTIVE, WriteBatcher
from router.errors import (
    BadAnswer,
    CutMidAnswer,
    FirstByteTimeout,
    IdleTimeout,
    PodFailure,
    ResetBeforeAnswer,
    StaleConnection,
    TlsFailed,
)
from router.settings import Timeouts
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, chunk, event, ok
from tests.fakes.memory_upstream import ASK, POD, Attempt, Ground

BARE = b"HTTP/1.0 200 OK\r\n\r\n"


@each_case(
    ("wire", "head", "body"),
    [
        (ok(b"abc"), (200, LENGTH, 3), b"abc"),
        (ok(b""), (200, LENGTH, 0), b""),
        (SSE_HEAD + event("a") + LAST_CHUNK, (200, CHUNKED, -1), event("a") + LAST_CHUNK),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, NO_BODY, -1), b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", (304, NO_BODY, 9), b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"abc"), (200, LENGTH, 3), b"abc"),
    ],
)
@each_case("bytewise", [False, True])
def test_an_answer_is_passed_on_and_the_connection_kept(
    wire: bytes, head: tuple[int, int, int], body: bytes, bytewise: bool
) -> None:
    with Ground() as harness:
        attempt = harness.send()
        harness.pod.sends(*([wire[at : at + 1] for at in range(len(wire))] if bytewise else [wire]))
        assert (attempt.heads, attempt.body, attempt.ended, attempt.failures) == ([head], body, 1, [])
        assert len(harness.upstream.idle["10.0.0.1:8000"]) == 1


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    with Ground() as harness:
        attempt = harness.send()
        harness.pod.sends(BARE + b"abc", b"def").closes()
        assert (attempt.heads, attempt.body, attempt.ended) == ([(200, UNTIL_CLOSE, -1)], b"abcdef", 1)
        assert harness.upstream.open == 0


def test_the_answer_to_head_has_no_body() -> None:
    with Ground() as harness:
        attempt = harness.send(head_only=True)
        harness.pod.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        assert (attempt.heads, attempt.ended) == ([(200, NO_BODY, 9)], 1)
        assert len(harness.upstream.idle) == 1


def test_chunk_framing_is_taken_off_when_asked_for() -> None:
    with Ground() as harness:
        attempt = harness.send()
        attempt.unwrap = True
        harness.pod.sends(SSE_HEAD, chunk(b"abc")[:5], chunk(b"abc")[5:] + chunk(b"def") + LAST_CHUNK)
        assert (attempt.body, attempt.ended) == (b"abcdef", 1)


ENDS: dict[str, tuple[Callable[[Ground], object], type[PodFailure]]] = {
    "close before a byte": (lambda on: on.pod.closes(), ResetBeforeAnswer),
    "reset before a byte": (lambda on: on.pod.dies(), ResetBeforeAnswer),
    "half a head": (lambda on: on.pod.sends(ok()[:10]).closes(), ResetBeforeAnswer),
    "only an interim answer": (lambda on: on.pod.sends(b"HTTP/1.1 100 Continue\r\n\r\n").closes(), ResetBeforeAnswer),
    "half a body": (lambda on: on.pod.sends(ok(b"abc")[:-1]).closes(), CutMidAnswer),
    "half a chunk": (lambda on: on.pod.sends(SSE_HEAD + b"5\r\nab").closes(), CutMidAnswer),
    "no last chunk": (lambda on: on.pod.sends(SSE_HEAD + event("a")).closes(), CutMidAnswer),
    "reset where the end is the close": (lambda on: on.pod.sends(BARE + b"abc").dies(), CutMidAnswer),
    "no http": (lambda on: on.pod.sends(b"hello there"), BadAnswer),
    "bad chunks": (lambda on: on.pod.sends(SSE_HEAD + b"xyz\r\n"), BadAnswer),
    "silence": (lambda on: on.passes(3601), FirstByteTimeout),
    "silence after half a head": (lambda on: (on.pod.sends(ok()[:10]), on.passes(3601)), FirstByteTimeout),
    "silence in a body": (lambda on: (on.pod.sends(ok(b"abc")[:-1]), on.passes(3601)), IdleTimeout),
}


@each_case("how", ENDS)
def test_an_early_end_is_reported_once_and_no_connection_is_kept(how: str) -> None:
    with Ground() as harness:
        attempt = harness.send()
        ENDS[how][0](harness)
        assert [type(failure) for failure in attempt.failures] == [ENDS[how][1]]
        assert attempt.ended == 0
        assert (harness.upstream.idle, harness.upstream.open, harness.deadlines.members) == ({}, 0, set())
        assert harness.wire.crashes == []


@pytest.mark.parametrize(("begun", "expected"), [(b"", StaleConnection), (ok()[:9], ResetBeforeAnswer)])
def test_a_reused_connection_is_stale_when_it_ends_without_a_byte(begun: bytes, expected: type[PodFailure]) -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok())
        attempt = harness.send()
        harness.pod.sends(*([begun] if begun else [])).dies()
        assert [type(failure) for failure in attempt.failures] == [expected]


def test_an_aborted_connection_does_not_call_its_receiver() -> None:
    with Ground() as harness:
        attempt = harness.send()
        harness.pod.sends(SSE_HEAD + event("a"))
        connection = attempt.connection
        assert connection is not None
        harness.wire.do(connection.abort)
        harness.pod.sends(event("b"))
        assert (attempt.body, attempt.ended, attempt.failures) == (event("a"), 0, [])
        assert (connection.closing, harness.upstream.open) == (True, 0)


def test_a_paused_connection_does_not_read() -> None:
    with Ground() as harness:
        attempt = harness.send(timeouts=Timeouts(idle_s=10))
        harness.pod.sends(SSE_HEAD + event("a"))
        connection = attempt.connection
        assert connection is not None
        harness.wire.do(connection.pause)
        harness.pod.sends(event("b"))
        harness.passes(60)
        assert (attempt.body, attempt.failures) == (event("a"), [])
        harness.wire.do(connection.resume)
        assert attempt.body == event("a") + event("b")
        harness.passes(11)
        assert isinstance(attempt.failures[0], IdleTimeout)


def test_pausing_a_closed_connection_does_nothing() -> None:
    with Ground() as harness:
        attempt = harness.send()
        connection = attempt.connection
        assert connection is not None
        harness.pod.dies()
        for act in (connection.pause, connection.resume, connection.abort):
            harness.wire.do(act)
        assert harness.wire.crashes == []
        assert connection.closing


def test_each_read_renews_the_idle_timeout() -> None:
    with Ground() as harness:
        attempt = harness.send(timeouts=Timeouts(first_byte_s=30, idle_s=5))
        harness.passes(29)
        harness.pod.sends(SSE_HEAD + event("a"))
        for _ in range(4):
            harness.passes(4)
            harness.pod.sends(event("a"))
        assert attempt.failures == []
        harness.passes(6)
        assert isinstance(attempt.failures[0], IdleTimeout)


def test_a_request_is_written_as_it_is() -> None:
    with Ground() as harness:
        harness.send()
        assert bytes(harness.pod.transport.sent) == ASK


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 25, 10_000])
def test_interim_answers_are_dropped_up_to_a_limit(cut: int) -> None:
    """Case E 23."""

    def outcome(wire: bytes) -> Attempt:
        with Ground() as harness:
            attempt = harness.send()
            pieces = [wire[at : at + cut] for at in range(0, len(wire), cut)]
            while pieces and not harness.pod.fate:
                harness.pod.sends(pieces.pop(0))
            return attempt

    assert outcome(CONTINUE * MAX_INTERIM + ok(b"abc")).body == b"abc"
    attempt = outcome(CONTINUE * 1000 + ok(b"abc"))
    assert [type(failure) for failure in attempt.failures] == [BadAnswer]
    assert "interim" in attempt.failures[0].message


def test_the_limit_of_interim_answers_is_that_of_one_request() -> None:
    with Ground() as harness:
        for _ in range(3):
            attempt = harness.send()
            harness.pod.sends(CONTINUE * MAX_INTERIM + ok(b"abc"))
            assert attempt.ended == 1
        assert len(harness.net.made) == 1


LARGE = [ASK.replace(b"length: 0", b"length: 100000"), b"x" * 100_000]


def send_large(harness: Ground) -> Attempt:
    attempt = Attempt()
    harness.wire.do(lambda: harness.upstream.send(POD, LARGE, attempt, Timeouts(), head_only=False))
    return attempt


@pytest.mark.parametrize(
    ("reads", "status", "kept"),
    [(True, "200 OK", 1), (True, "413 Too Large", 0), (False, "200 OK", 0), (False, "413 x", 0)],
)
def test_a_connection_whose_pod_answered_early_is_not_used_again(reads: bool, status: str, kept: int) -> None:
    """Case E 23: what is left of the request would stand in front of the next one."""
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok(b"abc"))
        if not reads:
            harness.pod.transport.stall()
        attempt = send_large(harness)
        harness.pod.sends(ok(b"no", status=status))
        assert (attempt.body, attempt.ended) == (b"no", 1)
        assert len(harness.upstream.idle.get(POD, ())) == kept
        assert harness.upstream.open == kept


def test_a_small_request_that_is_refused_leaves_its_connection_open() -> None:
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok(b"no", status="404 Not Found"))
        assert len(harness.upstream.idle[POD]) == 1


def test_bytes_that_come_before_the_request_has_left_answer_nothing() -> None:
    """Case E 23."""
    with Ground() as harness:
        harness.send()
        harness.pod.sends(ok(b"abc"))
        harness.upstream.idle[POD][0]._write_batcher = WriteBatcher(range(MIN_ACTIVE))
        attempt, pod = Attempt(), harness.pod

        def ask_and_answer() -> None:
            harness.upstream.send(POD, [ASK], attempt, Timeouts(), head_only=False)
            pod.transport.deliver(ok(b"poison"))

        harness.wire.do(ask_and_answer)
        assert (attempt.body, [type(failure) for failure in attempt.failures]) == (b"", [StaleConnection])
        assert pod.fate == "aborted"


@each_case(
    "wire",
    [
        b"8\n{}      \n0\n\n",
        b"8\r\n{}      X\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nset-cookie: a=b\r\n\r\n",
        b"2;a\rb\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nx: y\nz: a\r\n\r\n",
    ],
)
@each_case("bytewise", [False, True])
def test_nothing_ambiguous_is_passed_on(wire: bytes, bytewise: bool) -> None:
    """Case E 23."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with Ground() as harness:
        attempt = harness.send()
        pieces = [bytes([byte]) for byte in head + wire] if bytewise else [head + wire]
        while pieces and not harness.pod.fate:
            harness.pod.sends(pieces.pop(0))
        assert [type(failure) for failure in attempt.failures] == [BadAnswer]
        assert b"2\r\n{}\r\n".startswith(attempt.body) or b"8\r\n{}      ".startswith(attempt.body)
        assert harness.upstream.open == 0


def test_the_trailers_of_an_answer_are_not_passed_on() -> None:
    with Ground() as harness:
        attempt = harness.send()
        harness.pod.sends(SSE_HEAD + event("a") + b"0\r\nx-checksum: 1\r\n\r\n")
        assert attempt.body == event("a") + LAST_CHUNK
        assert len(harness.upstream.idle[POD]) == 1


def test_a_pod_that_refuses_the_gateway_s_certificate_after_the_handshake_fails_by_tls() -> None:
    with Ground() as harness:
        attempt = harness.send("https://10.0.0.1:8000")
        error = ssl.SSLError(1, "alert")
        error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        harness.wire.do(lambda: harness.pod.transport.hang_up(error))
        (failure,) = attempt.failures
        assert isinstance(failure, TlsFailed)
        assert "upstream.tls.cert_file" in failure.message


def test_a_tls_pod_that_closes_without_a_word_gets_a_question() -> None:
    with Ground() as harness:
        attempt = harness.send("https://10.0.0.1:8000")
        harness.pod.closes()
        assert "certificate (upstream.tls.cert_file)" in attempt.failures[0].message
        plain = harness.send()
        harness.pod.closes()
        assert "certificate" not in plain.failures[0].message
