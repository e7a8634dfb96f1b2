"""From a model's name, and the target that a client may name, to a pool."""

from __future__ import annotations

import random

import pytest

from router.dataplane.request.routes import Route, Routes
from router.errors import BadRequest, ModelNotFound, PoolNotFound
from router.settings import Pool, Timeouts

BIG = Pool(name="big", models=["llama-70b"], cluster="east", aliases={"gpt-4": "llama-70b"})
SMALL = Pool(name="small", models=["llama-8b", "shared"], cluster="west")
LABELLED = Pool(name="labelled", models=["shared"], labels={"cluster": "north"})
LEARNS = Pool(name="learns")


def routes(*pools: Pool, default: str = "") -> Routes:
    return Routes(pools, default, Timeouts())


def test_a_model_leads_to_its_pool_and_an_alias_to_its_model() -> None:
    here = routes(BIG, SMALL)
    assert here.resolve("llama-8b", None, None) == Route("small", "llama-8b")
    assert here.resolve("gpt-4", None, None) == Route("big", "llama-70b")


def test_the_first_of_two_pools_with_one_model_serves_it() -> None:
    assert routes(SMALL, LABELLED).resolve("shared", None, None).pool == "small"
    assert routes(LABELLED, SMALL).resolve("shared", None, None).pool == "labelled"


@pytest.mark.parametrize(
    ("pool", "cluster", "expected"),
    [
        (b"labelled", None, "labelled"),
        (None, b"north", "labelled"),
        (None, b"west", "small"),
        (b"small", b"west", "small"),
    ],
)
def test_a_pool_or_cluster_may_be_named(pool: bytes | None, cluster: bytes | None, expected: str) -> None:
    assert routes(SMALL, LABELLED).resolve("shared", pool, cluster).pool == expected


@pytest.mark.parametrize(
    ("pool", "cluster"), [(b"none", None), (None, b"none"), (b"small", b"east"), (b"", None), (None, b"")]
)
def test_an_unknown_target_is_refused_with_the_known_ones(pool: bytes | None, cluster: bytes | None) -> None:
    with pytest.raises(PoolNotFound, match=r"pools: big, small; clusters: east, west"):
        routes(BIG, SMALL).resolve("llama-8b", pool, cluster)


def test_a_model_its_named_pool_does_not_serve_is_not_found() -> None:
    with pytest.raises(ModelNotFound) as caught:
        routes(BIG, SMALL).resolve("llama-70b", b"small", None)
    assert caught.value.param == "model"


def test_a_misspelt_model_is_answered_with_the_closest_one() -> None:
    with pytest.raises(ModelNotFound, match="Did you mean 'llama-70b'"):
        routes(BIG).resolve("llama-70B", None, None)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("llama-3-70b-instuct", "llama-3-70b-instruct"),
        ("llama-3-70b-base", None),
        ("llama-3-7b-instruct", "llama-3-70b-instruct"),
        ("ll", None),
    ],
)
def test_the_closest_model_differs_in_one_place(asked: str, meant: str | None) -> None:
    known = Pool(name="known", models=["llama-3-8b-instruct", "llama-3-70b-instruct"])
    with pytest.raises(ModelNotFound) as caught:
        routes(known).resolve(asked, None, None)
    assert ("Did you mean" in caught.value.message) is (meant is not None)
    assert meant is None or f"Did you mean {meant!r}" in caught.value.message


def test_the_closest_model_is_not_sought_where_that_takes_long() -> None:
    """Case E 21: a name of megabytes, or thousands of names."""
    with pytest.raises(ModelNotFound) as caught:
        routes(BIG).resolve("llama-70B" * 100_000, None, None)
    assert len(caught.value.message) < 300
    with pytest.raises(ModelNotFound) as caught:
        routes(Pool(name="wide", models=[f"llama-{at}" for at in range(1000)])).resolve("llama-x", None, None)
    assert "Did you mean" not in caught.value.message


@pytest.mark.parametrize("header", ["x-turnout-pool", "x-turnout-cluster"])
def test_a_header_that_is_no_text_is_refused(header: str) -> None:
    given = (b"\xff", None) if header == "x-turnout-pool" else (None, b"\xff")
    with pytest.raises(BadRequest, match=header):
        routes(BIG).resolve("llama-70b", *given)


