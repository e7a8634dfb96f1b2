"""Settings mapped to the components' configurations: no field is swapped or lost."""

from __future__ import annotations

from router.replica.config_mapping import (
    pod_template,
    pool_access,
    request_limits_s,
)
from router.settings import Auth, Health, Pool, PoolUpstream, Scrape, Settings, Timeouts, UpstreamTls
from statesync.types import LEARNED


def test_a_pools_pods_have_its_cluster_as_a_label_and_no_limit_is_none() -> None:
    template = pod_template(Pool(name="p", models=["m"], cluster="east", labels={"zone": "a"}))
    assert dict(template.labels) == {"zone": "a", "cluster": "east"}
    assert (template.models, template.max_inflight) == (frozenset({"m"}), None)
    assert pod_template(Pool(name="p", max_inflight_per_pod=7)).max_inflight == 7
    assert pod_template(Pool(name="p", max_inflight_per_pod="auto")).max_inflight == LEARNED


def test_a_pool_s_upstream_says_how_its_pods_without_a_scheme_speak() -> None:
    assert pod_template(Pool(name="p")).pod("a", 1).address == "a:1"
    upstream = PoolUpstream(tls=UpstreamTls(), path="/base/")
    assert pod_template(Pool(name="p", upstream=upstream)).pod("a", 1).address == "https://a:1/base"


def test_a_pool_s_access_has_its_settings_and_for_paths_those_of_all_pools() -> None:
    settings = Settings(health=Health(path="/up"), scrape=Scrape(path="/numbers"))
    access = pool_access(Pool(name="p"), settings, {})
    assert (access.engine, access.preset.health, access.preset.metrics) == ("auto", ("/up",), ("/numbers",))
    assert not access.changes_requests
    upstream = PoolUpstream(
        api_key_env="KEY",
        send_key=True,
        health_path="/own",
        metrics_path="/m",
        headers={"x-tenant": "t"},
        strip=["cookie"],
        tls=UpstreamTls(server_name="vllm.internal"),
    )
    access = pool_access(Pool(name="p", engine="tgi", upstream=upstream), settings, {"KEY": "sk-1"})
    assert (access.engine, access.preset.health, access.preset.metrics) == ("tgi", ("/own",), ("/m",))
    assert access.added() == "x-tenant: t\r\nauthorization: Bearer sk-1\r\n"
    assert access.strip == {b"cookie", b"x-tenant", b"authorization", b"x-api-key", b"api-key"}


def test_with_auth_pods_get_a_client_s_credentials_only_where_the_pool_says_so() -> None:
    credentials = {b"authorization", b"x-api-key", b"api-key"}
    for auth, send, stripped in ((None, False, set()), (Auth(), False, credentials), (Auth(), True, set())):
        pool = Pool(name="p", upstream=PoolUpstream(send_credentials=send))
        access = pool_access(pool, Settings(pools=[pool], auth=auth), {})
        assert access.strip == stripped
        assert access.changes_requests is bool(stripped)


def test_deadlines_have_the_limits_of_every_pool() -> None:
    settings = Settings(pools=[Pool(name="p", timeouts=Timeouts(idle_s=0.125)), Pool(name="q")])
    limits = request_limits_s(settings)
    assert 0.125 in limits
    assert settings.timeouts.first_byte_s in limits
    assert len(limits) == 10


def test_the_ranks_of_a_pool_s_pods_are_not_the_client_s_to_choose() -> None:
    access = pool_access(Pool(name="p", ranks=2), Settings(), {})
    assert access.strip == {b"x-data-parallel-rank"}
    assert access.changes_requests
