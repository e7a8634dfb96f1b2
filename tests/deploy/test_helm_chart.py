"""The Helm chart: every option renders, installs (dry) and is valid for every supported version of Kubernetes, and its
objects are those that kustomize makes of deploy/kubernetes.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes import manifest_rules
from tests.fakes.chart_cases import CASES
from tests.fakes.each_case import each_case
from tests.fakes.helm_chart import CHART, Release, helm, parsed, render_chart
from tests.fakes.kubernetes_network import End, allowed
from tests.fakes.kubernetes_schema import VERSIONS, problems
from tests.fakes.rendered_manifests import KUBERNETES, Manifest, Render, render
from tests.fakes.waiting import DEADLINE_S

pytestmark = pytest.mark.slow

ADDED = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}
"""Labels that only the chart sets: several releases may be in one namespace."""

NOT_HERE = {
    "the_configuration_is_one_that_serve_accepts": {
        "TLS and API keys": "its files are in the pod",
        "client certificates, tokens and an audit log": "the same",
    },
    "the_gateway_s_account_has_the_role": {
        "two pools in other namespaces": "a binding in each",
        "accounts and roles made by another team": "as it says",
    },
    "roles_allow_exactly_what_discovery_needs": {"accounts and roles made by another team": "as it says"},
    "no_budget_blocks_the_drain_of_a_node": {"accounts and roles made by another team": "no budget"},
    "every_referenced_key_exists": {"a Redis of one's own": "another Secret"},
    "no_image_is_pulled_that_kind_has_loaded": {"an image by its digest": "as it says"},
    "every_image_has_a_fixed_tag": {"an image by its digest": "has none"},
    "every_container_says_what_it_needs": {"a larger Redis": "the cluster's default for memory"},
}
"""Rule of tests/fakes/manifest_rules.py -> case that breaks it on purpose -> why."""


@cache
def case(name: str) -> Render:
    """The render of a case; for reading only."""
    return render_chart(CASES[name])


@each_case("name", CASES)
def test_helm_lint_finds_nothing(name: str) -> None:
    found = helm().ask("lint", CASES[name], f"v{VERSIONS[0]}.0")
    assert [each["error"] for each in found if each["error"] != "icon is recommended"] == []


@each_case("name", CASES)
def test_each_object_is_valid_for_every_supported_version_of_kubernetes(name: str) -> None:
    for each in case(name).manifests:
        for version in VERSIONS:
            assert list(new_problems(json.dumps(each), version)) == []


@cache
def new_problems(manifest: str, version: str) -> list[str]:
    """Most objects are the same in all cases."""
    return list(problems(json.loads(manifest), version))


@each_case("name", CASES)
def test_the_objects_keep_the_rules_of_the_overlays(name: str) -> None:
    # A rule looks for the gateway by its usual name.
    made = render_chart({key: value for key, value in CASES[name].items() if key != "fullnameOverride"})
    for rule in manifest_rules.RULES:
        if name not in NOT_HERE.get(rule.__name__, {}):
            assert list(rule(made)) == [], rule.__name__


@each_case("name", CASES)
def test_a_dry_installation_makes_the_same_objects(name: str) -> None:
    release = helm().ask("install", CASES[name], "turnout", "turnout")
    made = list(parsed(release["manifest"]))
    tests = [each for each in case(name).manifests if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert by_key(made) == by_key(each for each in case(name).manifests if each not in tests)
    assert [each["kind"] for each in tests] == ["Pod"]


def by_key(manifests: Iterator[Manifest] | list[Manifest]) -> Mapping[tuple[str, str, str], Manifest]:
    """Objects by what identifies them in a cluster."""
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in manifests}


def test_the_cases_have_every_custom_resource() -> None:
    kinds = {each["kind"] for name in CASES for each in case(name).manifests}
    assert {"HTTPRoute", "PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject", "Ingress"} <= kinds


# --- the same objects as kustomize


def normal(value: Any) -> Any:
    """An object without what only the chart adds, and without the hash in the name of kustomize's ConfigMap."""
    if isinstance(value, dict):
        return {key: normal(each) for key, each in value.items() if key not in {*ADDED, "checksum/config"}}
    if isinstance(value, list):
        return [normal(each) for each in value]
    return re.sub(r"^turnout-[a-z0-9]{10}$", "turnout", value) if isinstance(value, str) else value


def same(ours: Manifest, theirs: Manifest) -> None:
    """Whether the chart's object is kustomize's, with more labels at most."""
    mine, other = normal(ours), normal(theirs)
    labels = mine["metadata"].pop("labels", {})
    assert other["metadata"].pop("labels", {}).items() <= labels.items()
    for each in (mine, other):
        if each["kind"] == "ConfigMap":
            each["data"] = {name: yaml.safe_load(text) for name, text in each["data"].items()}
    assert mine == other