def test_the_default_pool_takes_models_that_no_pool_names() -> None:
    here = routes(BIG, SMALL, default="small")
    assert here.resolve("anything", None, None) == Route("small", "anything")
    assert here.resolve("gpt-4", None, None).pool == "big"


def test_a_pool_without_models_takes_any_model_until_its_pods_report() -> None:
    here = routes(LEARNS)
    assert here.resolve("anything", None, None) == Route("learns", "anything")
    assert here.resolve("anything", b"learns", None) == Route("learns", "anything")
    here.learned("learns", "p1", frozenset({"m"}))
    assert here.resolve("m", None, None).pool == "learns"
    with pytest.raises(ModelNotFound):
        here.resolve("anything", None, None)


def test_a_pools_models_are_the_union_of_its_pods_models() -> None:
    here = routes(LEARNS)
    here.learned("learns", "p1", frozenset({"a", "b"}))
    here.learned("learns", "p2", frozenset({"b", "c"}))
    assert list(here.models()) == ["a", "b", "c"]
    here.forgotten("learns", ["p1"])
    here.forgotten("learns", ["p1"])
    assert list(here.models()) == ["b", "c"]
    assert here.pools_learned() == {"learns"}
    here.forgotten("learns", ["p2"])
    assert (here.models(), here.pools_learned()) == ({}, set())


def test_the_union_is_right_after_any_history_of_reports_and_removals() -> None:
    rng = random.Random(1)
    routes = Routes([Pool(name="learns")], "", Timeouts())
    known: dict[str, frozenset[str]] = {}
    for _ in range(500):
        pods = rng.sample("abcdef", rng.randrange(1, 4))
        if rng.random() < 0.4:
            routes.forgotten("learns", pods)
            known = {pod: models for pod, models in known.items() if pod not in pods}
        else:
            known[pods[0]] = frozenset(rng.sample("mnop", rng.randrange(3)))
            routes.learned("learns", pods[0], known[pods[0]])
        assert set(routes.models()) == set().union(*known.values())
        assert routes.pools_learned() == ({"learns"} if known else set())


def test_configured_models_are_not_changed_by_reports_of_pods() -> None:
    here = routes(BIG)
    here.learned("big", "p1", frozenset({"other"}))
    assert list(here.models()) == ["llama-70b", "gpt-4"]


def test_all_names_are_listed_in_the_order_of_the_pools() -> None:
    assert routes(SMALL, BIG).models() == {"llama-8b": "small", "shared": "small", "llama-70b": "big", "gpt-4": "big"}


def test_a_pools_own_timeouts_replace_the_global_ones() -> None:
    own = Timeouts(first_byte_s=1)
    here = routes(BIG, Pool(name="quick", timeouts=own))
    assert here.timeouts == {"big": Timeouts(), "quick": own}


def test_onward_lists_the_fall_backs_that_serve_the_model_under_their_own_names() -> None:
    home = Pool(name="home", models=["llama"], aliases={"gpt": "llama"}, fallback=["own", "none", "same", "any"])
    own = Pool(name="own", models=["llama-fp8"], aliases={"gpt": "llama-fp8"})
    here = routes(home, own, Pool(name="none", models=["x"]), Pool(name="same", models=["llama"]), Pool(name="any"))
    expected = [Route("own", "llama-fp8"), Route("same", "llama"), Route("any", "llama")]
    assert here.onward("gpt", Route("home", "llama"), None) == expected
    assert here.onward("llama", Route("home", "llama"), None) == [Route("same", "llama"), Route("any", "llama")]


def test_onward_lists_the_other_pools_of_a_cluster_first() -> None:
    east = [Pool(name=name, models=["m"], cluster="east", fallback=["west"]) for name in ("one", "two", "three")]
    here = routes(*east, Pool(name="west", models=["m"]))
    ways = here.onward("m", Route("two", "m"), b"east", lambda pool: pool.name != "three")
    assert [way.pool for way in ways] == ["one", "west"]


def test_the_default_pool_as_a_fall_back_takes_any_model() -> None:
    home = Pool(name="home", models=["m"], fallback=["rest"])
    here = routes(home, Pool(name="rest", models=["n"]), default="rest")
    assert here.onward("m", Route("home", "m"), None) == [Route("rest", "m")]
