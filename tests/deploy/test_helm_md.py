"""docs/helm.md: its commands of `helm` are run by Helm's library, without a cluster; its values are rendered; what it
says is refused is refused.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.fakes.each_case import each_case
from tests.fakes.helm_chart import CHART, Refused, Release, helm, render_chart, text_of
from tests.fakes.kubernetes_schema import VERSIONS
from tests.fakes.rendered_manifests import MADE_BY_HAND, ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/helm.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
(BLOCK,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
VALUES: dict[str, Any] = yaml.safe_load(BLOCK)
OF_RELEASES = {"test", "rollback"}
"""Commands of a release that is there."""


def words(command: str) -> tuple[list[str], dict[str, str]]:
    """A command's plain words and its flags."""
    given = iter(shlex.split(command)[1:])
    plain, flags = [], {}
    for word in given:
        if word.startswith("--"):
            flags[word] = "" if word == "--install" else next(given)
        else:
            plain.append(word)
    return plain, flags


def values_of(flags: dict[str, str]) -> dict[str, Any]:
    """The values that a command gives."""
    if "--set" in flags:
        path, _, value = flags["--set"].partition("=")
        for key in reversed(path.split(".")):
            value = {key: value}  # type: ignore[assignment]
        return value  # type: ignore[return-value]
    return VALUES if "--values" in flags else {}


@each_case("command", [command for command in COMMANDS if command.startswith("helm ")])
def test_each_command_of_helm_works(command: str) -> None:
    (what, *rest), flags = words(command)
    values = values_of(flags)
    if what == "lint":
        assert ROOT / rest[0] == CHART
        assert [each for each in helm().ask("lint", values, f"v{VERSIONS[-1]}.0") if each["severity"] > 1] == []
        return
    assert (rest[0], flags["--namespace"]) == ("turnout", "turnout")
    if what not in OF_RELEASES:
        assert ROOT / rest[1] == CHART
        assert helm().ask("install", values, rest[0], flags["--namespace"])["status"] == "pending-install"


def test_the_secret_it_creates_is_the_one_that_the_pods_read() -> None:
    (command,) = [command for command in COMMANDS if "create secret" in command]
    assert set(re.findall(r"--from-literal=([\w-]+)=", command)) == MADE_BY_HAND["turnout"]
    refs = [each["valueFrom"]["secretKeyRef"] for each in render_chart().container["env"] if "Secret" in str(each)]
    assert {each["name"] for each in refs} <= {"turnout"}


def test_the_values_of_the_page_reach_the_objects() -> None:
    render = render_chart(VALUES)
    assert [pool.name for pool in render.config().settings.pools] == ["llama"]
    assert [each["metadata"]["namespace"] for each in render.all("Role")] == ["turnout", "models"]
    assert render.container["image"].startswith("registry.example.com/turnout:")
    assert {"ServiceMonitor", "HorizontalPodAutoscaler"} <= {each["kind"] for each in render.manifests}


def test_what_the_page_says_is_refused_is_refused_in_these_words() -> None:
    for values, words_of in (
        ({"config": {"drain": {"settle": 1}}}, "at '/config/drain': additional properties 'settle' not allowed"),
        ({"replicas": "2"}, "at '/replicas': got string, want integer"),
    ):
        with pytest.raises(Refused, match=re.escape(words_of)):
            text_of(values)
        assert f"    {words_of}\n" in PAGE


def test_every_value_that_the_page_names_is_there() -> None:
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in set(re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:: [^`]*)?`", PAGE)) - {"values.yaml"}:
        where: Any = known
        for key in path.split("."):
            if key not in where:
                assert path.startswith("config."), path
                break
            where = where[key]


def test_the_page_names_the_versions_that_are_checked() -> None:
    assert f"Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}" in " ".join(PAGE.split())


def test_a_release_of_another_name_is_complete() -> None:
    blue = render_chart(release=Release("blue", "apps"))
    assert {each["metadata"].get("namespace", "apps") for each in blue.manifests} == {"apps"}
    assert (
        blue.find("ConfigMap", "blue-turnout")["data"]["turnout.yaml"].count("redis://blue-turnout-redis:6379/0") == 1
    )
