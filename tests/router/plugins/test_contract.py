"""The contract of a policy: the gateway's own policies keep it, and each kind of fault is found and named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from router.plugins.contract import ContractBroken, PolicyUnderTest, examine, replay
from router.plugins.examples import Example, examples
from schedulers import entropy, registry
from schedulers.protocols import Scheduler
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo
from tests.fakes.each_case import each_case


def subject(policy: type[Scheduler]) -> PolicyUnderTest:
    def pick(policy: Scheduler, request: RequestInfo, snapshot: LoadSnapshot) -> object:
        return policy.pick(request, snapshot)

    return PolicyUnderTest(str(policy.name), policy, sys.modules[policy.__module__], policy, pick)


@pytest.mark.slow
@each_case("name", registry.BUILT_IN)
def test_the_gateways_own_policies_keep_it(name: str) -> None:
    figures = examine(subject(registry.BUILT_IN[name]))
    assert set(figures) == {"8", "100", "1000"}
    assert all(took_us > 0 for took_us in figures.values())


@dataclass(frozen=True, slots=True)
class Bent:
    """Picks by the entropy, except for the behaviour that a test sets."""

    name: ClassVar[str] = "bent"
    bend: ClassVar[Callable[[RequestInfo, LoadSnapshot], Decision | Rejection | None]] = lambda request, snapshot: None

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        at = entropy.index(request.entropy, len(left.candidates))
        return type(self).bend(request, left) or Decision(left.candidates[at].pod.id, self.name)


Bend = Callable[[RequestInfo, LoadSnapshot], Decision | Rejection | None]


def first_of_many(request: RequestInfo, left: LoadSnapshot) -> Decision | None:
    return Decision(left.candidates[0].pod.id, "bent") if len(left.candidates) > 3 else None


def lowest_address(request: RequestInfo, left: LoadSnapshot) -> Decision | None:
    return Decision(min(pod.id for pod, _ in left.candidates), "bent") if not request.session_key else None


def no_pod_when_idle(request: RequestInfo, left: LoadSnapshot) -> Rejection | None:
    return Rejection("all_idle") if not left.total_inflight() else None


def raises_with_a_deadline(request: RequestInfo, left: LoadSnapshot) -> None:
    if request.deadline is not None and len(left.candidates) > 500:
        raise LookupError("late")


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (first_of_many, "the order of the pods decides"),
        (lowest_address, "of 2 pods that are alike one got 600 and one 0 of 600"),
        (no_pod_when_idle, r"it rejects \(all_idle\) where 1 idle pod may be picked"),
        (raises_with_a_deadline, r"with 1000 pods: it raised LookupError\('late'\)"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_fault_is_named(bend: Bend, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bent, "bend", staticmethod(bend))
    with pytest.raises(ContractBroken, match=said):
        examine(subject(Bent))


def test_a_policy_without_a_fault_passes() -> None:
    examine(subject(Bent))


def test_recorded_requests_are_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter(range(100))

    def in_turn(request: RequestInfo, left: LoadSnapshot) -> Decision:
        return Decision(left.candidates[next(turns) % 2].pod.id, "bent")

    monkeypatch.setattr(Bent, "bend", staticmethod(in_turn))
    with pytest.raises(ContractBroken, match="a recorded request, with 2 pods: the same input got two answers"):
        replay(subject(Bent), [examples()[6]])


def test_a_recorded_request_may_be_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bent, "bend", staticmethod(lambda request, left: Rejection("not_now")))
    replay(subject(Bent), [Example(*examples()[6])])