USED = {
    "autoscaling": {"enabled": True},
    "priorityClass": {"name": "turnout-gateway", "value": 100000},
}
"""Values that make the chart what the overlay `vllm` is."""
OF_ENGINES = {("StatefulSet", "vllm"), ("Service", "engines"), ("PodDisruptionBudget", "vllm")}
"""Objects of that overlay that are no gateways'. Its other ConfigMap is the engines', too."""


@pytest.mark.needs("kubectl")
def test_the_chart_makes_the_objects_of_the_overlay() -> None:
    chart = {(each["kind"], normal(each["metadata"]["name"])): each for each in render_chart(USED).manifests}
    overlay = {(each["kind"], normal(each["metadata"]["name"])): each for each in render("vllm").manifests}
    engines = {key for key in overlay if key in OF_ENGINES or key[1].startswith("engine-drain")}
    assert chart.keys() - overlay.keys() == {("Pod", "turnout-test")}
    assert overlay.keys() - chart.keys() == engines
    for key in overlay.keys() - engines:
        same(chart[key], overlay[key])


@pytest.mark.needs("kubectl")
def test_secrets_are_where_the_components_mount_them(tmp_path: Path) -> None:
    kustomization = {
        "namespace": "turnout",
        "resources": [os.path.relpath(KUBERNETES / "base", tmp_path)],
        "components": [os.path.relpath(KUBERNETES / "components" / name, tmp_path) for name in ("keys", "tls")],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    theirs = Render("components", list(parsed(done.stdout))).find("Deployment", "turnout")
    values = {
        "tls": {"secretName": "turnout-tls"},
        "authKeys": {"secretName": "turnout-keys"},
        "priorityClass": USED["priorityClass"],
    }
    same(render_chart(values).find("Deployment", "turnout"), theirs)


def test_engines_are_scaled_as_by_the_component() -> None:
    engine = {"pool": "default", "kind": "StatefulSet", "name": "vllm", "maxReplicas": 8}
    (ours,) = render_chart({"engineScaling": {"engines": [engine]}}).all("ScaledObject")
    theirs = yaml.safe_load((KUBERNETES / "components/engine-scaling/scaledobject.yaml").read_text())
    for trigger in ours["spec"]["triggers"]:
        # Another installation may have a pool of that name.
        trigger["metadata"]["query"] = trigger["metadata"]["query"].replace('namespace="turnout",', "")
    assert ours["spec"] == theirs["spec"]


@pytest.mark.needs("kubectl")
def test_prometheus_and_grafana_get_what_the_overlay_gives_them() -> None:
    ours, theirs = case("all that is for Prometheus and Grafana"), render("monitoring")
    (scrape,), (their_scrape,) = ours.all("ServiceMonitor"), theirs.all("ServiceMonitor")
    assert scrape["spec"]["endpoints"] == their_scrape["spec"]["endpoints"]
    wanted = scrape["spec"]["selector"]["matchLabels"].items()
    services = [each for each in ours.all("Service") if wanted <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in services] == ["turnout-control"]
    (rule,), (their_rule,) = ours.all("PrometheusRule"), theirs.all("PrometheusRule")
    assert rule["spec"] == their_rule["spec"]
    assert rule["metadata"]["labels"]["release"] == their_rule["metadata"]["labels"]["release"]
    board, their_board = (each.find("ConfigMap", "turnout-dashboard") for each in (ours, theirs))
    assert json.loads(board["data"]["turnout.json"]) == json.loads(their_board["data"]["turnout.json"])
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


# --- what only the chart can get wrong


def test_two_releases_share_a_namespace_and_the_cluster() -> None:
    first, second = (render_chart(release=Release(name)) for name in ("turnout", "blue"))
    assert not by_key(first.manifests).keys() & by_key(second.manifests).keys()
    assert second.find("Deployment", "blue-turnout")
    for each in second.all("Service"):
        for workload in first.workloads():
            assert not each["spec"]["selector"].items() <= workload.labels.items()


def test_a_changed_file_rolls_the_deployment() -> None:
    def checksum(values: Mapping[str, Any]) -> str:
        pod = render_chart(values).find("Deployment", "turnout")["spec"]["template"]
        return str(pod["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) != checksum({"config": {"drain": {"timeout_s": 60}}})
    assert checksum({}) == checksum({"replicas": 3})


def test_of_a_file_with_secrets_nothing_is_wrong_but_that_they_are_not_here() -> None:
    for name in NOT_HERE["the_configuration_is_one_that_serve_accepts"]:
        places = {problem.where for problem in case(name).config().problems}
        assert places
        assert {place.rpartition(".")[2] for place in places} <= {"keys_file", "audit_file", "tls", "cert_file"}, places


def test_values_reach_the_gateway_s_file_unchanged() -> None:
    render = case("two pools in other namespaces")
    settings = render.config().settings
    assert settings.limits.max_body_bytes == 67108864
    assert [pool.name for pool in settings.pools] == ["llama", "qwen"]
    assert render.gateway.spec["terminationGracePeriodSeconds"] == 20 + 601 + 20
    assert render.port_of(render.container, "inference") == 8080
    both = case("client certificates, tokens and an audit log").config().settings
    assert both.tls is not None
    assert (both.tls.cert_file, both.tls.client_ca_file) == ("/etc/turnout-tls/tls.crt", "/etc/turnout-tls/ca.crt")


def test_probes_ask_a_port_that_wants_no_certificate() -> None:
    container = case("client certificates, tokens and an audit log").container
    asked = {name: each["httpGet"] for name, each in container.items() if name.endswith("Probe")}
    assert {each["port"] for each in asked.values()} == {"control"}
    assert {each["scheme"] for each in asked.values()} == {"HTTPS"}


def test_roles_are_in_each_namespace_and_for_the_one_account() -> None:
    render = case("two pools in other namespaces")
    assert [each["metadata"]["namespace"] for each in render.all("Role")] == ["turnout", "llama", "qwen"]
    for each in render.all("RoleBinding"):
        assert each["subjects"] == [{"kind": "ServiceAccount", "name": "turnout", "namespace": "turnout"}]


def test_narrowed_clients_and_the_release_s_own_test_may_send_requests() -> None:
    render = case("the Gateway API")
    gateway = End("turnout", render.gateway.labels, ports={"inference": 8000, "control": 9000})
    test = render.find("Pod", "turnout-test")
    assert allowed(render, End("gateways", {"app": "envoy"}), gateway, 8000)
    assert allowed(render, End("turnout", test["metadata"]["labels"]), gateway, 8000)
    assert not allowed(render, End("apps", {"app": "chat"}), gateway, 8000)
    assert allowed(render, End("observability", {"app": "prometheus"}), gateway, 9000)
    assert allowed(render, gateway, End("turnout", {"app": "vllm"}), 8001)
    assert allowed(render, gateway, End(address="10.0.0.1"), 443)
    assert not allowed(render, gateway, End(address="10.0.0.2"), 443)


def test_a_redis_elsewhere_may_be_reached_and_needs_no_password() -> None:
    render = case("a Redis of one's own")
    gateway = End("turnout", render.gateway.labels)
    assert allowed(render, gateway, End("data", {"app": "redis"}), 6380)
    assert not allowed(render, gateway, End("data", {"app": "redis"}), 6379)
    (password,) = [each for each in render.container["env"] if each["name"] == "TURNOUT_STATE_PASSWORD"]
    assert password["valueFrom"]["secretKeyRef"] == {
        "name": "turnout-secrets",
        "key": "redis-password",
        "optional": True,
    }


def test_the_test_of_a_release_checks_its_file_and_connects_to_its_service() -> None:
    render = case("a load balancer and an ingress")
    pod = render.find("Pod", "turnout-test")
    check, connect = pod["spec"]["containers"]
    assert check["args"] == ["check", render.config_path()]
    assert {each["name"] for each in check["env"]} == {each["name"] for each in render.container["env"]}
    assert check["volumeMounts"] == render.container["volumeMounts"]
    service = render.find("Service", "turnout")
    address = (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert f"create_connection({address}, 10)" in connect["command"][2]
    assert pod["spec"]["securityContext"] == render.gateway.spec["securityContext"]
    assert all(each["securityContext"] == render.container["securityContext"] for each in (check, connect))


def test_the_test_of_a_release_fails_where_nobody_accepts() -> None:
    program, *given = render_chart().find("Pod", "turnout-test")["spec"]["containers"][1]["command"]
    assert program == "python"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, given[0], given[1].replace("('turnout', 8000)", f"('127.0.0.1', {port})")]
        assert subprocess.run(command, timeout=DEADLINE_S, check=False).returncode == 0
    assert subprocess.run(command, timeout=DEADLINE_S, check=False, stderr=subprocess.DEVNULL).returncode == 1


def test_the_notes_name_objects_that_are_there() -> None:
    release = helm().ask("install", {}, "blue", "here")
    made = Render("notes", list(parsed(release["manifest"])))
    for kind, name in re.findall(r"(deployment|service)/([\w-]+)", release["notes"]):
        assert made.find(kind.capitalize(), name)
    assert "create secret generic blue-turnout" in release["notes"]
    assert release["notes"].count("--namespace here") == 5


def test_a_package_has_the_linked_files_and_the_version_of_the_overlays(tmp_path: Path) -> None:
    packed = helm().ask("load", helm().ask("package", str(tmp_path)))
    (image,) = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())["images"]
    assert packed["version"] == image["newTag"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == image["newTag"]
    assert {"files/alerts.yaml", "files/dashboard.json"} <= set(packed["files"])
    assert f'">={VERSIONS[0]}.0-0"' in (CHART / "Chart.yaml").read_text()
