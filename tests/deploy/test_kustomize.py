"""The base and every overlay build, and every supported version of Kubernetes accepts the manifests."""

from __future__ import annotations

import json
import re
import shlex

import pytest
import yaml

from tests.fakes.each_case import each_case
from tests.fakes.kubernetes_schema import CRDS, VERSIONS, problems
from tests.fakes.rendered_manifests import (
    ALL,
    BESIDE,
    KUBERNETES,
    MADE_BY_HAND,
    OVERLAYS,
    ROOT,
    Manifest,
    directory_of,
    render,
)

NO_NAMESPACE = {"Namespace", "PriorityClass"}
OF_THE_CHART = {"PodMonitor"}
"""Custom resources that only the Helm chart makes."""
CUSTOM = (
    *("argoproj.io", "flagger.app", "gateway.networking.k8s.io", "inference.networking.k8s.io", "keda.sh"),
    *("monitoring.coreos.com", "multicluster.x-k8s.io", "ray.io"),
)
"""The groups of custom resources."""


def test_each_documented_setup_has_an_overlay() -> None:
    assert set(OVERLAYS) == {"quickstart", "vllm", "sglang", "kuberay", "multi-cluster", "agents"}
    assert BESIDE == ("monitoring",)


@each_case("name", ALL)
def test_it_builds_each_object_once(name: str) -> None:
    keys = [(each["kind"], each["metadata"]["name"]) for each in render(name).manifests]
    assert len(keys) == len(set(keys)) > 5


@each_case("version", VERSIONS)
@each_case("name", [*ALL, *BESIDE])
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
    built = [each for name in (*ALL, *BESIDE) for each in render(name).manifests]
    files = [*KUBERNETES.glob("components/*/*.yaml"), *(KUBERNETES.parent / "rollouts").glob("*.yaml")]
    parts = [each for path in files for each in yaml.safe_load_all(path.read_text())]
    custom = {each["kind"] for each in (*built, *parts) if each["apiVersion"].partition("/")[0] in CUSTOM}
    assert custom | OF_THE_CHART == set(CRDS)


@each_case("name", [*OVERLAYS, *BESIDE])
def test_an_overlay_is_in_one_namespace(name: str) -> None:
    namespace = {"quickstart": "turnout-quickstart", "monitoring": "monitoring"}.get(name, "turnout")
    for each in render(name).manifests:
        assert (each["metadata"].get("namespace") == namespace) is (each["kind"] not in NO_NAMESPACE), each["metadata"]


def objects(name: str) -> dict[tuple[str, str, str], Manifest]:
    """The objects of an overlay, by what identifies them in a cluster."""
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each
        for each in render(name).manifests
    }


@pytest.mark.parametrize("other", [name for name in (*OVERLAYS, *BESIDE) if name != "quickstart"])
def test_the_quickstart_changes_no_object_of_another_overlay(other: str) -> None:
    """Case H 39: no public Secret in place of the user's, no simulated engine in a real pool."""
    ours, theirs = objects("quickstart"), objects(other)
    assert [key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]] == []
    assert {key[1] for key in ours} - {""} == {"turnout-quickstart"}


def test_monitoring_is_beside_the_other_overlays() -> None:
    """Case H 39."""
    ours = objects("monitoring")
    assert {kind for kind, _, _ in ours} == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
    for name in OVERLAYS:
        assert not ours.keys() & objects(name).keys()


@each_case("name", ALL)
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
    version = re.search(r'^fallback_version = "(.*)\.dev0"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert render("quickstart").container["image"] == f"localhost/turnout:{version[1]}"


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


@pytest.mark.parametrize("name", OVERLAYS)
def test_prometheus_finds_the_control_port_through_its_service(name: str) -> None:
    (monitor,) = render("monitoring").all("ServiceMonitor")
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = render(name).all("Service")
    (service,) = [each for each in services if wanted <= each["metadata"].get("labels", {}).items()]
    assert service["metadata"]["name"] == "turnout-control"
    assert [port["name"] for port in service["spec"]["ports"]] == [monitor["spec"]["endpoints"][0]["port"]]


def test_a_prometheus_that_selects_by_release_finds_scrapes_and_rules() -> None:
    """Case H 41: kube-prometheus-stack reads only objects with the label of its Helm release."""
    watched = render("monitoring")
    for kind in ("ServiceMonitor", "PrometheusRule"):
        (each,) = watched.all(kind)
        assert each["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_a_cluster_exports_the_service_whose_name_the_other_one_resolves() -> None:
    """Case H 41."""
    multi = render("multi-cluster")
    (export,) = multi.all("ServiceExport")
    service = multi.find("Service", export["metadata"]["name"])
    assert service["spec"]["clusterIP"] == "None"
    far = [pool.discovery.source for pool in multi.config().settings.pools if "clusterset" in pool.discovery.source]
    there = export["metadata"]["name"].replace("east", "west")
    assert far == [f"dns://{there}.{service['metadata']['namespace']}.svc.clusterset.local:8000"]


def test_the_oldest_version_of_kubernetes_is_named() -> None:
    """Case H 41."""
    assert f"Kubernetes {VERSIONS[0]} or newer" in (ROOT / "docs" / "kubernetes.md").read_text()
