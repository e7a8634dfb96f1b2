"""What the oracle accepts: the engine's own answers in every form, and nothing that differs from them."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from loadtests.chaos.oracle import CANCELLED, COMPLETE, CONTINUED, CUT, EXPLAINED, LOST, TORN, Judged, Window, judge
from loadtests.chaos.plan import HARMLESS
from loadtests.chaos.requests import KINDS, Asked, draw, engine_bytes
from loadtests.sim.http_client import CONNECTION_LOST, TIMEOUT, Answer

POD_FAULT = [Window("pod_killed", 0.0, 1.0)]


def asked(kind: str = "chat", *, stream: bool = True, leave_after: int = 0) -> Asked:
    """The first request of this kind and form that is drawn."""
    rng = random.Random(0)
    drawn = (draw(rng, number, {"m": 1}) for number in range(1000))
    found = next(each for each in drawn if each.kind == kind and each.stream == stream)
    return found._replace(leave_after=leave_after)


def answer(body: bytes, status: int = 200, *, complete: bool = True, failure: str = "") -> Answer:
    """An answer that has ended."""
    given = Answer(0.0)
    given.status, given.complete, given.failure = status, complete, failure
    given.pieces, given.times = [body], [0.0]
    return given


def error(code: str) -> bytes:
    return b'{"error":' + msgspec.json.encode({"message": "m", "type": "t", "code": code}) + b"}"


def cut(body: bytes, events: int) -> bytes:
    """The first events of a stream."""
    return b"".join(each + b"\n\n" for each in body.split(b"\n\n")[:events])


def judged(of: Asked, got: Answer, windows: list[Window] = POD_FAULT) -> Judged:
    return judge(of, got, "replica-0", windows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_engines_own_answer_is_complete(kind: str, stream: bool) -> None:
    if kind == "embedding" and stream:
        return
    request = asked(kind, stream=stream)
    assert judged(request, answer(engine_bytes(request))) == Judged(COMPLETE)


def test_a_stream_that_was_moved_is_continued() -> None:
    request = asked()
    body = engine_bytes(request)
    assert (
        judged(request, answer(cut(body, 2) + b": turnout moved\n\n" + body[len(cut(body, 2)) :])).outcome == CONTINUED
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: cut(body, 3) + body[len(cut(body, 4)) :],
        lambda body: cut(body, 4) + body[len(cut(body, 3)) :],
        lambda body: cut(body, 4) + body,
        lambda body: body.replace(b"data: [DONE]\n\n", b""),
        lambda body: body.replace(b'"finish_reason":"length"', b'"finish_reason":"stop"'),
        lambda body: body.replace(b'"completion_tokens":', b'"completion_tokens":1'),
    ],
    ids=["token lost", "token doubled", "begun again", "no end", "another reason", "another usage"],
)
def test_a_stream_that_differs_is_wrong(spoil: Callable[[bytes], bytes]) -> None:
    request = asked()
    assert judged(request, answer(spoil(engine_bytes(request)))).outcome not in (COMPLETE, CONTINUED, EXPLAINED)


def test_an_error_needs_a_reason_and_a_fault_that_may_cause_it() -> None:
    request = asked()
    named, unnamed = answer(error("pod_stalled"), 502), answer(error("internal_error"), 500)
    assert judged(request, named) == Judged(EXPLAINED, "pod_stalled")
    harmless = [Window(kind, 0.0, 1.0) for kind in HARMLESS]
    assert judged(request, named, harmless).outcome == "an error without a fault"
    assert judged(request, named, []).outcome == "an error without a fault"
    assert judged(request, unnamed).outcome == "an error without a reason"
    assert judged(request, answer(error("pool_saturated"), 429), []).outcome == EXPLAINED, "pods of a slow machine"


def test_a_stream_may_end_with_an_error_event_after_true_text() -> None:
    request = asked()
    begun = cut(engine_bytes(request), 4)
    ended = begun + b"data: " + error("pod_closed_connection") + b"\n\n"
    assert judged(request, answer(ended, complete=False)) == Judged(EXPLAINED, "pod_closed_connection")
    assert judged(request, answer(begun, complete=False, failure=CONNECTION_LOST)).outcome == "connection lost"


def test_a_lost_connection_is_excused_by_the_death_of_its_own_replica_only() -> None:
    request, lost = asked(), answer(b"", 0, complete=False, failure=CONNECTION_LOST)
    assert judged(request, lost, [Window("replica_killed", 0.0, 1.0, "replica-0")]) == Judged(LOST)
    assert judged(request, lost, [Window("replica_killed", 0.0, 1.0, "replica-1")]).outcome == "connection lost"


def test_a_whole_answer_may_be_cut_with_its_pod_only() -> None:
    request = asked(stream=False)
    half = answer(engine_bytes(request)[:200], complete=False, failure=CONNECTION_LOST)
    assert judged(request, half) == Judged(CUT)
    assert judged(request, half, []).outcome == "cut without a fault"


def test_a_stream_may_be_cut_in_the_middle_of_a_line_where_its_pod_drips_and_dies() -> None:
    request = asked()
    begun = cut(engine_bytes(request), 4)
    torn = answer(begun + b'data: {"id":', complete=False, failure=CONNECTION_LOST)
    drips, dies = Window("pod_slow_drip", 0.0, 1.0), Window("pod_parted", 0.0, 1.0)
    assert judged(request, torn, [drips, dies]) == Judged(TORN)
    assert judged(request, torn, [drips]).outcome == judged(request, torn, [dies]).outcome == "connection lost"
    whole = answer(begun, complete=False, failure=CONNECTION_LOST)
    assert judged(request, whole, [drips, dies]).outcome == "connection lost", "an error has a place after a line"


def test_what_a_client_that_left_has_read_must_be_true() -> None:
    request = asked(leave_after=3)
    begun = cut(engine_bytes(request), 3)
    assert judged(request, answer(begun, complete=False, failure=CONNECTION_LOST)).outcome == CANCELLED
    false = begun.replace(b'"content":" ', b'"content":"X')
    assert judged(request, answer(false, complete=False, failure=CONNECTION_LOST)).outcome == "false text"


def test_a_request_without_an_end_is_wrong() -> None:
    assert judged(asked(), answer(b"", 0, complete=False, failure=TIMEOUT)).outcome.startswith("no end")
