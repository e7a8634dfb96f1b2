"""Whatever happens to a pool's pods, a model's snapshot is that of a plain model which looks at every pod."""

from __future__ import annotations

from random import Random

import pytest

from schedulers.types import LoadSnapshot, Pod, PodId, RequestInfo
from statesync.errors import ModelNotServed, NoRoutablePod, PoolSaturated, StateError
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.types import EngineReport, InflightNumbers
from tests.fakes.each_case import each_case
from tests.fakes.virtual_time import Clock

MODELS = ("a", "b", "c", "d")


class Walk:
    """A view of one pool, and what was done to it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.strict = bool(seed % 2)
        self.view = LoadView(Clock(), strict=["p"] if self.strict else [])
        self.view.set_pods("p", [])
        self.pods: dict[PodId, Pod] = {}
        self.lists: dict[PodId, frozenset[str] | None] = {}
        self.charges: list[Charge] = []
        self.pods_of: dict[int, tuple[Pod, ...]] = {}

    def step(self) -> None:
        """Something happens to a pod, which may come, go or have a new description."""
        random, view = self.random, self.view
        pod = PodId(f"p{random.randrange(7)}")
        if pod not in self.pods or random.random() < 0.1:
            self.pods[pod] = Pod(pod, pod, max_inflight=random.choice([None, 1, 3]))
            view.set_pods("p", list(self.pods.values()))
        elif random.random() < 0.05:
            del self.pods[pod]
            self.lists.pop(pod, None)
            view.set_pods("p", list(self.pods.values()))
        elif random.random() < 0.3:
            few = frozenset(model for model in MODELS if random.random() < 0.6)
            self.lists[pod] = random.choice([few, few, few, frozenset(MODELS), None])
            view.set_models(pod, self.lists[pod])
        else:
            self._change_load(pod)

    def _change_load(self, pod: PodId) -> None:
        random, view = self.random, self.view
        number = random.randrange(7)
        if number == 0:
            view.block(pod, "probe")
        elif number == 1:
            view.unblock(pod, "probe")
        elif number == 2:
            view.report(pod, EngineReport(queued=random.randrange(6), kv_usage=random.random()))
        elif number == 3:
            view.set_remote("other", {pod: InflightNumbers(random.randrange(4), 10, 5, 9, 1, 4)})
        elif number == 4 and self.charges:
            view.release(self.charges.pop(random.randrange(len(self.charges))))
        else:
            self.charges.append(view.reserve(pod, RequestInfo("r", "m", random.randrange(500), 10, 0.0, 1, 0)))

    def expected(self, model: str) -> set[PodId]:
        """The pods that may serve the model, whatever their load. Raises ModelNotServed."""
        listed = {pod: models for pod, models in self.lists.items() if models is not None}
        rest = {pod for pod, models in self.lists.items() if models is None}
        having = {pod for pod, models in listed.items() if model in models}
        mixed = bool(listed) and (len(set(listed.values())) > 1 or bool(rest))
        if not mixed or not model or (having == set(listed) and not rest):
            return set(self.pods)
        if not having and not rest and self.strict:
            raise ModelNotServed
        if not having:
            return rest or set(self.pods)
        routable = any(self.view.status(pod).routable for pod in having)
        return having if routable or not rest else rest

    def check(self, model: str) -> None:
        """Compare the model's snapshot."""
        try:
            pods = [self.view.status(pod) for pod in self.expected(model)]
        except ModelNotServed:
            with pytest.raises(ModelNotServed):
                self.view.snapshot("p", model)
            return
        free = {each.pod.id: each.load for each in pods if each.routable and each.load.inflight < _limit(each.pod)}
        try:
            made = self.view.snapshot("p", model)
        except StateError as error:
            kind = PoolSaturated if any(each.routable for each in pods) else NoRoutablePod
            assert (type(error), free) == (kind, {})
            return
        computed = LoadSnapshot.of(made.candidates)
        assert {pod.id: load for pod, load in made.candidates} == free
        assert (made.columns, made.inflight, made.positions) == (
            computed.columns,
            computed.inflight,
            computed.positions,
        )
        described = tuple(pod for pod, _ in made.candidates)
        assert described == tuple(self.pods[pod.id] for pod in described)
        assert self.pods_of.setdefault(made.generation, described) == described, "one generation, the same pods"


def _limit(pod: Pod) -> float:
    return float("inf") if pod.max_inflight is None else pod.max_inflight


@each_case("seed", range(12))
def test_case_a_1_a_model_s_snapshot_has_its_pods_and_their_numbers_after_any_changes(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(250):
        walk.step()
        for model in walk.random.sample((*MODELS, "unlisted", ""), 3):
            walk.check(model)
