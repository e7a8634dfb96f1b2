"""`session`: the pods that come first in the session's own order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from schedulers import rendezvous
from schedulers.types import LoadSnapshot, RequestInfo
from schedulers.weighing import Scores

_PLACES = 8


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """1 for the first pod in the session's order, 1/2 for the second, 1/4 for the third, ..., 0 from the ninth on.

    The order is `session_affinity`'s (`rendezvous.py`), so a session that leaves an overloaded pod goes to the same
    next pod each time. 0 for all if the request has no session key. Source: llm-d's `session-affinity-scorer`, which
    knows a first place only.
    """

    name: ClassVar[str] = "session"
    needs_all: ClassVar[bool] = True
    reads_sessions: ClassVar[bool] = True

    def score(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Scores:
        """The candidates' scores."""
        if not request.session_key:
            return 0.0
        order = rendezvous.descending(rendezvous.ranking(request.session_key, snapshot))
        return {at: 0.5**place for place, at in enumerate(islice(order, _PLACES))}
