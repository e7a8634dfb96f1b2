"""What `turnout check` says of `pools[].disaggregation`."""

from __future__ import annotations

import pytest

from router.config.disaggregation_checks import disaggregation_problems
from router.config.upstream_checks import upstream_problems
from router.settings import Disaggregation, Discovery, Failover, Pool, Settings

KUBE = Discovery(source="kubernetes://ns?selector=app=vllm")


def problems(pool: Pool, *others: Pool) -> list[str]:
    found = disaggregation_problems(Settings(pools=[pool, *others]))
    return [f"{each.path[-1]}: {each.message}" for each in found]


def split(**fields: object) -> Pool:
    return Pool(name="d", discovery=KUBE, disaggregation=Disaggregation(**fields))  # type: ignore[arg-type]


def test_labels_in_one_pool_and_a_pool_of_prefill_pods_are_both_right() -> None:
    assert problems(split()) == []
    assert problems(split(prefill="llm=prefill", decode="llm=decode", connector="sglang")) == []
    assert problems(split(prefill="p"), Pool(name="p", pods=["http://p:1"])) == []
    assert problems(Pool(name="d", pods=["http://d:1"])) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prefill": "q"}, "prefill: no pool 'q', and no label=value; other pools: p"),
        ({"prefill": "d"}, "prefill: names its own pool"),
        ({"prefill": "role="}, "prefill: 'role=' is half a label"),
        ({"decode": "p"}, "decode: is a label of pods in this pool"),
        ({"decode": "role=prefill"}, "decode: 'role=prefill' is what prefills, too"),
        ({"connector": "mooncake"}, "connector: 'mooncake' is not one of nixl, shared_storage, sglang"),
        ({"bootstrap_port": 70000}, "bootstrap_port: must be at most 65535"),
    ],
)
def test_names_that_refer_to_nothing_are_problems(fields: dict[str, object], said: str) -> None:
    (found,) = problems(split(**fields), Pool(name="p", pods=["http://p:1"]))
    assert found.startswith(said)


def test_listed_pods_need_a_pool_of_their_own_to_prefill() -> None:
    pool = Pool(name="d", pods=["http://d:1"], disaggregation=Disaggregation())
    assert [each.partition(",")[0] for each in problems(pool)] == [
        "prefill: pods that are listed have no roles or labels of their own: put those that prefill into another pool"
    ]


def test_a_connector_belongs_to_an_engine() -> None:
    pool = Pool(name="d", engine="sglang", discovery=KUBE, disaggregation=Disaggregation())
    assert problems(pool) == ["connector: 'nixl' is vllm's, and the engine is sglang"]


@pytest.mark.parametrize("field", ["mid_stream", "resume"])
def test_streams_of_two_pods_are_not_moved(field: str) -> None:
    pool = Pool(
        name="d", engine="vllm", discovery=KUBE, disaggregation=Disaggregation(), failover=Failover(**{field: True})
    )
    found = [each for each in upstream_problems(Settings(state="redis://r", pools=[pool])) if each.path[-1] == field]
    assert [each.message for each in found] == ["a pool with disaggregation moves no streams; leave one of the two out"]


def test_a_prefill_pool_splits_no_work_itself() -> None:
    other = Pool(name="p", discovery=KUBE, disaggregation=Disaggregation())
    assert "prefill: pool 'p' splits its own work; name a pool that only prefills" in problems(
        split(prefill="p"), other
    )
