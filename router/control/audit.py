"""The audit log of the control port: a line of JSON for each change and each refused attempt. Knows no policy and no
pod; what a change is about comes from the table of routes.

A line has `at`, `replica`, `request_id`, `who` (the token's name, or "no token"), `author` (what the caller says of
itself), `address`, `method`, `path`, `status`, and for a change `before` and `after`, else `error`. No line has a
token, a query or a body: `after` is the answer. A disk that fails does not stop a change: the line is lost, which is
logged and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from router.control.address_pace import AddressPace
from router.control.tokens import Caller
from router.settings import Control
from router.telemetry.line_file import LineWriter
from router.telemetry.logs import without_secrets

NO_TOKEN: Final = "no token"
REFUSED_PER_S: Final = 0.1
REFUSED_BURST: Final = 20
"""Refused attempts of one address that are written at once, before one in ten seconds. The others are counted, so that
a flood of them does not rotate the changes out of the file."""

_LONGEST: Final = 500
"""Characters of a path and of an author."""


class Attempt(NamedTuple):
    """A request that would change something, or that is refused."""

    request_id: str
    address: str
    method: str
    path: str
    author: str = ""
    who: Caller | None = None


class AuditLog(LineWriter[Mapping[str, object]]):
    """The file and what goes into it."""

    def __init__(
        self, control: Control, replica: str, *, wall: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        """`wall` is in seconds since 1970, `clock` monotonic. Opens nothing yet."""
        super().__init__(control.audit_file, control.audit_max_bytes, _line, "audit lines", sync=True)
        self._replica = replica
        self._wall = wall
        self._pace = AddressPace(clock, per_s=REFUSED_PER_S, burst=REFUSED_BURST)
        self._suppressed = 0

    def changed(self, attempt: Attempt, *, before: object, status: int, answer: object) -> None:
        """Note what a change did, or why it was not made."""
        done = 200 <= status < 300
        found = {"before": before, "after": answer} if done else {"before": before, "error": _code(answer)}
        self.put(self._entry(attempt, status) | found)

    def refused(self, attempt: Attempt, *, status: int, code: str) -> None:
        """Note an attempt that was refused before it was looked at."""
        if self._pace.wait_s(attempt.address) > 0:
            self._suppressed += 1
            return
        self._pace.count(attempt.address)
        others = {"suppressed": self._suppressed} if self._suppressed else {}
        self._suppressed = 0
        self.put(self._entry(attempt, status) | {"error": code} | others)

    def _entry(self, attempt: Attempt, status: int) -> dict[str, object]:
        who = attempt.who.name if attempt.who is not None else ""
        return {
            "at": datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "replica": self._replica,
            "request_id": attempt.request_id,
            "who": who or NO_TOKEN,
            "author": attempt.author[:_LONGEST],
            "address": attempt.address,
            "method": attempt.method,
            "path": attempt.path[:_LONGEST],
            "status": status,
        }


def _line(entry: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(without_secrets(entry)) + b"\n"


def _code(answer: object) -> object:
    error = answer.get("error") if isinstance(answer, dict) else None
    return error.get("code") if isinstance(error, dict) else None
