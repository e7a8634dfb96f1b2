"""What is wrong with a policy's answer, and when a policy has failed too often. Pure: no clock, no log, no metric. The
gateway acts on it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo


class Failure(NamedTuple):
    """One failure of a policy."""

    reason: str
    """A label: `raised`, `no_answer`, `not_in_snapshot`, `tried`, `stuck`, `slow`."""
    words: str
    """What it did, to come after 'the policy'."""


class PolicyTimeout(Exception):
    """A pick was broken off; the message gives the time and the place in the code."""


class PolicyQuit(Exception):
    """A pick raised something that is no Exception, such as SystemExit; the message names it."""


def raised(error: Exception) -> Failure:
    """A pick ended in `error`."""
    if isinstance(error, PolicyTimeout):
        return Failure("stuck", str(error))
    if isinstance(error, PolicyQuit):
        return Failure("raised", str(error))
    return Failure("raised", f"raised {_short(error)}")


def slow(took_s: float) -> Failure:
    """A pick took too long, but ended."""
    return Failure("slow", f"took {took_s * 1000:.0f} ms")


def fault(answer: object, request: RequestInfo, snapshot: LoadSnapshot) -> Failure | None:
    """What is wrong with the answer to this request; None if nothing is."""
    if isinstance(answer, Rejection):
        return None if is_sound(answer) else Failure("no_answer", f"rejected with {_short(answer)}")
    if not isinstance(answer, Decision) or not isinstance(answer.pod, str):
        return Failure("no_answer", f"answered {_short(answer)}, which is neither a Decision nor a Rejection")
    if answer.pod not in snapshot.position_of():
        count = len(snapshot.candidates)
        return Failure("not_in_snapshot", f"picked {answer.pod!r:.80}, which is not in the snapshot ({count} pods)")
    if answer.pod in request.tried:
        return Failure("tried", f"picked {answer.pod!r:.80}, which already failed this request")
    return None


def is_sound(answer: Rejection) -> bool:
    """Whether its fields fit into an answer, a log line and a metric label."""
    after = answer.retry_after_s
    return (
        isinstance(answer.reason, str)
        and answer.reason.isidentifier()
        and len(answer.reason) <= 64
        and isinstance(after, int | float)
        and math.isfinite(after)
        and after >= 0
    )


class Strikes:
    """Counts the failures of one policy; the clock is the caller's."""

    def __init__(self, most: int, window_s: float) -> None:
        """`most` failures within `window_s` take the policy out."""
        self._most = most
        self._window_s = window_s
        self._at: deque[float] = deque(maxlen=most)

    def add(self, now: float) -> bool:
        """Count one; True if the limit is reached."""
        self._at.append(now)
        return len(self._at) == self._most and now - self._at[0] <= self._window_s

    def words(self, last: Failure) -> str:
        """Why the policy is out."""
        return f"{self._most} failures within {self._window_s:g} s, the last: it {last.words}"


def _short(thing: object) -> str:
    """A bounded `repr` of a thing whose `repr` may be a plugin's code."""
    try:
        return f"{thing!r:.200}"
    except Exception:  # noqa: BLE001  it is a word in a log line
        return f"a {type(thing).__name__}"
