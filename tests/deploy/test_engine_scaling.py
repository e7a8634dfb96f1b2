"""`deploy/kubernetes/components/engine-scaling` asks for metrics that the gateway has, of an engine that is there."""

from __future__ import annotations

import re

import yaml

from router.telemetry.scale_signals import families
from tests.fakes.kubernetes_schema import VERSIONS, problems
from tests.fakes.rendered_manifests import KUBERNETES

COMPONENT = KUBERNETES / "components" / "engine-scaling"
SCALED = yaml.safe_load((COMPONENT / "scaledobject.yaml").read_text())


def test_the_scaled_object_is_as_kedas_definition_says() -> None:
    assert list(problems(SCALED, VERSIONS[-1])) == []


def test_its_queries_name_metrics_and_the_pool_of_the_base() -> None:
    names = {family.name for family in families(["p"], [], {}, 0.0)}
    base = yaml.safe_load((KUBERNETES / "base" / "turnout.yaml").read_text())
    for trigger in SCALED["spec"]["triggers"]:
        ((name, pool),) = re.findall(r'(turnout_\w+){pool="([^"]+)"}', trigger["metadata"]["query"])
        assert name in names
        assert pool in [each["name"] for each in base["pools"]]
        assert trigger["metadata"]["activationThreshold"] == "0", "from none on"


def test_it_scales_the_engines_of_the_overlay() -> None:
    engines = list(yaml.safe_load_all((KUBERNETES / "overlays" / "vllm" / "engines.yaml").read_text()))
    target = SCALED["spec"]["scaleTargetRef"]
    assert [target["kind"], target["name"]] in [[each["kind"], each["metadata"]["name"]] for each in engines]
