"""Rules for settings that have decoded."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.checks import Problem, problems_in
from router.settings import (
    Control,
    Discovery,
    Health,
    Limits,
    Logging,
    PolicySpec,
    Pool,
    Prefix,
    Recording,
    Retries,
    Scrape,
    Sessions,
    Settings,
    Sync,
    Timeouts,
)
from tests.fakes.each_case import each_case

POD = "http://10.0.0.1:8000"


def pool(name: str = "a", **more: Any) -> Pool:
    given = {"pods": [POD]} if "discovery" not in more else {}
    return Pool(name=name, **{**given, **more})


def settings(*pools: Pool, **more: Any) -> Settings:
    return Settings(pools=list(pools) or [pool()], **more)


def found(given: Settings) -> list[tuple[str, str]]:
    return [(problem.where, problem.severity) for problem in problems_in(given)]


def test_the_defaults_with_one_pool_are_valid() -> None:
    assert problems_in(settings()) == []


def test_a_problem_names_its_place_by_the_keys_of_the_file() -> None:
    assert Problem(("pools", 0, "pods", 2), "x").where == "pools[0].pods[2]"
    assert Problem((), "x").where == ""


ERRORS = {
    "no pool": (Settings(), "pools"),
    "two pools of one name": (settings(pool(), pool(pods=["http://h:1"])), "pools[1].name"),
    "a pool without a name": (settings(pool("")), "pools[0].name"),
    "a pool whose name is no word": (settings(pool("a/b")), "pools[0].name"),
    "one pod in two pools": (settings(pool(), pool("b", pods=["10.0.0.1:8000"])), "pools[1].pods[0]"),
    "one pod twice in a pool": (settings(pool(pods=[POD, POD])), "pools[0].pods[1]"),
    "neither pods nor discovery": (settings(pool(pods=[])), "pools[0]"),
    "both pods and discovery": (
        settings(pool(pods=[POD], discovery=Discovery(source="dns://x:80"))),
        "pools[0]",
    ),
    "a discovery of no known kind": (
        settings(pool(discovery=Discovery(source="zk://x"))),
        "pools[0].discovery.source",
    ),
    "a discovery without a port": (
        settings(pool(discovery=Discovery(source="dns://vllm.ns.svc"))),
        "pools[0].discovery.source",
    ),
    "a selector that is none": (
        settings(pool(discovery=Discovery(source="kubernetes://llm?selector=app in vllm"))),
        "pools[0].discovery.source",
    ),
    "a pod that is no URL": (settings(pool(pods=["ftp://x:1"])), "pools[0].pods[0]"),
    "a pod with a query": (settings(pool(pods=["http://x:1/v1?a=b"])), "pools[0].pods[0]"),
    "a pod without scheme and port": (settings(pool(pods=["x"])), "pools[0].pods[0]"),
    "an unknown engine": (settings(pool(engine="vlm")), "pools[0].engine"),
    "an alias of itself": (settings(pool(aliases={"a": "a"})), "pools[0].aliases.a"),
    "an alias to what the pool lacks": (settings(pool(models=["m"], aliases={"a": "n"})), "pools[0].aliases.a"),
    "an unknown policy": (settings(pool(policy=PolicySpec(name="p3c"))), "pools[0].policy.name"),
    "unknown params": (
        settings(pool(policy=PolicySpec(name="p2c", params={"wat": 1}))),
        "pools[0].policy.params",
    ),
    "an unknown allowed policy": (settings(pool(allowed_policies=["*", "wat"])), "pools[0].allowed_policies[1]"),
    "an unknown default pool": (settings(default_pool="b"), "default_pool"),
    "a listen that is none": (settings(listen="8000"), "listen"),
    "a control listen that is none": (settings(control=Control(listen="x")), "control.listen"),
    "control off loopback without a token": (settings(control=Control(listen="0.0.0.0:9000")), "control.listen"),
    "one port for both": (settings(listen="127.0.0.1:9000"), "control.listen"),
    "a state of no known kind": (settings(state="etcd://x"), "state"),
    "a log format of no known kind": (settings(logging=Logging(format="xml")), "logging.format"),
    "a log level of no known kind": (settings(logging=Logging(level="loud")), "logging.level"),
    "a probe path without its slash": (settings(health=Health(path="health")), "health.path"),
    "a lease of no time": (settings(sync=Sync(lease_s=0)), "sync.lease_s"),
    "no time for Redis": (settings(sync=Sync(timeout_s=0)), "sync.timeout_s"),
    "checkpoints without a pause": (settings(sync=Sync(checkpoint_s=0)), "sync.checkpoint_s"),
    "a namespace with braces": (settings(state="redis://h:1", sync=Sync(namespace="{a}")), "sync.namespace"),
    "a longest ejection below the first": (settings(health=Health(eject_s=9, eject_max_s=3)), "health.eject_max_s"),
    "no time to connect": (settings(timeouts=Timeouts(connect_s=0)), "timeouts.connect_s"),
    "a negative time": (settings(timeouts=Timeouts(idle_s=-1)), "timeouts.idle_s"),
    "a negative time in a pool": (
        settings(pool(timeouts=Timeouts(idle_s=-1))),
        "pools[0].timeouts.idle_s",
    ),
    "not a number": (settings(timeouts=Timeouts(total_s=float("nan"))), "timeouts.total_s"),
    "for ever": (settings(timeouts=Timeouts(total_s=float("inf"))), "timeouts.total_s"),
    "probes without a pause": (settings(health=Health(interval_s=0)), "health.interval_s"),
    "a share above one": (settings(health=Health(max_ejected_ratio=1.5)), "health.max_ejected_ratio"),
    "scrapes without a pause": (settings(scrape=Scrape(interval_s=0)), "scrape.interval_s"),
    "no room for a body": (settings(limits=Limits(max_body_bytes=0)), "limits.max_body_bytes"),
    "fewer than no retries": (settings(retries=Retries(attempts=-1)), "retries.attempts"),
    "a negative index": (settings(prefix=Prefix(max_bytes=-1)), "prefix.max_bytes"),
    "a recording of an unknown kind": (settings(recording=Recording(path="/tmp/r.log")), "recording.path"),
    "a replica whose name ends a header": (settings(replica="gw-1\r\nx: y"), "replica"),
    "a replica whose name ends with a line": (settings(replica="gw-1\n"), "replica"),
    "a replica whose name no header can have": (settings(replica="größe"), "replica"),
    "no room for a recording": (settings(recording=Recording(max_bytes=0)), "recording.max_bytes"),
    "an affinity of no known kind": (settings(pool(affinity="always")), "pools[0].affinity"),
    "a session's header with a space": (settings(sessions=Sessions(headers=["x-a", "x b"])), "sessions.headers[1]"),
    "a session's field that ends in a dot": (settings(sessions=Sessions(fields=["metadata."])), "sessions.fields[0]"),
    "a negative warm-up": (settings(warmup_timeout_s=-1.0), "warmup_timeout_s"),
}


@each_case(("given", "where"), list(ERRORS.values()), ids=list(ERRORS))
def test_an_error_is_reported_at_its_place(given: Settings, where: str) -> None:
    assert found(given) == [(where, "error")]


WARNINGS = {
    "a keep-alive as long as vLLM's": (
        settings(timeouts=Timeouts(upstream_keepalive_s=5)),
        "timeouts.upstream_keepalive_s",
    ),
    "a recording in no folder": (settings(recording=Recording(path="/nosuch/r.jsonl")), "recording.path"),
    "the same in a pool": (
        settings(pool(timeouts=Timeouts(upstream_keepalive_s=75))),
        "pools[0].timeouts.upstream_keepalive_s",
    ),
    "a model of two pools": (
        settings(pool(models=["m"]), pool("b", pods=["http://h:1"], models=["n", "m"])),
        "pools[1].models[1]",
    ),
    "an address with an SDK's /v1": (settings(pool(pods=["http://h:1/base/v1"])), "pools[0].pods[0]"),
    "the whole path of a request": (
        settings(pool(pods=["http://h:1/v1/chat/completions"])),
        "pools[0].pods[0]",
    ),
    "an alias that hides a model": (settings(pool(models=["m", "n"], aliases={"m": "n"})), "pools[0].aliases.m"),
}


@pytest.mark.parametrize(("given", "where"), list(WARNINGS.values()), ids=list(WARNINGS))
def test_a_warning_is_reported_at_its_place(given: Settings, where: str) -> None:
    assert found(given) == [(where, "warning")]


RIGHT = {
    "a token for a control port that others reach": settings(control=Control(listen="0.0.0.0:9000", token="t")),
    "control on IPv6 loopback": settings(control=Control(listen="[::1]:9000")),
    "both ports chosen by the system": settings(listen="127.0.0.1:0", control=Control(listen="127.0.0.1:0")),
    "limits turned off": settings(timeouts=Timeouts(idle_s=0, total_s=0), limits=Limits(max_inflight=0)),
    "an alias to a model that is learned": settings(pool(aliases={"a": "m"})),
    "any policy by request": settings(pool(allowed_policies=["*"])),
    "a default pool": settings(default_pool="a"),
    "a discovery": settings(pool(discovery=Discovery(source="dns://vllm.ns.svc:8000"))),
    "a cluster": settings(pool(discovery=Discovery(source="kubernetes://?selector=app in (vllm,sglang)&port=http"))),
}


@each_case("given", list(RIGHT.values()), ids=list(RIGHT))
def test_valid_settings_have_no_problems(given: Settings) -> None:
    assert problems_in(given) == []


def test_every_alias_on_a_cycle_is_reported_and_so_is_one_that_leads_into_it() -> None:
    given = settings(pool(aliases={"x": "y", "y": "x", "in": "x"}))
    assert found(given) == [(f"pools[0].aliases.{name}", "error") for name in ("x", "y", "in")]


def test_an_alias_of_an_alias_is_reported_with_the_correct_target() -> None:
    (problem,) = problems_in(settings(pool(models=["m"], aliases={"a": "b", "b": "m"})))
    assert problem.where == "pools[0].aliases.a"
    assert "write 'm'" in problem.message


LOCAL = PolicySpec(name="profile", params={"scorers": [{"name": "queue"}, {"name": "locality"}]})


def test_locality_without_labels_of_the_gateway_is_a_warning() -> None:
    near = settings(pool(policy=LOCAL), policies={"near": LOCAL})
    assert found(near) == [("pools[0].policy.params", "warning"), ("policies.near.params", "warning")]
    assert problems_in(settings(pool(policy=LOCAL), labels={"zone": "a"})) == []


def test_a_problem_of_a_composed_policy_has_the_message_of_the_policy() -> None:
    spec = PolicySpec(name="profile", params={"scorers": [{"name": "queue", "weight": "x"}], "picker": {"name": "bst"}})
    (problem,) = problems_in(settings(pool(policy=spec)))
    assert problem.where == "pools[0].policy.params"
    assert problem.message == (
        "profile: params.scorers[0].weight must be a number from 0 up to 1000, not 'x'; "
        "params.picker.name: no picker 'bst' (did you mean 'best'?); there are: best, weighted, top_k"
    )


def test_a_pool_that_may_be_empty_needs_its_models_named() -> None:
    source = Discovery(source="dns://a:8000")
    assert found(settings(pool(discovery=source, scale_from_zero_s=60.0))) == [
        ("pools[0].scale_from_zero_s", "warning")
    ]
    assert found(settings(pool(discovery=source, scale_from_zero_s=60.0, models=["m"]))) == []
    assert found(settings(pool(discovery=source, scale_from_zero_s=60.0), default_pool="a")) == []
