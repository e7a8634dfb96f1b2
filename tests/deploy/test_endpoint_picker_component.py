"""`deploy/kubernetes/components/endpoint-picker` makes pickers of an overlay's gateways, for the same engines."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from tests.fakes.kubernetes_schema import VERSIONS, problems
from tests.fakes.rendered_manifests import KUBERNETES, Manifest
from tests.fakes.waiting import DEADLINE_S

pytestmark = [pytest.mark.slow, pytest.mark.needs("kubectl")]

COMPONENT = KUBERNETES / "components" / "endpoint-picker"


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    at = tmp_path_factory.mktemp("overlay")
    kustomization = {
        "resources": [os.path.relpath(KUBERNETES / "overlays" / "vllm", at)],
        "components": [os.path.relpath(COMPONENT, at)],
    }
    (at / "kustomization.yaml").write_text(json.dumps(kustomization))
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def test_its_objects_are_valid_for_kubernetes(manifests: list[Manifest]) -> None:
    assert [problem for each in manifests for problem in problems(each, VERSIONS[-1])] == []


def test_the_gateways_are_pickers_that_are_probed_on_their_control_port(manifests: list[Manifest]) -> None:
    pod = one(manifests, "Deployment", "turnout")["spec"]["template"]["spec"]["containers"][0]
    assert pod["args"] == ["epp", "--config", "/etc/turnout/turnout.yaml"]
    assert {probe["httpGet"]["port"] for name, probe in pod.items() if name.endswith("Probe")} == {"control"}


def test_the_inference_pool_has_the_engines_and_their_picker(manifests: list[Manifest]) -> None:
    spec = one(manifests, "InferencePool", "engines")["spec"]
    engine = one(manifests, "StatefulSet", "vllm")["spec"]["template"]
    assert spec["selector"]["matchLabels"].items() <= engine["metadata"]["labels"].items()
    ports = [port["containerPort"] for container in engine["spec"]["containers"] for port in container["ports"]]
    assert [port["number"] for port in spec["targetPorts"]] == ports
    service = one(manifests, "Service", spec["endpointPickerRef"]["name"])["spec"]
    assert spec["endpointPickerRef"]["port"]["number"] == service["ports"][0]["port"]
    assert service["ports"][0]["appProtocol"] == "kubernetes.io/h2c"


def test_the_route_leads_to_the_pool_and_proxies_may_reach_the_engines(manifests: list[Manifest]) -> None:
    (backend,) = one(manifests, "HTTPRoute", "engines")["spec"]["rules"][0]["backendRefs"]
    pool = one(manifests, "InferencePool", "engines")
    assert (backend["group"], backend["kind"]) == (pool["apiVersion"].partition("/")[0], pool["kind"])
    assert backend["name"] == pool["metadata"]["name"]
    policy = one(manifests, "NetworkPolicy", "engines-from-proxies")["spec"]
    assert policy["podSelector"]["matchLabels"] == pool["spec"]["selector"]["matchLabels"]
    assert policy["ingress"][0]["ports"] == [{"port": port["number"]} for port in pool["spec"]["targetPorts"]]
