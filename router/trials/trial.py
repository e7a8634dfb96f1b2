"""One pool's trial on this replica, as requests meet it: a shadow, a canary, or both. No I/O and no judgement.

A canary's draw is by session, so that a conversation stays on its arm and on the pods that hold its prefix; all
replicas draw alike. The candidate's first generation salts it: another candidate draws other sessions, and a larger
share of the same one contains the smaller one. With `switchback_s` spans of time are drawn instead, by the wall
clock, and all of the pool follows one policy during each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from router.trials.arm import Arm, ArmRequest
from router.trials.clusters import CLUSTERS
from router.trials.figures import TrialFigures
from router.trials.shadow import Shadow, ShadowSample
from schedulers.entropy import mix
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, PodId, Rejection, RequestInfo
from statesync.store.protocol import PolicyRecord

_SPAN: Final = 1 << 64
_DRAW: Final = 0x7A11
"""Which of a request's random numbers draws its arm: far from those that policies use."""

WASHOUT: Final = 0.25
"""The share of a span of a switchback, its beginning, whose requests are on no arm: what the other policy sent before
is still being served."""


class Arms(NamedTuple):
    """Both arms of a canary."""

    baseline: Arm
    canary: Arm


class Trial:
    """What is tried in one generation of a pool's record."""

    __slots__ = (
        "_candidates",
        "_epoch",
        "_salt",
        "_span_s",
        "baseline",
        "canary",
        "halted",
        "pool",
        "record",
        "shadow",
    )

    def __init__(
        self,
        pool: str,
        record: PolicyRecord,
        scheduler: Scheduler,
        candidate: Scheduler | None,
        shadow: Shadow | None,
        arms: Arms | None = None,
        clocks: tuple[Callable[[], float], Callable[[], float]] = (time.monotonic, time.time),
    ) -> None:
        """`candidate` is built from the record's canary; `arms` are those of the record before, where the same stage of
        the canary goes on. `clocks`: the one on which requests arrive, and the wall clock.
        """
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
        self._span_s = 0.0
        self._epoch = clocks[1]() - clocks[0]()
        if record.canary is not None and candidate is not None:
            self.baseline, self.canary = arms or Arms(Arm("baseline", scheduler), Arm("canary", candidate))
            self.baseline.scheduler, self.canary.scheduler = scheduler, candidate
            self._salt = record.canary.began or record.generation
            self._candidates = int(_SPAN * record.canary.percent / 100)
            self._span_s = record.canary.switchback_s

    @property
    def arms(self) -> Arms | None:
        """Both arms; None without a canary."""
        return Arms(self.baseline, self.canary) if self.baseline is not None and self.canary is not None else None

    def candidate(self, request: ArmRequest, info: RequestInfo) -> Scheduler | None:
        """The candidate, where it is to decide this request; the request keeps its arm over retries."""
        if self.baseline is None or self.canary is None:
            return None
        arm = request.arm
        if arm is None:
            draw = self._draw(info)
            arm = self.canary if draw < self._candidates and not self.halted else self.baseline
            if not self._span_s or not self._is_washout(info):
                request.arm = arm
                arm.begins(request, info.arrived_at, draw % CLUSTERS)
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
                arm.decided(request, answer.pod, info, fuller=_is_fuller(answer.pod, snapshot))
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

    def _draw(self, info: RequestInfo) -> int:
        """64 bits: the arm is drawn by the high ones, the cluster by the low ones."""
        if self._span_s:
            return mix(int((info.arrived_at + self._epoch) / self._span_s), _DRAW + self._salt)
        if info.session_key:
            return xxh3_64_intdigest(info.session_key.encode("utf-8", "surrogatepass"), self._salt)
        return mix(info.entropy, _DRAW + self._salt)

    def _is_washout(self, info: RequestInfo) -> bool:
        return (info.arrived_at + self._epoch) % self._span_s < WASHOUT * self._span_s

    def __repr__(self) -> str:
        tried = [repr(each) for each in (self.canary, self.shadow) if each is not None]
        return f"<Trial of {self.pool} at {self.record.generation}: {', '.join(tried)}>"


def _is_fuller(pod: PodId, snapshot: LoadSnapshot) -> bool:
    """Whether the pod has more tokens in flight than the pool's pods have on average."""
    tokens = snapshot.columns.tokens
    return tokens[snapshot.position_of()[pod]] * len(tokens) > sum(tokens)
