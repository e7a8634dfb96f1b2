"""Wrong values of `paths`, `cors` and `trusted_proxies` are named with what is right."""

from __future__ import annotations

import pytest

from router.config.checks import problems_in
from router.config.edge_checks import edge_problems
from router.settings import Cors, PathSettings, Pool, Settings
from tests.fakes.each_case import each_case

OWN_PORTS = ("https://a.com:443", "http://a.com:80", "http://[::1]:80", "https://münchen.example")
"""Browsers leave a scheme's own port out, and write names in ASCII."""


def said(settings: Settings) -> list[str]:
    return [".".join(map(str, problem.path)) for problem in edge_problems(settings)]


@pytest.mark.parametrize("path", ["/generate", "/v1/*", "/*", "/api/v2/x-y_z.json", "/v1/load_lora_adapter"])
def test_full_paths_and_beginnings_are_right(path: str) -> None:
    assert said(Settings(paths=PathSettings(forward=(path,)))) == []


@each_case("path", ["", "generate", "/a*b", "/a?x=1", "/../x", "/a b", "http://pod/generate", "/**"])
def test_what_is_no_path_is_named(path: str) -> None:
    assert said(Settings(paths=PathSettings(forward=("/v1/*", path)))) == ["paths.forward.1"]


@pytest.mark.parametrize(
    "origin",
    ["*", "https://a.example.com", "http://localhost:3000", "http://[::1]:3000", "null://x", "http://a.com:443"],
)
def test_exact_origins_are_right(origin: str) -> None:
    assert said(Settings(cors=Cors(allow_origins=[origin]))) == []


@pytest.mark.parametrize(
    "origin", ["", "a.example.com", "https://a/", "https://A.example.com", "https://*.a.com", *OWN_PORTS]
)
def test_what_no_browser_sends_as_an_origin_is_named(origin: str) -> None:
    assert said(Settings(cors=Cors(allow_origins=[origin]))) == ["cors.allow_origins.0"]


@pytest.mark.parametrize("proxy", ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"])
def test_addresses_and_networks_are_right(proxy: str) -> None:
    assert said(Settings(trusted_proxies=[proxy])) == []


@pytest.mark.parametrize("proxy", ["", "proxy.example.com", "10.0.0.1/8", "10.0.0.0/33"])
def test_what_is_no_network_is_named(proxy: str) -> None:
    settings = Settings(pools=[Pool(name="p", pods=["http://127.0.0.1:1"])], trusted_proxies=[proxy])
    assert said(settings) == ["trusted_proxies.0"]
    (problem,) = problems_in(settings)
    assert "10.0.0.0/8" in problem.message
