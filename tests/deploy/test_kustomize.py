"""The base and every overlay build, and every supported version of Kubernetes accepts the manifests."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml

from tests.fakes.kubernetes_schema import CRDS, VERSIONS, problems
from tests.fakes.rendered_manifests import ALL, MADE_BY_HAND, OVERLAYS, ROOT, directory_of, render

NO_NAMESPACE = {"Namespace", "PriorityClass"}


def test_each_documented_setup_has_an_overlay() -> None:
    assert set(OVERLAYS) == {"quickstart", "vllm", "sglang", "kuberay", "multi-cluster", "monitoring"}


@pytest.mark.parametrize("name", ALL)
def test_it_builds_each_object_once(name: str) -> None:
    keys = [(each["kind"], each["metadata"]["name"]) for each in render(name).manifests]
    assert len(keys) == len(set(keys)) > 5


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ALL)
def test_its_objects_are_valid_for_kubernetes(name: str, version: str) -> None:
    assert [problem for each in render(name).manifests for problem in problems(each, version)] == []


def test_the_schemas_reject_invalid_objects() -> None:
    broken = render("kuberay")
    broken.container["readinessProbe"]["httpGet"]["pth"] = "/"
    broken.gateway.spec["terminationGracePeriodSeconds"] = "330"
    ray = broken.all("RayService")[0]
    ray["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["img"] = "x"
    ray["spec"]["serveConfig"] = "x"
    said = "\n".join(problem for each in broken.manifests for problem in problems(each, VERSIONS[-1]))
    assert all(word in said for word in ("'pth'", "'330'", "'img'", "'serveConfig'"))


def test_a_field_unknown_to_a_version_is_reported() -> None:
    old = [problem for each in render("vllm").manifests for problem in problems(each, "1.25")]
    assert any("unhealthyPodEvictionPolicy" in problem for problem in old)


def test_every_custom_resource_has_a_schema_and_every_schema_a_resource() -> None:
    custom = {
        each["kind"]
        for name in ALL
        for each in render(name).manifests
        if each["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "ray.io")
    }
    assert custom == set(CRDS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_in_one_namespace(name: str) -> None:
    for each in render(name).manifests:
        assert (each["metadata"].get("namespace") == "turnout") is (each["kind"] not in NO_NAMESPACE), each["metadata"]


@pytest.mark.parametrize("name", ALL)
def test_every_object_fits_into_the_annotation_of_kubectl_apply(name: str) -> None:
    for each in render(name).manifests:
        assert len(json.dumps(each)) < 262_144, each["metadata"]["name"]


def test_the_documented_command_creates_every_key_of_the_secret() -> None:
    head = (directory_of("base") / "kustomization.yaml").read_text()
    words = " ".join(line.strip("# \\") for line in head.splitlines())
    command = shlex.split(re.sub(r"\$\(.*?\)", "x", words[words.index("kubectl") : words.index("apiVersion")]))
    assert command[command.index("generic") + 1] == "turnout"
    keys = {word.partition("=")[2].partition("=")[0] for word in command if word.startswith("--from-literal")}
    assert keys == MADE_BY_HAND["turnout"]


def test_the_image_has_the_version_of_the_project() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert render("quickstart").container["image"] == f"turnout:{version[1]}"


def test_a_changed_configuration_has_a_new_config_map_name_so_that_the_deployment_rolls() -> None:
    names = {name: render(name).gateway.spec["volumes"][0]["configMap"]["name"] for name in ("base", "kuberay")}
    assert len(set(names.values())) == 2
    assert all(re.fullmatch(r"turnout-[a-z0-9]{10}", name) for name in names.values())


def test_the_autoscaler_s_metric_is_a_metric_of_the_gateway() -> None:
    scaler = render("vllm").find("HorizontalPodAutoscaler", "turnout")
    (metric,) = [each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"] if each["type"] == "Pods"]
    assert f'"{metric}"' in (ROOT / "router" / "telemetry" / "collector.py").read_text()


def test_the_cluster_has_the_same_alerts_as_plain_prometheus() -> None:
    (rule,) = render("monitoring").all("PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())


def test_grafana_s_sidecar_finds_the_dashboard() -> None:
    board = render("monitoring").find("ConfigMap", "turnout-dashboard")
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["turnout.json"])["title"] == "Turnout"


def test_prometheus_finds_the_control_port_through_its_service() -> None:
    watched = render("monitoring")
    (monitor,) = watched.all("ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [each for each in watched.all("Service") if wanted <= each["metadata"].get("labels", {}).items()]
    assert service["metadata"]["name"] == "turnout-control"
    assert [port["name"] for port in service["spec"]["ports"]] == [monitor["spec"]["endpoints"][0]["port"]]
