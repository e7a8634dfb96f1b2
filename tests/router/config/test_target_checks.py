"""Rules for names by which one setting refers to another."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.checks import problems_in
from router.settings import Auth, PolicySpec, Pool, Settings, TargetClient, Targets, TenantSettings
from tests.fakes.each_case import each_case

HASH = "ab" * 32
READY = {"mine": PolicySpec(name="session_affinity", params={"balance_factor": 3.0})}


def pool(name: str, **more: Any) -> Pool:
    return Pool(name=name, pods=[f"http://{name}:1"], **more)


def found(*pools: Pool, **more: Any) -> list[tuple[str, str, str]]:
    settings = Settings(pools=list(pools) or [pool("a")], **more)
    return [(problem.where, problem.severity, problem.message) for problem in problems_in(settings)]


def test_valid_settings_have_no_problems() -> None:
    a = pool("a", models=["m"], aliases={"x": "m"}, fallback=["b"], policy=PolicySpec(name="mine"), cluster="east")
    b = pool("b", models=["n"], aliases={"m": "n"}, fallback=["a"], allowed_policies=["mine", "p2c"])
    clients = [TargetClient(key_sha256=HASH, allow=["*"])]
    problems_found = found(a, b, policies=READY, targets=Targets(allow=["east", "b"], clients=clients))
    assert [each for each in problems_found if each[1] == "error"] == []


ERRORS: dict[str, tuple[list[Pool], dict[str, Any], str, str]] = {
    "a name that is no word": ([], {"policies": {"a b": PolicySpec()}}, "policies.a b", "is no name"),
    "a name that is taken": ([], {"policies": {"p2c": PolicySpec()}}, "policies.p2c", "is a policy already"),
    "a policy there is not": ([], {"policies": {"x": PolicySpec(name="p3c")}}, "policies.x.name", "did you mean 'p2c'"),
    "parameters there are not": (
        [],
        {"policies": {"x": PolicySpec(name="p2c", params={"k": 1})}},
        "policies.x.params",
        "k",
    ),
    "a name for a name": (
        [],
        {"policies": READY | {"x": PolicySpec(name="mine")}},
        "policies.x.name",
        "'mine' is ready-made too",
    ),
    "parameters for a ready-made one": (
        [pool("a", policy=PolicySpec(name="mine", params={"balance_factor": 1.0}))],
        {"policies": READY},
        "pools[0].policy.params",
        "takes no parameters",
    ),
    "a pool's unknown policy": (
        [pool("a", policy=PolicySpec(name="mone"))],
        {"policies": READY},
        "pools[0].policy.name",
        "ready-made: mine",
    ),
    "an allowed policy there is not": (
        [pool("a", allowed_policies=["mine", "thine"])],
        {"policies": READY},
        "pools[0].allowed_policies[1]",
        "no policy 'thine'",
    ),
    "a pool that falls back to itself": ([pool("a", fallback=["a"])], {}, "pools[0].fallback[0]", "is the pool itself"),
    "a fall-back there is not": (
        [pool("alpha", fallback=["beto"]), pool("beta")],
        {},
        "pools[0].fallback[0]",
        "did you mean 'beta'?",
    ),
    "a fall-back twice": (
        [pool("a", fallback=["b", "b"]), pool("b")],
        {},
        "pools[0].fallback[1]",
        "each is tried once",
    ),
    "a fall-back that serves nothing of it": (
        [pool("a", models=["m"], fallback=["b"]), pool("b", models=["n"])],
        {},
        "pools[0].fallback[0]",
        "pool 'b' serves none of m",
    ),
    "a negative wait": ([pool("a", fallback=["b"], fallback_after_s=-1), pool("b")], {}, "", "at least 0"),
    "a target there is not": ([], {"targets": Targets(allow=["b"])}, "targets.allow[0]", "there are: a"),
    "a client's target there is not": (
        [],
        {"targets": Targets(clients=[TargetClient(key_sha256=HASH, allow=["a", "b"])])},
        "targets.clients[0].allow[1]",
        "no pool or cluster 'b'",
    ),
    "a key and not its hash": (
        [],
        {"targets": Targets(clients=[TargetClient(key_sha256="sk-123")])},
        "targets.clients[0].key_sha256",
        "64 hexadecimal digits",
    ),
    "one key twice": (
        [],
        {"targets": Targets(clients=[TargetClient(key_sha256=HASH), TargetClient(key_sha256=HASH.upper())])},
        "targets.clients[1].key_sha256",
        "is the key of clients[0] too",
    ),
}


@each_case(("pools", "more", "where", "words"), list(ERRORS.values()), ids=list(ERRORS))
def test_an_error_is_reported_at_its_place(pools: list[Pool], more: dict[str, Any], where: str, words: str) -> None:
    errors = [(place, message) for place, severity, message in found(*pools, **more) if severity == "error"]
    ((place, message),) = errors
    assert place == where or not where
    assert words in message


def test_no_message_contains_an_api_key() -> None:
    problems_found = found(targets=Targets(clients=[TargetClient(key_sha256="sk-secret")]))
    assert "secret" not in str(problems_found)


def test_a_target_that_only_some_requests_can_use_is_a_warning() -> None:
    a = pool("a", models=["m", "n"], aliases={"x": "m", "y": "n"}, fallback=["b"])
    b = pool("b", models=["k"], aliases={"x": "k"})
    ((place, severity, message),) = [each for each in found(a, b) if "fallback" in each[0]]
    assert (place, severity) == ("pools[0].fallback[0]", "warning")
    assert "does not serve n, y" in message


@pytest.mark.parametrize("more", [{}, {"fallback": ["b"]}])
def test_a_wait_that_never_happens_is_a_warning(more: dict[str, Any]) -> None:
    problems_found = found(pool("a", fallback_after_s=1.0, **more), pool("b"))
    assert [(place, severity) for place, severity, _ in problems_found] == [("pools[0].fallback_after_s", "warning")]


def test_a_model_in_two_pools_is_no_warning_if_one_pool_falls_back_to_the_other() -> None:
    assert found(pool("a", models=["m"], fallback=["b"]), pool("b", models=["m"], fallback=["a"])) == []
    assert len(found(pool("a", models=["m"]), pool("b", models=["m"]))) == 1


def test_the_section_targets_has_no_effect_with_auth() -> None:
    given = found(targets=Targets(allow=["*"]), auth=Auth(keys_file="none"), tenants=[TenantSettings(name="a")])
    assert ("targets", "warning") in [each[:2] for each in given]
