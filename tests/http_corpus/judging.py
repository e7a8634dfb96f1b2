"""What is wrong with what a case led to."""

from __future__ import annotations

from dataclasses import dataclass

from tests.http_corpus.answers import BAD, PASSED, Hostile
from tests.http_corpus.building import LOCAL, REFUSED, SERVED, Case
from tests.http_corpus.strict import HOP_BY_HOP, REQUEST_LINE, Ambiguous, Answer, Seen, answers_in, length_of, values


class Failed(Exception):
    """What is wrong with what a case led to."""


@dataclass
class Outcome:
    """What a case led to."""

    pod: bytes
    """The pod's host header."""
    seen: list[Seen]
    """The requests that the pod got, in order."""
    torn: list[bytes]
    """What the pod got besides."""
    got: bytes
    """What the client got."""
    closed: bool
    """The gateway closed the client's connection."""
    waited: bool = False
    """Time had to pass for it."""


def judge(case: Case, outcome: Outcome) -> None:
    """Raises Failed if the outcome of a request case is wrong."""
    seen = outcome.seen
    for each in seen:
        judge_crossing(each, outcome.pod)
    if outcome.torn:
        raise Failed(f"the pod got bytes that are no request: {outcome.torn[0][:80]!r}")
    if len(seen) > case.most:
        raise Failed(f"{len(seen)} requests crossed, {case.most} at most may")
    answers = answers_to(outcome)
    judge_statuses(case, seen, [answer.status for answer in answers], outcome.closed)
    if case.want != SERVED and not seen and len(answers) > case.most + 1:
        raise Failed(f"{len(answers)} answers")
    if (why := case.check(seen)) is not None:
        raise Failed(why)


def answers_to(outcome: Outcome, *, head_only: bool = False) -> list[Answer]:
    """The client's answers. Raises Failed if they have two readings."""
    try:
        return answers_in(outcome.got, outcome.closed, head_only)
    except Ambiguous as error:
        raise Failed(f"the client's answer is ambiguous: {error}") from None


def judge_statuses(case: Case, seen: list[Seen], statuses: list[int], closed: bool) -> None:
    """Raises Failed if the answers are not those that the case allows."""
    if not statuses and case.want != REFUSED:
        raise Failed("no answer")
    if case.want == REFUSED:
        if seen:
            raise Failed(
                f"crossed, answered {statuses}: {seen[0].line[:80]!r}"
                + (" (the smuggled one)" if any(b"SMUGGLED" in each.head for each in seen) else "")
            )
        if not statuses or not all(400 <= status < 500 for status in statuses):
            raise Failed(f"answered {statuses}, not with one 4xx")
        if case.statuses and statuses[0] not in case.statuses:
            raise Failed(f"answered {statuses}, not {case.statuses}")
        if case.closes and not closed:
            raise Failed(f"answered {statuses}, but the connection stays open")
    elif case.want == SERVED:
        if not seen or set(statuses) - {200}:
            raise Failed(f"answered {statuses}, {len(seen)} crossed: not served")
    elif case.want == LOCAL:
        if seen:
            raise Failed(f"crossed: {seen[0].line[:80]!r}, answered {statuses}")
        if case.statuses and statuses[0] not in case.statuses:
            raise Failed(f"answered {statuses}, not {case.statuses}")
    elif any(status >= 500 for status in statuses):
        raise Failed(f"answered {statuses}")


def judge_crossing(seen: Seen, pod: bytes) -> None:
    """One request with one framing, and nothing in it that belongs to the client's own connection."""
    if not REQUEST_LINE.fullmatch(seen.line):
        raise Failed(f"request line at the pod: {seen.line[:80]!r}")
    try:
        fields = seen.fields()
        length = length_of(fields)
    except Ambiguous as error:
        raise Failed(f"at the pod: {error}") from None
    if values(fields, b"host") != [pod]:
        raise Failed(f"host at the pod: {values(fields, b'host')}")
    if length is None:
        raise Failed("no content-length at the pod")
    if there := {name for name, _ in fields} & HOP_BY_HOP:
        raise Failed(f"hop-by-hop at the pod: {sorted(there)}")
    if len(values(fields, b"x-request-id")) != 1:
        raise Failed(f"request ids at the pod: {values(fields, b'x-request-id')}")


def judge_answers(case: Hostile, outcome: Outcome) -> list[Answer]:
    """Raises Failed if the outcome of an answer case is wrong; returns the client's answers."""
    answers = answers_to(outcome, head_only=case.head_only)
    if len(answers) > 1:
        raise Failed(f"{len(answers)} answers to one request: {answers[1].raw[:60]!r}")
    if not answers:
        return answers  # cut off: the client cannot take it for an answer
    answer = answers[0]
    if case.want == PASSED and answer.status != 200:
        raise Failed(f"answered {answer.status}")
    if case.want == BAD and answer.status != 502:
        raise Failed(f"answered {answer.status}, not 502")
    if there := answer.names() & set(case.absent):
        raise Failed(f"crossed to the client: {sorted(there)}")
    if case.body is not None and answer.body != case.body:
        raise Failed(f"the body became {answer.body[:60]!r}")
    if b"evil" in b"".join(value for name, value in answer.fields if name.startswith((b"x-turnout", b"x-request-id"))):
        raise Failed("a header of the gateway's own came from the pod")
    if b"x-evil" in answer.names():
        raise Failed("the answer too many was taken for the answer")
    return answers
