"""The contract of every policy, examined on one from a plugin file: the essence of the test suite of the built-in
policies, without a test runner. Each question passes, or raises what is wrong, worded for the policy's author. Pure,
except for the clock that times picks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final, NamedTuple

from router.plugins.examples import SIZES, Example, example_of, examples, idle, shuffled, snapshot_of, traffic
from router.plugins.state_diff import first_difference, state_of
from schedulers.entropy import mix
from schedulers.guard import fault, raised
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, PodId, PodLoad, Rejection, RequestInfo

SLOWEST_S: Final = 0.005
"""Seconds for a pick among 1,000 pods, in which every request of the process waits. Built-in policies take up to
0.2 ms."""

SHARE: Final = 300
"""Picks per pod, on average, over which shares are counted; five standard deviations pass."""

Pick = Callable[[Scheduler, RequestInfo, LoadSnapshot], object]
"""Calls `pick` of a policy, and interrupts it if it does not return."""


class ContractBroken(Exception):
    """The policy breaks its contract; the message says how."""


class PolicyUnderTest(NamedTuple):
    """A policy, and the ways to build and call it."""

    name: str
    make: Callable[[], Scheduler]
    """Builds it with its defaults."""
    module: ModuleType
    make_reloaded: Callable[[], Scheduler]
    """Builds it from a second load of its file, which shares nothing with the first."""
    pick: Pick

    def answer(self, policy: Scheduler, example: Example) -> Decision | Rejection:
        """Its answer. Raises ContractBroken if the answer is not valid."""
        try:
            answer = self.pick(policy, example.request, example.snapshot)
        except Exception as error:
            raise ContractBroken(f"with {example.describe()}: it {raised(error).words}") from error
        failure = fault(answer, example.request, example.snapshot)
        if failure is not None:
            raise ContractBroken(f"with {example.describe()}: it {failure.words}")
        assert isinstance(answer, Decision | Rejection)
        return answer


def examine(subject: PolicyUnderTest) -> dict[str, float]:
    """Ask every question. Returns microseconds a pick by number of pods. Raises ContractBroken at the first failure."""
    policy = subject.make()
    before = state_of(subject.module, {subject.name: policy})
    for question in QUESTIONS:
        question(subject, policy)
        if place := first_difference(before, state_of(subject.module, {subject.name: policy})):
            raise ContractBroken(f"it keeps state between calls: {place} is not as it was. A policy is a pure function")
    return timings(subject, policy)


def replay(subject: PolicyUnderTest, recorded: Sequence[Example]) -> None:
    """Ask about requests that the gateway has had. Raises ContractBroken."""
    policy, twin = subject.make(), subject.make()
    for example in recorded:
        answer = subject.answer(policy, example)
        if repr(subject.answer(twin, example)) != repr(answer):
            raise ContractBroken(f"a recorded request, with {example.describe()}: the same input got two answers")


def answers_every_example(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """It returns a pod of the snapshot that was not tried, or a rejection, and does not change what it was given."""
    for example, before in zip(examples(), examples(), strict=True):
        subject.answer(policy, example)
        if example != before:
            part = "request" if example.request != before.request else "snapshot"
            raise ContractBroken(f"with {example.describe()}: it changed the {part} it was given")


def decides_where_it_can(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """An idle pool is no reason to reject."""
    for pods in (1, 2, 100):
        snapshot = idle(pods)
        for request in traffic(20, keyed=False):
            _picked(subject, policy, request, snapshot)


def is_fast(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """A pick is fast, since every request of the process waits for it."""
    took = timings(subject, policy)["1000"] / 1e6
    if took > SLOWEST_S:
        raise ContractBroken(
            f"a pick among 1,000 pods takes {took * 1000:.1f} ms; at most {SLOWEST_S * 1000:g} ms will do"
        )


def keeps_no_state(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """The same input gets the same answer, after any other calls, from any instance and any load of the file."""
    asked = examples()
    first = [repr(subject.answer(policy, each)) for each in asked]
    for whom, other in (("", policy), (", of another instance", subject.make()), ("", subject.make_reloaded())):
        for at in sorted(range(len(asked)), key=lambda at: mix(11, at)):
            if repr(subject.answer(other, asked[at])) != first[at]:
                raise ContractBroken(
                    f"with {asked[at].describe()}: the same input got another answer{whom} after other calls. "
                    "A policy has no state, no clock and no random source but `request.entropy`"
                )


def ignores_order(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """Which pods can be picked does not depend on their order."""
    busy = PodLoad(inflight=3, inflight_tokens=3000, pending_prefill_tokens=3000, running=3, kv_usage=0.5)
    snapshot = snapshot_of([PodLoad(), busy, PodLoad(), PodLoad()])
    orders = [_picks(subject, policy, shuffled(snapshot, seed)) for seed in range(8)]
    for pod in orders[0].keys() | orders[1].keys():
        counts = [picks[pod] for picks in orders]
        # A pod whose share is a sixth gets none of 120 picks by chance once in 3,000,000,000 tries.
        if max(counts) >= 20 and not min(counts):
            raise ContractBroken(
                f"the order of the pods decides: {pod} gets {max(counts)} of 120 in one and none in another"
            )


def shares_equally(subject: PolicyUnderTest, policy: Scheduler) -> None:
    """Pods that are alike get equal shares, with sessions and without."""
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
    is_fast,
    decides_where_it_can,
    keeps_no_state,
    ignores_order,
    shares_equally,
)


def timings(subject: PolicyUnderTest, policy: Scheduler) -> dict[str, float]:
    """The quickest of nine picks, in microseconds, by number of pods: the cost without disturbances."""
    return {
        str(size): round(_fastest(subject, policy, example_of(size, turn=2)) * 1e6, 1) for size in SIZES if size >= 8
    }


def _fastest(subject: PolicyUnderTest, policy: Scheduler, example: Example) -> float:
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
