"""Rules for pools that serve no models."""

from __future__ import annotations

from typing import Any

import pytest

from router.config import service_checks
from router.config.checks import problems_in
from router.settings import PolicySpec, Pool, PoolService, PoolSlo, Settings
from tests.fakes.each_case import each_case

AFFINE = PolicySpec(name="session_affinity")


def pool(name: str, *paths: str, kind: str = "http", **more: Any) -> Pool:
    fields: dict[str, Any] = {"policy": AFFINE} | more
    service = PoolService(paths=list(paths), session=fields.pop("session", []), deadlines_s=fields.pop("within", {}))
    return Pool(name=name, pods=[f"http://{name}:1"], kind=kind, service=service, **fields)


def found(*pools: Pool, **more: Any) -> list[tuple[str, str, str]]:
    problems = problems_in(Settings(pools=list(pools), **more))
    return [(problem.where, problem.severity, problem.message) for problem in problems]


def test_valid_pools_have_no_problems() -> None:
    session = ["header:x-agent-id", "cookie:agent", "path:1"]
    agents = pool("a", "/agents/*", "/a2a", session=session, affinity="hold", within={"/agents/slow/*": 60.0})
    tools = pool("t", "/agents/tools/*", fallback=["a"], policy=PolicySpec(name="p2c"))
    grpc = pool("g", kind="grpc", session=["header:x-id"], within={"/a.B/*": 9.0, "/*": 60.0})
    named = pool("n", "/a.B/*", "/a.C/Do", kind="grpc")
    assert found(agents, tools, grpc, named, Pool(name="m", pods=["http://m:1"])) == []


ERRORS: dict[str, tuple[list[Pool], dict[str, Any], str, str]] = {
    "a kind there is not": ([pool("a", "/a", kind="tcp")], {}, "pools[0].kind", "'tcp' is not one of llm, http"),
    "paths of a pool with models": ([pool("a", "/a", kind="llm")], {}, "pools[0].service", "set `kind: http`"),
    "no path": ([pool("a")], {}, "pools[0].service.paths", "is empty"),
    "no slash": ([pool("a", "agents")], {}, "pools[0].service.paths[0]", "is no path; write"),
    "a star inside": ([pool("a", "/a*")], {}, "pools[0].service.paths[0]", "is no path; write"),
    "dots": ([pool("a", "/a/%2e%2e/b")], {}, "pools[0].service.paths[0]", "is no path; write"),
    "all paths": ([pool("a", "/*")], {}, "pools[0].service.paths[0]", "would take the gateway's own"),
    "a path of the gateway": ([pool("a", "/v1/a/*")], {}, "pools[0].service.paths[0]", "as /v1 is"),
    "a probe": ([pool("a", "/health")], {}, "pools[0].service.paths[0]", "as /health is"),
    "a path of two pools": ([pool("a", "/x"), pool("b", "/x")], {}, "pools[1].service.paths[0]", "of pool 'a' already"),
    "a path twice": ([pool("a", "/x", "/x")], {}, "pools[0].service.paths[1]", "of pool 'a' already"),
    "a session nowhere": ([pool("a", "/x", session=["x"])], {}, "pools[0].service.session[0]", "none of header:"),
    "part 0": ([pool("a", "/x", session=["path:0"])], {}, "pools[0].service.session[0]", "path:1 is the first"),
    "a cookie's name": ([pool("a", "/x", session=["cookie:a b"])], {}, "pools[0].service.session[0]", "cookie:agent"),
    "hold without sessions": ([pool("a", "/x", affinity="hold")], {}, "pools[0].service.session", "needs sessions"),
    "no time": ([pool("a", "/x", within={"/x": 0.0})], {}, "pools[0].service.deadlines_s./x", "more than 0, not 0"),
    "time of no path": ([pool("a", "/x", within={"x": 1.0})], {}, "pools[0].service.deadlines_s.x", "is no path"),
    "models": ([pool("a", "/x", models=["m"])], {}, "pools[0].models", "leave it out"),
    "an engine": ([pool("a", "/x", engine="vllm")], {}, "pools[0].engine", "leave it out"),
    "promised times": ([pool("a", "/x", slo=PoolSlo(ttft_s=1.0))], {}, "pools[0].slo", "leave it out"),
    "a learned limit": (
        [pool("a", "/x", max_inflight_per_pod="auto")],
        {},
        "pools[0].max_inflight_per_pod",
        "from engines only",
    ),
    "a fall-back of another kind": (
        [pool("a", "/x", fallback=["m"]), Pool(name="m", pods=["http://m:1"])],
        {},
        "pools[0].fallback[0]",
        "is `kind: llm`, this one `kind: http`",
    ),
    "two pools of all calls": (
        [pool("a", kind="grpc"), pool("b", kind="grpc")],
        {},
        "pools[1].service.paths",
        "of pool 'a' already",
    ),
    "calls that hold": (
        [pool("a", kind="grpc", affinity="hold", session=["header:x"])],
        {},
        "pools[0].affinity",
        "write prefer",
    ),
    "calls with a fall-back": (
        [pool("a", "/a.B/*", kind="grpc", fallback=["b"]), pool("b", "/a.C/*", kind="grpc")],
        {},
        "pools[0].fallback",
        "leave it out",
    ),
    "calls with cookies": (
        [pool("a", kind="grpc", session=["cookie:x"])],
        {},
        "pools[0].service.session[0]",
        "header:x-session-id",
    ),
    "the default pool": ([pool("a", "/x")], {"default_pool": "a"}, "default_pool", "'a' serves none"),
}


@each_case("pools, more, where, message", ERRORS.values(), ids=ERRORS)
def test_an_error_says_where_and_what_to_do(pools: list[Pool], more: dict[str, Any], where: str, message: str) -> None:
    errors = [(at, text) for at, severity, text in found(*pools, **more) if severity == "error"]
    assert [at for at, _ in errors] == [where]
    assert message in errors[0][1]


def test_a_policy_that_weighs_prompts_is_a_warning() -> None:
    warned = found(pool("a", "/x", policy=PolicySpec()))
    assert [(at, severity) for at, severity, _ in warned] == [("pools[0].policy.name", "warning")]


def test_grpc_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_checks, "find_spec", lambda name: None)
    assert [(at, text) for at, _, text in found(pool("g", kind="grpc"))] == [
        ("pools[0].kind", "gRPC needs the package hpack; run: pip install 'turnout[grpc]'")
    ]
