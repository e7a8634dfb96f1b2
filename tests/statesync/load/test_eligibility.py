"""Which pods may serve a model: by their own lists, kept up when a list changes."""

from __future__ import annotations

import pytest

from statesync.errors import ModelNotServed
from statesync.load.eligibility import Eligibility, Listed
from statesync.load.pod_state import PodState
from statesync.load.pool_state import PoolState
from tests.statesync.load.test_pool_state import pod_state, pool_of


class ListedPool:
    """Pods `p0`, `p1`, ... of a pool, and what they list."""

    def __init__(self, *lists: Listed, unread: int = 0, strict: bool = False) -> None:
        self.pods = [pod_state(f"p{number}") for number in range(len(lists) + unread)]
        self.pool: PoolState = pool_of(*self.pods)
        self.mixed: set[str] = set()
        self.eligibility = Eligibility(self.pool, self.mixed, strict=strict)
        for number, models in enumerate(lists):
            self.lists(number, models)

    def lists(self, number: int, models: Listed) -> bool:
        return self.eligibility.set_list(self.pods[number], models)

    def pod(self, number: int) -> PodState:
        return self.pods[number]

    def of(self, model: str) -> list[str] | None:
        """The model's pods; None for the whole pool."""
        subset = self.eligibility.subset_of(model) if self.pool.mixed else None
        return None if subset is None else sorted(subset.members)


def models(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_case_a_1_each_of_two_pods_gets_only_its_own_model() -> None:
    both = ListedPool(models("model-a"), models("model-b"))
    assert (both.of("model-a"), both.of("model-b")) == (["p0"], ["p1"])
    assert both.mixed == {"default"}
    both.lists(1, models("model-a"))
    assert both.mixed == set()


def test_pods_that_list_the_same_are_one_set_at_no_cost() -> None:
    alike = ListedPool(models("m", "n"), models("m", "n"), unread=1)
    assert not alike.pool.mixed
    assert repr(alike.eligibility).endswith("alike: 2 pods list 2 models, 0 are open, 0 subsets>")


def test_a_model_of_all_pods_is_the_whole_pool_s_also_where_an_adapter_is_not() -> None:
    pool = ListedPool(models("base"), models("base", "lora"), unread=1)
    assert (pool.of("base"), pool.of("lora")) == (None, ["p1"])


def test_a_pod_without_a_list_gets_what_no_list_names() -> None:
    pool = ListedPool(models("m"), None, strict=True)
    assert (pool.of("m"), pool.of("other"), pool.of("")) == (["p0"], ["p1"], None)
    assert not ListedPool(None, None).pool.mixed


def test_a_model_that_no_pod_lists_is_refused_where_lists_decide_and_goes_anywhere_else() -> None:
    lists = models("m"), models("n")
    with pytest.raises(ModelNotServed, match="no pod of pool 'default' serves the model 'other'"):
        ListedPool(*lists, strict=True).of("other")
    assert ListedPool(*lists).of("other") is None
    assert ListedPool(*lists, strict=True).of("") is None


def test_an_adapter_that_is_loaded_and_unloaded_changes_its_own_pods_only() -> None:
    pool = ListedPool(*[models("base")] * 4)
    assert pool.lists(1, models("base", "lora"))
    assert not pool.lists(1, models("base", "lora"))
    assert pool.of("lora") == ["p1"]
    first = pool.eligibility.subset_of("lora")
    pool.lists(2, models("base", "lora"))
    assert (pool.of("lora"), pool.eligibility.subset_of("lora")) == (["p1", "p2"], first)
    pool.lists(1, models("base"))
    assert pool.of("lora") == ["p2"]
    pool.lists(2, models("base"))
    assert not pool.pool.mixed


def test_models_of_the_same_pods_share_a_subset_and_part_when_one_moves() -> None:
    pool = ListedPool(models("x", "y", "z"), models("x", "y", "z"), models())
    x = pool.eligibility.subset_of("x")
    assert pool.eligibility.subset_of("y") is x
    pool.lists(1, models("y"))
    assert (pool.of("x"), pool.of("y"), pool.of("z")) == (["p0"], ["p0", "p1"], ["p0"])
    assert pool.eligibility.subset_of("z") is pool.eligibility.subset_of("x")
    pool.lists(1, models("x", "y"))
    assert pool.eligibility.subset_of("x") is pool.eligibility.subset_of("y")
    assert "2 subsets" in repr(pool.eligibility)


def test_a_pod_that_is_gone_leaves_every_subset() -> None:
    pool = ListedPool(models("x", "y"), models("x"), None)
    assert (pool.of("x"), pool.of("y"), pool.of("other")) == (["p0", "p1"], ["p0"], ["p2"])
    for gone in (0, 2):
        pool.eligibility.forget(pool.pod(gone))
        pool.pool.remove(pool.pod(gone))
    assert not pool.pool.mixed
    assert pool.eligibility.listed(pool.pod(1).pod.id) == models("x")
    assert pool.eligibility.listed(pool.pod(0).pod.id) is None
    assert "0 subsets" in repr(pool.eligibility)


def test_a_set_that_was_whole_in_between_is_built_anew() -> None:
    pool = ListedPool(models("m"), models())
    first = pool.eligibility.subset_of("m")
    pool.lists(1, models("m"))
    assert not pool.pool.mixed
    pool.lists(1, models())
    assert pool.of("m") == ["p0"]
    assert pool.eligibility.subset_of("m") is not first
