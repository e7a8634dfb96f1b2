"""What the hand-written pages say of manifests, variables and versions is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from router.cli.policy import AUTHOR_VARIABLE
from router.config.environment import FLAGS, SETTINGS
from router.errors import SHAPES
from statesync.engines.presets import ENGINES
from tests.fakes.compose_stack import SERVICES
from tests.fakes.each_case import each_case
from tests.fakes.kubernetes_schema import VERSIONS, problems
from tests.fakes.rendered_manifests import render

DOCS = Path(__file__).resolve().parents[2] / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text()


def manifests(name: str) -> Iterator[dict[str, Any]]:
    """The Kubernetes objects of a page."""
    for block in re.findall(r"^```yaml\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE):
        yield from (each for each in yaml.safe_load_all(block) if "apiVersion" in each)


@each_case("version", VERSIONS)
def test_the_ingress_is_valid_in_every_supported_version(version: str) -> None:
    (ingress,) = [each for each in manifests("ingress.md") if each["kind"] == "Ingress"]
    assert list(problems(ingress, version)) == []


def test_routes_and_ingresses_lead_to_the_service_of_the_inference_port_alone() -> None:
    service = render("vllm").find("Service", "turnout")
    ports = {each["name"]: each["port"] for each in service["spec"]["ports"]}
    by_kind = {each["kind"]: each for each in manifests("ingress.md")}
    for each in by_kind.values():
        assert each["metadata"]["namespace"] == service["metadata"]["namespace"]
    (path,) = by_kind["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == "turnout"
    assert path["backend"]["service"]["port"]["name"] in ports
    (rule,) = by_kind["HTTPRoute"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "turnout", "port": ports["inference"]}]
    assert by_kind["HTTPRoute"]["spec"]["parentRefs"] == [{"name": by_kind["Gateway"]["metadata"]["name"]}]


def test_the_environment_page_has_every_variable_with_its_flag() -> None:
    rows = dict(re.findall(r"^\| `(TURNOUT_\w+)` \| (`--[\w-]+`|) ?\|", text("environment.md"), re.MULTILINE))
    assert {*rows} >= {*SETTINGS, AUTHOR_VARIABLE}
    for variable, flag in FLAGS.items():
        assert f"| `{variable}` | `{flag}` |" in text("environment.md")


def test_the_compatibility_page_has_the_versions_and_engines_that_are_tested() -> None:
    page = text("compatibility.md")
    assert f"each version from {VERSIONS[0]} to {VERSIONS[-1]}" in page
    for engine in ENGINES:
        assert engine == "auto" or f"| `{engine}`" in page, engine


def test_the_addresses_of_the_compose_page_are_published() -> None:
    published = {each.rpartition(":")[0].rpartition(":")[2] for of in SERVICES.values() for each in of.get("ports", ())}
    page = text("start-compose.md")
    named = set(re.findall(r"127\.0\.0\.1:(\d+)", page))
    assert named and named <= published
    for service in re.findall(r"compose\.yaml (?:exec|up --no-deps --force-recreate --wait) ([\w-]+)", page):
        assert service in SERVICES


def test_the_page_on_the_access_log_has_every_field() -> None:
    sources = [DOCS.parent / "router/dataplane" / name for name in ("access_log.py", "usage.py")]
    source = "".join([each.read_text() for each in sources])
    fields = set(re.findall(r"""[{ ]"([a-z_]+)": |line\["(\w+)"\]""", source))
    rows = "".join(re.findall(r"^\| (`.+?`) \|", text("access-log.md"), re.MULTILINE))
    named = {first or second for first, second in fields}
    assert named >= {"request_id", "ttft_s", "reason", "cause", "completion_tokens"}
    assert [field for field in sorted(named) if f"`{field}`" not in rows] == []


def test_every_code_that_a_page_names_is_one_of_the_table() -> None:
    codes = {shape.code for shape in SHAPES.values()}
    for code in re.findall(r"\b[45]\d\d `(\w+)`", text("faq.md")):
        assert code in codes
