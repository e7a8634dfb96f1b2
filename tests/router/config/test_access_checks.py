"""Wrong values of `auth` and `tenants` are named with what is right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from router.config.checks import problems_in
from router.settings import Auth, JwtAuth, PolicySpec, Pool, Settings, TenantLimit, TenantSettings
from tests.fakes.each_case import each_case
from tests.fakes.identity_provider import IdentityProvider
from tests.fakes.known_keys import record

POOL = Pool(name="llama", pods=["http://127.0.0.1:1"], cluster="east")


def said(settings: Settings, severity: str = "error") -> dict[str, str]:
    return {each.where: each.message for each in problems_in(settings) if each.severity == severity}


def tenant(**fields: object) -> Settings:
    section = TenantSettings(**{"name": "search", **fields})  # type: ignore[arg-type]
    return Settings(pools=[POOL], policies={"own": PolicySpec(name="p2c")}, tenants=[section])


@each_case(
    "fields",
    [
        {},
        {"models": ("any", "thing"), "pools": ("llama",), "targets": ["east", "llama"], "policies": ["own", "p2c"]},
        {"pools": ("*",), "targets": ["*"], "policies": ["*"], "default_pool": "llama"},
        {"policies": ["mine@2"]},
        {"default_pool": "east", "headers": ("priority", "deadline", "slo")},
        {"headers": ("*",), "pools": ("llama",), "default_pool": "east"},
        {"priority": -3, "weight": 0.5, "requests_per_minute": 60, "tokens_per_minute": 1, "max_inflight": 1},
    ],
)
def test_a_right_tenant_has_no_problem(fields: dict[str, object]) -> None:
    assert said(tenant(**fields)) == {}


@each_case(
    "fields, where, why",
    [
        ({"name": ""}, "name", "is no name"),
        ({"name": "a b"}, "name", "is no name"),
        ({"pools": ("lama",)}, "pools[0]", "no pool 'lama'; did you mean 'llama'?"),
        ({"targets": ["", "llama"]}, "targets[0]", "no pool or cluster ''"),
        ({"policies": ["owm"]}, "policies[0]", "no policy 'owm'; did you mean 'own'?"),
        ({"default_pool": "qwen"}, "default_pool", "no pool or cluster 'qwen'; there are: east, llama"),
        ({"headers": ("slow",)}, "headers[0]", "no right to a header 'slow'; did you mean 'slo'?"),
        ({"default_pool": "llama", "pools": ()}, "default_pool", "not among the tenant's own"),
        ({"requests_per_minute": -1}, "requests_per_minute", "at least 0, not -1"),
        ({"tokens_per_minute": -1}, "tokens_per_minute", "at least 0"),
        ({"max_inflight": -1}, "max_inflight", "at least 0"),
        ({"weight": 0.0}, "weight", "more than 0"),
        ({"weight": float("nan")}, "weight", "finite"),
        ({"priority": 10**9}, "priority", "at most"),
    ],
)
def test_what_is_wrong_with_a_tenant_is_said(fields: dict[str, object], where: str, why: str) -> None:
    (found,) = said(tenant(**fields)).items()
    assert found[0] == f"tenants[0].{where}"
    assert why in found[1]


def test_two_tenants_have_two_names() -> None:
    settings = Settings(pools=[POOL], tenants=[TenantSettings(name="a"), TenantSettings(name="a")])
    assert said(settings) == {"tenants[1].name": "'a' is the name of tenants[0] too"}


def test_a_limit_without_a_number_is_an_error() -> None:
    rows = [TenantLimit(model="big", tokens_per_minute=5), TenantLimit(key="*")]
    assert said(tenant(limits=rows)) == {
        "tenants[0].limits[1]": "limits nothing: set requests_per_minute, tokens_per_minute or max_inflight"
    }


def test_a_negative_limit_is_an_error() -> None:
    rows = [TenantLimit(model="big", tokens_per_minute=-5)]
    assert "must be at least 0" in said(tenant(limits=rows))["tenants[0].limits[0].tokens_per_minute"]


def test_names_of_certificates_need_clients_that_are_asked_for_one_and_one_tenant_each() -> None:
    names = [("CN:a", "DNS:", "a"), ("CN:a",)]
    tenants = [TenantSettings(name=f"t{at}", certificates=each) for at, each in enumerate(names)]
    found = said(Settings(pools=[POOL], auth=Auth(), tenants=tenants))
    assert {where: why.split(":")[0] for where, why in found.items()} == {
        "tenants[0].certificates": "no client is asked for a certificate",
        "tenants[0].certificates[1]": "'DNS",
        "tenants[0].certificates[2]": "'a' is no name",
        "tenants[1].certificates": "no client is asked for a certificate",
        "tenants[1].certificates[0]": "'CN",
    }


def test_tenants_without_auth_are_a_warning() -> None:
    assert "no effect without `auth`" in said(tenant(), "warning")["tenants"]


def with_auth(auth: Auth, *tenants: str) -> Settings:
    return Settings(pools=[POOL], auth=auth, tenants=[TenantSettings(name=name) for name in tenants])


def test_auth_that_lets_no_one_in_is_an_error() -> None:
    assert "set keys_file, keys_from or jwt" in said(with_auth(Auth(), "search"))["auth"]


def test_auth_without_a_tenant_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("keys: []")
    assert "there is no tenant" in said(with_auth(Auth(keys_file=str(path))))["auth"]


def test_a_keys_file_that_cannot_be_used_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    settings = with_auth(Auth(keys_file=str(path)), "search")
    missing = said(settings)["auth.keys_file"]
    assert missing.startswith(f"{path} cannot be read: No such file")
    assert "turnout keys create" in missing
    path.write_text("keys: [1]")
    assert said(settings)["auth.keys_file"].startswith(f"{path} is not a file of keys: ")


def test_keys_of_a_tenant_that_is_not_there_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys: [{{name: ci, tenant: serch, sha256: {record().sha256}}}]")
    settings = with_auth(Auth(keys_file=str(path)), "search")
    assert said(settings) == {}
    warning = said(settings, "warning")["auth.keys_file"]
    assert "key 'ci' is refused, as there is no tenant 'serch'; did you mean 'search'?" in warning


def test_keys_in_a_state_that_ends_with_the_process_are_a_warning() -> None:
    settings = with_auth(Auth(keys_from="state"), "search")
    assert said(settings) == {}
    assert "end with the process" in said(settings, "warning")["auth.keys_from"]


@each_case(
    "auth, why",
    [(Auth(keys_from="redis"), "is not known; write state"), (Auth(keys_from="state", keys_file="x"), "both")],
)
def test_keys_come_from_one_place(auth: Auth, why: str) -> None:
    assert why in said(with_auth(auth, "search"))["auth.keys_from"]


def test_tokens_need_their_settings_and_a_key_set(tmp_path: Path) -> None:
    provider, path = IdentityProvider(), tmp_path / "jwks.json"
    right = provider.write(path)
    assert said(with_auth(Auth(jwt=right), "search")) == {}
    empty = said(with_auth(Auth(jwt=JwtAuth(issuer="", audience="", jwks_file="", tenant_claim="")), "search"))
    assert set(empty) == {f"auth.jwt.{name}" for name in ("issuer", "audience", "jwks_file", "tenant_claim")}
    path.write_text("{}")
    assert "no JSON Web Key Set" in said(with_auth(Auth(jwt=right), "search"))["auth.jwt.jwks_file"]
    path.unlink()
    assert "cannot be read: No such file" in said(with_auth(Auth(jwt=right), "search"))["auth.jwt.jwks_file"]


def test_tokens_without_their_library_are_an_error_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_auth(Auth(jwt=IdentityProvider().write(tmp_path / "jwks.json")), "search")
    monkeypatch.setitem(sys.modules, "router.access.tokens", None)
    assert "pip install 'turnout[jwt]'" in said(settings)["auth.jwt"]
