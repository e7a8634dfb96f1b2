"""What every policy owes its caller, asked of one that nobody knows yet: the essence of the suite that the gateway's
own policies pass, without a test runner. Each question ends with nothing, or with what is wrong, in words for the
policy's author. Pure, but for the clock that picks are timed with.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final, NamedTuple

from router.plugins.examples import SIZES, Example, example_of, examples, idle, shuffled, snapshot_of, traffic
from router.plugins.state_diff import changed, traces
from schedulers.entropy import mix
from schedulers.guard import fault, raised
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, Rejection, RequestInfo

SLOWEST_S: Final = 0.005
"""For a pick among 1,000 pods. The gateway's own take up to 0.2 ms; every request of the process waits meanwhile."""

SHARE: Final = 300
"""Picks a pod, on average, that shares are counted over; five standard deviations are let pass."""

Pick = Callable[[Scheduler, RequestInfo, LoadSnapshot], object]
"""Asks a policy, and breaks it off where it does not return."""


class ContractBroken(Exception):
    """The policy breaks its contract; the message says how."""


class PolicyUnderTest(NamedTuple):
    """A policy on its bench."""

    name: str
    make: Callable[[], Scheduler]
    """Builds it with its defaults."""
    module: ModuleType
    make_anew: Callable[[], Scheduler]
    """Builds it from a second load of its file, which shares nothing with the first."""
    pick: Pick

    def answer(self, policy: Scheduler, example: Example) -> Decision | Rejection:
        """What it answers. Raises Broken where that will not do."""
        try:
            answer = self.pick(policy, example.request, example.snapshot)
        except Exception as error:
            raise ContractBroken(f"with {example.words()}: it {raised(error).words}") from error
        failure = fault(answer, example.request, example.snapshot)
        if failure is not None:
            raise ContractBroken(f"with {example.words()}: it {failure.words}")
        assert isinstance(answer, Decision | Rejection)
        return answer


def examine(subject: PolicyUnderTest) -> dict[str, float]:
    """Ask everything. Returns microseconds a pick by number of pods. Raises Broken at the first thing that is wrong."""
    policy = subject.make()
    before = traces(subject.module, {subject.name: policy})
    for question in QUESTIONS:
        question(subject, policy)
        if place := changed(before, traces(subject.module, {subject.name: policy})):
            raise ContractBroken(f"it keeps state between calls: {place} is not as it was. A policy is a pure function")
    return timings(subject, policy)


def replay(subject: PolicyUnderTest, recorded: Sequence[Example]) -> None:
    """The same of requests that the gateway has had. Raises Broken."""
    policy, twin = subject.make(), subject.make()
    for example in recorded:
        answer = subject.answer(policy, example)
        if repr(subject.answer(twin, example)) != repr(answer):
            raise ContractBroken(f"a recorded request, with {example.words()}: the same input got two answers")


def answers_every_example(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """It returns a pod of the snapshot that was not tried, or a rejection, and does not change what it was given."""
    for example, before in zip(examples(), examples(), strict=True):
        subject.answer(policy, example)
        if example != before:
            part = "request" if example.request != before.request else "snapshot"
            raise ContractBroken(f"with {example.words()}: it changed the {part} it was given")


def decides_where_it_can(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """An idle pool is no reason to reject."""
    for pods in (1, 2, 100):
        snapshot = idle(pods)
        for request in traffic(20, keyed=False):
            _picked(subject, policy, request, snapshot)


def is_quick(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """Whatever it computes, every request of the process waits for it."""
    took = timings(subject, policy)["1000"] / 1e6
    if took > SLOWEST_S:
        raise ContractBroken(
            f"a pick among 1,000 pods takes {took * 1000:.1f} ms; at most {SLOWEST_S * 1000:g} ms will do"
        )


def keeps_no_state(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """The same input gets the same answer, whatever was asked before, of whichever instance and load of the file."""
    asked = examples()
    first = [repr(subject.answer(policy, each)) for each in asked]
    for whom, other in (("", policy), (", of another instance", subject.make()), ("", subject.make_anew())):
        for at in sorted(range(len(asked)), key=lambda at: mix(11, at)):
            if repr(subject.answer(other, asked[at])) != first[at]:
                raise ContractBroken(
                    f"with {asked[at].words()}: the same input got another answer{whom} after other calls in between. "
                    "A policy has no state, no clock and no dice but `request.entropy`"
                )


def cares_for_no_order(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """Who can be picked does not depend on where anybody stands."""
    busy = PodLoad(inflight=3, inflight_tokens=3000, pending_prefill_tokens=3000, running=3, kv_usage=0.5)
    snapshot = snapshot_of([PodLoad(), busy, PodLoad(), PodLoad()])
    orders = [_picks(subject, policy, shuffled(snapshot, seed)) for seed in range(8)]
    for pod in orders[0].keys() | orders[1].keys():
        counts = [picks[pod] for picks in orders]
        # By chance, one that gets a sixth of 120 picks gets none in one of 3,000,000,000 tries.
        if max(counts) >= 20 and not min(counts):
            raise ContractBroken(
                f"the order of the pods decides: {pod} gets {max(counts)} of 120 in one and none in another"
            )


def shares_equally(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """Of pods that are alike each gets as much as the next, with sessions and without."""
    for pods in (2, 3, 8):
        snapshot = idle(pods)
        for keyed in (False, True):
            count = Counter(
                _picked(subject, policy, request, snapshot) for request in traffic(SHARE * pods, keyed=keyed)
            )
            most, least = max(count.values()), min(count[pod.id] for pod, _ in snapshot.candidates)
            if most - SHARE > 5 * SHARE**0.5 or SHARE - least > 5 * SHARE**0.5:
                raise ContractBroken(
                    f"of {pods} pods that are alike one got {most} and one {least} of {SHARE * pods} requests; "
                    "use `request.entropy` for ties (`schedulers.entropy.least` does)"
                )


QUESTIONS: Final = (
    answers_every_example,
    is_quick,
    decides_where_it_can,
    keeps_no_state,
    cares_for_no_order,
    shares_equally,
)


def timings(subject: PolicyUnderTest, policy: Scheduler) -> dict[str, float]:
    """The quickest of some picks, in microseconds, by number of pods: what it costs where nothing disturbs it."""
    return {
        str(size): round(_quickest(subject, policy, example_of(size, turn=2)) * 1e6, 1) for size in SIZES if size >= 8
    }


def _quickest(subject: PolicyUnderTest, policy: Scheduler, example: Example) -> float:
    best = float("inf")
    for _ in range(9):
        began = time.perf_counter()
        subject.pick(policy, example.request, example.snapshot)
        best = min(best, time.perf_counter() - began)
    return best


def _picked(subject: PolicyUnderTest, policy: Scheduler, request: RequestInfo, snapshot: LoadSnapshot) -> PodId:
    answer = subject.answer(policy, Example(request, snapshot))
    if isinstance(answer, Rejection):
        count = len(snapshot.candidates)
        raise ContractBroken(
            f"it rejects ({answer.reason}) where {count} idle pod{'s' if count > 1 else ''} may be picked"
        )
    return answer.pod


def _picks(subject: PolicyUnderTest, policy: Scheduler, snapshot: LoadSnapshot) -> Counter[PodId]:
    requests = [*traffic(60, keyed=False), *traffic(60, keyed=True)]
    return Counter([_picked(subject, policy, request, snapshot) for request in requests])
