"""A tenant's routes hold its pools and models, and say of everything else what they say of what does not exist."""

from __future__ import annotations

import pytest

from router.access.tenants import Tenant
from router.dataplane.request.routes import Route, Routes
from router.dataplane.request.tenant_routes import MOST_NAMES, VisibleRoutes, check_upgrade, model_permission
from router.errors import MissingModel, ModelNotFound, PermissionDenied
from router.settings import Pool, Timeouts

NEAR = Pool(name="near", models=["llama-8b", "shared"], cluster="east", fallback=["far", "hidden"])
FAR = Pool(name="far", models=["llama-8b", "shared"], cluster="west", aliases={"gpt-4": "shared"})
HIDDEN = Pool(name="hidden", models=["llama-8b", "secret"], cluster="west")
LEARNS = Pool(name="learns")


def seen(routes: Routes, models: tuple[str, ...] = ("*",), pools: tuple[str, ...] = ("*",), home: str = "") -> Routes:
    tenant = Tenant("search", models=frozenset(models), pools=frozenset(pools), default_pool=home)
    return VisibleRoutes(routes).of(tenant)


def routes(*pools: Pool, default: str = "") -> Routes:
    return Routes(pools, default, Timeouts())


def refusal(here: Routes, model: str) -> str:
    with pytest.raises(ModelNotFound) as caught:
        here.resolve(model)
    return caught.value.message.replace(model, "MODEL")


def test_without_a_tenant_all_routes_are_seen() -> None:
    every = routes(NEAR, FAR)
    assert VisibleRoutes(every).of(None) is every


def test_only_the_tenants_pools_and_models_exist() -> None:
    here = seen(routes(NEAR, FAR, HIDDEN), ("llama-*", "gpt-4"), ("near", "far"))
    assert here.models() == {"llama-8b": "near", "gpt-4": "far"}
    assert here.resolve("gpt-4") == Route("far", "shared")


@pytest.mark.parametrize("model", ["secret", "shared"])
def test_a_model_without_permission_is_refused_in_the_words_for_one_that_does_not_exist(model: str) -> None:
    here = seen(routes(NEAR, HIDDEN), ("llama-*",), ("near",))
    assert refusal(here, model) == refusal(here, "xyzzy")


def test_no_hint_names_what_the_tenant_may_not_use() -> None:
    every = routes(NEAR, HIDDEN)
    assert "'secret'" in refusal(every, "secrets")
    assert "Did you mean" not in refusal(seen(every, pools=("near",)), "secrets")


def test_a_fall_back_leads_to_the_tenants_pools_only() -> None:
    every = routes(NEAR, FAR, HIDDEN)
    route = Route("near", "llama-8b")
    assert [way.pool for way in every.onward("llama-8b", route, None)] == ["far", "hidden"]
    assert [way.pool for way in seen(every, pools=("near", "far")).onward("llama-8b", route, None)] == ["far"]


def test_an_alias_falls_back_to_its_model_though_only_the_alias_is_permitted() -> None:
    home = Pool(name="home", models=["shared"], aliases={"gpt-4": "shared"}, fallback=["near"])
    here = seen(routes(home, NEAR), ("gpt-4",))
    assert here.onward("gpt-4", Route("home", "shared"), None) == [Route("near", "shared")]
    assert list(here.models()) == ["gpt-4"]


@pytest.mark.parametrize("home", ["far", "west"])
def test_the_default_pool_or_cluster_comes_first_where_it_serves_the_model(home: str) -> None:
    here = seen(routes(NEAR, FAR, Pool(name="only", models=["other"])), home=home)
    assert here.resolve("shared").pool == "far"
    assert here.resolve("other").pool == "only"


def test_the_default_pool_takes_other_names_and_requests_without_a_model() -> None:
    every = routes(NEAR, FAR, default="near")
    assert seen(every, home="far").resolve("unknown").pool == "far"
    assert seen(every, home="far").resolve("") == Route("far", "")
    assert seen(every).resolve("unknown").pool == "near"
    with pytest.raises(ModelNotFound):
        seen(every, pools=("far",)).resolve("unknown")


def test_a_tenant_of_some_models_has_to_name_one() -> None:
    here = seen(routes(NEAR), ("shared",))
    with pytest.raises(MissingModel):
        here.resolve("")
    with pytest.raises(MissingModel):
        here.resolve("", pool=b"near")


def test_models_that_pods_report_later_are_seen() -> None:
    every = routes(LEARNS, HIDDEN)
    visible, tenant = VisibleRoutes(every), Tenant("search", pools=frozenset(("learns",)))
    assert visible.of(tenant).models() == {}
    every.learned("learns", "p1", frozenset({"m"}))
    assert visible.of(tenant).models() == {"m": "learns"}
    every.forgotten("learns", ["p1"])
    assert visible.of(tenant).models() == {}


def test_a_look_at_the_lists_is_worth_it_only_for_what_the_tenant_may_use() -> None:
    every = routes(LEARNS, Pool(name="other"))
    every.learned("learns", "p1", frozenset({"m"}))
    every.learned("other", "p2", frozenset({"secret"}))
    here = seen(every, ("m*", "secret"), ("learns",))
    assert here.may_appear("m2")
    assert here.may_appear("secret")  # as any name that no pod of its own lists
    assert not here.may_appear("m")
    assert not here.may_appear("other")


def test_names_are_exact_or_patterns_and_one_without_wildcard_matches_itself_only() -> None:
    permitted = model_permission(["llama-[78]b", "org/*", "a.b"])
    assert permitted is not None
    wanted = ("llama-7b", "llama-70b", "org/x/y", "a.b", "a-b", "llama-7b\n", "")
    assert [name for name in wanted if permitted(name)] == ["llama-7b", "org/x/y", "a.b"]
    assert model_permission(["x", "*"]) is None
    none = model_permission([])
    assert none is not None
    assert not none("x")


def test_permissions_of_invented_names_take_bounded_memory() -> None:
    permitted = model_permission(["m*"])
    assert permitted is not None
    for at in range(2 * MOST_NAMES):
        assert permitted(f"m{at}")
    assert not permitted("")


@pytest.mark.parametrize(
    "path", [b"/v1/responses", b"/v1/%72esponses", b"//v1/responses", b"/v1/files/file-1/content", b"/v1/files"]
)
def test_a_websocket_whose_messages_name_responses_or_models_is_refused(path: bytes) -> None:
    with pytest.raises(PermissionDenied):
        check_upgrade(path, Tenant("search"))
    with pytest.raises(PermissionDenied, match="some models only"):
        check_upgrade(b"/v1/realtime", Tenant("search", models=frozenset(("m",))))
    check_upgrade(b"/v1/realtime", Tenant("search"))
