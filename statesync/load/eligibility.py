"""Which pods of one pool may serve a model, by what each pod lists under /v1/models. Kept up when a list changes, so
that a request costs one look-up.

A pod is in one of three states. One that *lists* its models serves exactly those. One that is *open* answers, but has
no list: it may serve everything that no list names. One that is *unread* has not answered yet: it is taken to serve
what all others serve. Knows no request and no load; how a list is read is `statesync/engines/`'s.

Models with the same pods share a `Subset`, which is built when one of them is first requested. A set of pods is named
by the sum of its pods' 64-bit tags, so that a change of one pod gives the new name without looking at the others.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import Final

from schedulers.types import PodId
from statesync.errors import ModelNotServed
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from statesync.load.subset import Subset

Listed = frozenset[str] | None
"""The models that a pod lists; None for an open pod."""

_TAG_BITS: Final = (1 << 64) - 1
_NONE: Final[frozenset[str]] = frozenset()


class ModelPods:
    """The pods that list one model: their number, the sum of their tags, and the subset if there is one."""

    __slots__ = ("count", "subset", "tags")

    def __init__(self) -> None:
        self.count = 0
        self.tags = 0
        self.subset: Subset | None = None


class Eligibility:
    """The lists of one pool's pods."""

    def __init__(self, pool_state: PoolState, mixed: set[str], *, strict: bool) -> None:
        """`mixed` has the pool's name while its models have different pods. `strict`: no pod is asked for a model that
        no pod lists, as long as there is no open one."""
        self._pool = pool_state
        self._mixed = mixed
        self._strict = strict
        self._lists: dict[PodId, frozenset[str]] = {}
        self._open: set[PodId] = set()
        self._models: dict[str, ModelPods] = {}
        self._by_count: Counter[int] = Counter()
        """How many models are listed by that number of pods."""
        self._subsets: dict[int, Subset] = {}
        """Subsets in use, by the sum of their pods' tags."""
        self._for_the_rest: Subset | None = None
        """The open pods, once they were needed."""

    def listed(self, pod: PodId) -> Listed:
        """What the pod lists; None for one that is open or unread."""
        return self._lists.get(pod)

    def set_list(self, pod_state: PodState, models: Listed) -> bool:
        """Take in what a member lists now; returns whether anything changed."""
        pod = pod_state.pod.id
        before = self._lists.get(pod)
        if pod in self._open if models is None else models == before:
            return False
        self._forget(pod)
        if models is None:
            self._open.add(pod)
        else:
            self._lists[pod] = models
        self._count_all(pod_state, before or _NONE, models or _NONE)
        return True

    def forget(self, pod_state: PodState) -> None:
        """The pod is no member any more, or its engine is another one: it is unread."""
        before = self._lists.get(pod_state.pod.id)
        self._forget(pod_state.pod.id)
        self._count_all(pod_state, before or _NONE, _NONE)

    def subset_of(self, model: str) -> Subset | None:
        """The pods that may serve the model; None for all of the pool. Raises ModelNotServed if it is known of each pod
        that it does not."""
        entry = self._models.get(model)
        if entry is None:
            return self._unlisted(model)
        if entry.count == len(self._lists) and not self._open:
            return None
        if entry.subset is None:
            entry.subset = self._shared(model, entry)
            entry.subset.models += 1
        return entry.subset

    def the_rest(self) -> Subset | None:
        """The open pods, if there are any."""
        if self._open and self._for_the_rest is None:
            self._for_the_rest = Subset(self._pool, [self._pool.members[pod] for pod in self._open])
        return self._for_the_rest

    def _unlisted(self, model: str) -> Subset | None:
        rest = self.the_rest()
        if model and rest is None and self._strict and self._lists:
            raise ModelNotServed(f"no pod of pool {self._pool.pool!r} serves the model {model[:200]!r}")
        return rest if model else None

    def _shared(self, model: str, entry: ModelPods) -> Subset:
        """The subset of the pods that list this model, which other models may use too."""
        subset = self._subsets.get(entry.tags)
        if subset is None:
            members = self._pool.members
            pods = [members[pod] for pod, models in self._lists.items() if model in models]
            subset = self._subsets[entry.tags] = Subset(self._pool, pods)
        return subset

    def _forget(self, pod: PodId) -> None:
        self._lists.pop(pod, None)
        self._open.discard(pod)
        if self._for_the_rest is not None:
            self._for_the_rest.give_up()
            self._for_the_rest = None

    def _count_all(self, pod_state: PodState, before: frozenset[str], after: frozenset[str]) -> None:
        tag = int.from_bytes(blake2b(pod_state.pod.id.encode(), digest_size=8).digest(), "little")
        for model in before - after:
            self._count(model, pod_state, -1, tag)
        for model in after - before:
            self._count(model, pod_state, 1, tag)
        mixed = self._by_count[len(self._lists)] != len(self._models) or bool(self._open and self._lists)
        if self._pool.mixed and not mixed:
            self._give_all_up()
        self._pool.mixed = mixed
        (self._mixed.add if mixed else self._mixed.discard)(self._pool.pool)

    def _count(self, model: str, pod_state: PodState, step: int, tag: int) -> None:
        """One pod more (`step` 1) or less (-1) lists the model."""
        entry = self._models.get(model)
        if entry is None:
            entry = self._models[model] = ModelPods()
        else:
            self._by_count[entry.count] -= 1
        old_tags = entry.tags
        entry.count += step
        entry.tags = (old_tags + step * tag) & _TAG_BITS
        if entry.count:
            self._by_count[entry.count] += 1
        else:
            del self._models[model]
        if entry.subset is not None:
            self._move(entry, entry.subset, old_tags, pod_state)

    def _move(self, entry: ModelPods, subset: Subset, old_tags: int, pod_state: PodState) -> None:
        """The model has other pods now: change its subset if no other model uses it, else leave it to the others."""
        entry.subset = None
        subset.models -= 1
        if subset.models:
            return
        del self._subsets[old_tags]
        if not entry.count or entry.tags in self._subsets:
            subset.give_up()
            return
        if pod_state.pod.id in subset.members:
            subset.remove(pod_state)
        else:
            subset.add(pod_state)
        self._subsets[entry.tags] = entry.subset = subset
        subset.models = 1

    def _give_all_up(self) -> None:
        """All pods serve the same again."""
        for subset in self._subsets.values():
            subset.give_up()
        self._subsets.clear()
        for entry in self._models.values():
            entry.subset = None

    def __repr__(self) -> str:
        mixed = "mixed" if self._pool.mixed else "alike"
        return (
            f"<Eligibility of {self._pool.pool}, {mixed}: {len(self._lists)} pods list {len(self._models)} models, "
            f"{len(self._open)} are open, {len(self._subsets)} subsets>"
        )
