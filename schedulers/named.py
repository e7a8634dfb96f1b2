"""A policy under a name of the operator's own. Pure; knows no policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo

# A named tuple's own constructor costs 0.35 us, this 0.15 us.
_new: Final = tuple.__new__


@dataclass(frozen=True, slots=True)
class Named:
    """Decides as `policy` does, and says `name`: metrics and answers tell two ready-made profiles apart by it."""

    name: str
    policy: Scheduler

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """What `policy` picks, whatever it raises."""
        answer = self.policy.pick(request, snapshot)
        # What is no decision goes on as it came: whoever asked judges it.
        if type(answer) is not Decision:
            return answer
        return _new(Decision, (answer.pod, self.name, answer.score, answer.reason))
