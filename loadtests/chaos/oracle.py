"""What became of a request: a verdict on what its client got, and whether a fault excuses it. Pure.

An error may only come from a pod's or a name server's fault that was on at the time, and has to name its reason. A
connection that ends without one is excused by the death of its replica, and by that of its pod where a reason has no
place: in an answer in one piece after its head, and in a stream after a part of a line, of a pod that sends such parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from loadtests.chaos.plan import HARMLESS
from loadtests.chaos.reading import Said, error_of, of_stream, of_whole
from loadtests.chaos.requests import Asked, right_answer
from loadtests.sim.http_client import TIMEOUT, Answer

COMPLETE, CONTINUED, CANCELLED = "complete", "continued", "cancelled by its client"
EXPLAINED, CUT, TORN, LOST = (
    "ended by an error that names the reason",
    "whole answer cut with its pod",
    "stream cut in the middle of a line",
    "lost with its replica",
)
OUTCOMES: Final = (COMPLETE, CONTINUED, CANCELLED, EXPLAINED, CUT, TORN, LOST)
"""The outcomes that a request may have. Any other is a fault of the gateway."""

MOVED: Final = b": turnout moved"
"""The comment in a stream that went on on another pod."""

REASONS: Final = frozenset(
    "deadline_exceeded gateway_draining no_pod_available overloaded pod_bad_answer pod_closed_connection "
    "pod_connect_timeout pod_failed pod_gone pod_refused pod_saturated pod_stalled pod_timeout pod_unreachable "
    "pool_saturated request_timed_out".split()
)
"""Codes of the gateway's errors that name what happened to the request."""

FULL: Final = "pool_saturated"
"""The code that needs no fault: on a busy machine pods hold less than they are meant to."""

ENGINE: Final = frozenset({"InternalServerError", "RateLimitError", "ServiceUnavailableError", "500", "429", "503"})
"""Types and codes of the errors that a pod with a fault answers, passed on."""

DRIPS: Final = "pod_slow_drip"
"""The fault of which an event comes in parts."""

AFTER_S: Final = 12.0
"""A fault excuses errors for this long after its end: ejections and probes have to end, and a backlog to empty."""


class Window(NamedTuple):
    """When a fault was on, on the clock of the answers."""

    kind: str
    began: float
    ended: float
    replica: str = ""
    """The replica that it struck, if any."""


class Judged(NamedTuple):
    """A request's outcome."""

    outcome: str
    """One of OUTCOMES, or what is wrong in other words."""
    detail: str = ""
    """The error's code, or where the text differs."""


def judge(asked: Asked, answer: Answer, replica: str, windows: Sequence[Window]) -> Judged:
    """The verdict on a request whose answer has ended. `windows` are those of the whole run."""
    near = [each for each in windows if each.began <= answer.ended_at and each.ended + AFTER_S >= answer.sent_at]
    verdict = _verdict(asked, answer)
    unfounded = verdict.detail != FULL and all(each.kind in HARMLESS for each in near)
    if verdict.outcome == EXPLAINED and unfounded:
        return Judged("an error without a fault", verdict.detail)
    if verdict.outcome == CUT and all(each.kind in HARMLESS for each in near):
        return Judged("cut without a fault", verdict.detail)
    if verdict.outcome == "connection lost" and _killed(answer, replica, near):
        return Judged(LOST)
    if verdict.outcome == "connection lost" and _torn(asked, answer, near):
        return Judged(TORN)
    return verdict


def _torn(asked: Asked, answer: Answer, near: Sequence[Window]) -> bool:
    kinds = {each.kind for each in near}
    in_a_line = asked.stream and not answer.body.endswith((b"\n", b"\r"))
    return in_a_line and DRIPS in kinds and not kinds <= HARMLESS


def _killed(answer: Answer, replica: str, near: Sequence[Window]) -> bool:
    return any(
        each.kind == "replica_killed" and each.replica == replica and answer.sent_at <= each.ended for each in near
    )


def _verdict(asked: Asked, answer: Answer) -> Judged:
    if answer.failure == TIMEOUT:
        return Judged("no end within the client's time-out", f"status {answer.status}, {len(answer.body)} bytes")
    try:
        if answer.status not in (0, 200):
            return _refused(answer)
        if asked.stream and answer.status:
            return _streamed(asked, answer)
        return _whole(asked, answer)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError, ValueError) as error:
        return Judged("an answer in no known form", f"{error!r}: {answer.body[-200:]!r}")


def _refused(answer: Answer) -> Judged:
    code = error_of(msgspec.json.decode(answer.body)) if answer.complete else ""
    if code in REASONS or code in ENGINE:
        return Judged(EXPLAINED, code)
    return Judged("an error without a reason", f"{answer.status} {answer.body[:200]!r}")


def _whole(asked: Asked, answer: Answer) -> Judged:
    if not answer.complete:
        return Judged(CUT) if answer.status else Judged("connection lost")
    return _compared(asked, of_whole(asked.path, msgspec.json.decode(answer.body)), answer)


def _streamed(asked: Asked, answer: Answer) -> Judged:
    said = of_stream(asked.path, answer.body)
    wanted = right_answer(asked)
    if len(said.ids) > 1 or said.fresh_starts > 1:
        return Judged("a stream that began twice", f"ids {sorted(said.ids)}, {said.fresh_starts} starts")
    if not wanted.text.startswith(said.text):
        return Judged("false text", _difference(said.text, wanted.text))
    if said.error:
        known = said.error in REASONS and not said.ended
        return Judged(EXPLAINED if known else "an error without a reason", said.error)
    if asked.leave_after and not answer.complete:
        return Judged(CANCELLED)
    if answer.complete and said.ended:
        return _compared(asked, said, answer)
    return Judged("a stream that looks complete" if answer.complete else "connection lost", f"{answer.body[-200:]!r}")


def _compared(asked: Asked, said: Said, answer: Answer) -> Judged:
    wanted = right_answer(asked)
    if said.content != wanted.content:
        if said.text != wanted.text:
            return Judged("false text", _difference(said.text, wanted.text))
        return Judged("false ending", f"{said.content[1:]} in place of {wanted.content[1:]}")
    return Judged(CONTINUED if MOVED in answer.body else COMPLETE)


def _difference(said: str, wanted: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(said, wanted, strict=False)) if a != b), min(len(said), len(wanted)))
    return f"at {at} of {len(wanted)}: {said[at : at + 40]!r} in place of {wanted[at : at + 40]!r}"
