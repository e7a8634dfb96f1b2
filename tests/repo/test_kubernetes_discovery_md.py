"""docs/kubernetes-discovery.md: its configuration is valid, and its tables name the keys that the sources read."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import yaml

from router.config.checks import problems_in
from router.settings import Settings
from statesync.discovery.kubernetes import pod_objects
from statesync.discovery.kubernetes.target import RELIST_S, target_of
from statesync.discovery.source import NOT_READY, TERMINATING

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "kubernetes-discovery.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_its_pools_are_valid_and_match_the_text() -> None:
    settings = msgspec.convert(yaml.safe_load(BLOCKS[0]), Settings)
    assert [problem for problem in problems_in(settings) if problem.severity == "error"] == []
    own, several, everywhere, service, other = [target_of(pool.discovery.source) for pool in settings.pools]
    assert own.namespaces == ()
    assert several.namespaces == ("models", "research")
    assert everywhere.namespaces == ("*",)
    assert (service.service, service.port) == ("llm-serve-svc", "serve")
    assert (other.context, other.kubeconfig) == ("west", "/etc/turnout/kubeconfig")


def test_its_role_is_the_deployed_one() -> None:
    shown = yaml.safe_load(BLOCKS[1])
    deployed = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "base" / "rbac.yaml").read_text())
    (role,) = [each for each in deployed if each["kind"] == "Role"]
    assert shown["rules"] == role["rules"]


def test_its_tables_have_exactly_the_keys_that_the_sources_read() -> None:
    understood = {key for keys in pod_objects._KEYS.values() for key in keys}
    section = PAGE.partition("## What labels and annotations say")[2].partition("\n## ")[0]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("|"))
    named = {key for key in re.findall(r"`([^`]+)`", rows) if "/" in key and not key.startswith("/")} - {"/v1/models"}
    assert named | {"role-name", "model"} == understood


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"{RELIST_S:g} by default" in PAGE
    assert {NOT_READY, TERMINATING} <= set(re.findall(r"`(\w+)`", PAGE))
