"""One pool's trial on this replica, as requests meet it: a shadow, a canary, or both. No I/O and no judgement.

A canary's draw is by session, so that a conversation stays on its arm and on the pods that hold its prefix; all
replicas draw alike. The generation salts it, so that another canary draws other sessions.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from router.trials.arm import Arm, ArmRequest
from router.trials.figures import TrialFigures
from router.trials.shadow import Shadow, ShadowSample
from schedulers.entropy import mix
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from statesync.store.protocol import PolicyRecord

_SPAN: Final = 1 << 64
_DRAW: Final = 0x7A11
"""Which of a request's random numbers draws its arm: far from those that policies use."""


class Trial:
    """What is tried in one generation of a pool's record."""

    __slots__ = ("_candidates", "_salt", "baseline", "canary", "halted", "pool", "record", "shadow")

    def __init__(
        self,
        pool: str,
        record: PolicyRecord,
        scheduler: Scheduler,
        candidate: Scheduler | None,
        shadow: Shadow | None,
    ) -> None:
        """`candidate` is built from the record's canary."""
        self.pool = pool
        self.record = record
        self.shadow = shadow
        self.halted = False
        """The guard is broken and the record does not say so yet: nothing more goes to the candidate from here."""
        self.baseline: Arm | None = None
        """None without a canary."""
        self.canary: Arm | None = None
        self._salt = record.generation
        self._candidates = 0
        if record.canary is not None and candidate is not None:
            self.baseline, self.canary = Arm("baseline", scheduler), Arm("canary", candidate)
            self._candidates = int(_SPAN * record.canary.percent / 100)

    def candidate(self, request: ArmRequest, info: RequestInfo) -> Scheduler | None:
        """The candidate, where it is to decide this request; the request keeps its arm over retries."""
        if self.baseline is None or self.canary is None:
            return None
        arm = request.arm
        if arm is None:
            arm = request.arm = self.canary if self._drawn(info) and not self.halted else self.baseline
            arm.begins(request, info.arrived_at)
        # A request that was given an arm of an earlier trial stays in its counts and is not counted here.
        return arm.scheduler if arm is self.canary and not self.halted else None

    def decided(
        self,
        request: ArmRequest,
        info: RequestInfo,
        snapshot: LoadSnapshot,
        answer: Decision | Rejection,
        took_s: float,
    ) -> None:
        """What the pool's policy, or the candidate, answered at a request's first attempt."""
        arm = request.arm
        if arm is not None:
            if isinstance(answer, Rejection):
                arm.rejections += 1
            else:
                arm.decided(answer.pod, info)
        shadow = self.shadow
        if shadow is not None and shadow.wants and arm is self.baseline:
            shadow.sample(ShadowSample(info, snapshot, answer, took_s))

    def figures(self, now: float) -> TrialFigures:
        """All that was counted here; `now` on the clock on which requests arrive."""
        counted = TrialFigures()
        return TrialFigures(
            baseline=self.baseline.figures(now) if self.baseline is not None else counted.baseline,
            canary=self.canary.figures(now) if self.canary is not None else counted.canary,
            shadow=self.shadow.figures() if self.shadow is not None else counted.shadow,
        )

    def _drawn(self, info: RequestInfo) -> bool:
        if info.session_key:
            draw = xxh3_64_intdigest(info.session_key.encode("utf-8", "surrogatepass"), self._salt)
        else:
            draw = mix(info.entropy, _DRAW + self._salt)
        return draw < self._candidates

    def __repr__(self) -> str:
        tried = [repr(each) for each in (self.canary, self.shadow) if each is not None]
        return f"<Trial of {self.pool} at {self.record.generation}: {', '.join(tried)}>"
