"""Network policies admit the connections that are needed and no others; the evaluator itself is tested too."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.fakes.each_case import each_case
from tests.fakes.kubernetes_network import End, allowed
from tests.fakes.rendered_manifests import Manifest, Render, render

HERE = "turnout"
GATEWAY = End(
    HERE,
    {"app.kubernetes.io/name": "turnout", "app.kubernetes.io/component": "gateway"},
    ports={"inference": 8000, "control": 9000},
)
REDIS = End(HERE, {"app.kubernetes.io/name": "redis", "app.kubernetes.io/component": "state"}, ports={"redis": 6379})
ENGINE = End(HERE, {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/component": "engine"}, ports={"http": 8000})
STRANGER = End(HERE, {"app.kubernetes.io/name": "something-else"})
APP = End("apps", {"app": "chat"})
PROMETHEUS = End("monitoring", {"app.kubernetes.io/name": "prometheus"})
DNS = End("kube-system", {"k8s-app": "kube-dns"})
KUBE_SYSTEM = End("kube-system", {"k8s-app": "something-else"})
OUTSIDE = End(address="198.51.100.9")
API_SERVER = End(address="192.0.2.10")


class Way(NamedTuple):
    """A connection, and whether it is allowed."""

    source: End
    target: End
    port: int
    allowed: bool
    protocol: str = "TCP"


WAYS = {
    "a client in the cluster asks a gateway": Way(APP, GATEWAY, 8000, True),
    "a client outside asks a gateway": Way(OUTSIDE, GATEWAY, 8000, True),
    "Prometheus reads a gateway's metrics": Way(PROMETHEUS, GATEWAY, 9000, True),
    "Prometheus reads an engine's metrics": Way(PROMETHEUS, ENGINE, 8000, True),
    "a gateway asks an engine": Way(GATEWAY, ENGINE, 8000, True),
    "a gateway writes to Redis": Way(GATEWAY, REDIS, 6379, True),
    "a gateway resolves a name": Way(GATEWAY, DNS, 53, True, "UDP"),
    "a gateway resolves a long answer": Way(GATEWAY, DNS, 53, True),
    "a gateway watches pods": Way(GATEWAY, API_SERVER, 6443, True),
    "an engine fetches its model": Way(ENGINE, OUTSIDE, 443, True),
    "a client in the cluster reaches the admin API": Way(APP, GATEWAY, 9000, False),
    "a neighbour reaches the admin API": Way(STRANGER, GATEWAY, 9000, False),
    "a client outside reaches the admin API": Way(OUTSIDE, GATEWAY, 9000, False),
    "a gateway reaches another one's admin API": Way(GATEWAY, GATEWAY, 9000, False),
    "a gateway calls home": Way(GATEWAY, OUTSIDE, 80, False),
    "a gateway reaches a neighbour": Way(GATEWAY, STRANGER, 8000, False),
    "a gateway reaches an engine's other port": Way(GATEWAY, ENGINE, 22, False),
    "a gateway reaches another namespace": Way(GATEWAY, APP, 8000, False),
    "a gateway reaches kube-system's other pods": Way(GATEWAY, KUBE_SYSTEM, 53, False, "UDP"),
    "a client asks an engine past the gateway": Way(APP, ENGINE, 8000, False),
    "a neighbour asks an engine past the gateway": Way(STRANGER, ENGINE, 8000, False),
    "a client reads Redis": Way(APP, REDIS, 6379, False),
    "a neighbour reads Redis": Way(STRANGER, REDIS, 6379, False),
    "an engine reads Redis": Way(ENGINE, REDIS, 6379, False),
    "Redis calls home": Way(REDIS, OUTSIDE, 443, False),
    "Redis asks a gateway": Way(REDIS, GATEWAY, 8000, False),
}
RAY = End(HERE, {"app.kubernetes.io/name": "ray", "app.kubernetes.io/component": "engine"})
OPERATOR = End("kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
RAY_WAYS = {
    "Ray's nodes talk": Way(RAY, RAY, 6379, True),
    "Ray's head keeps its metadata in Redis": Way(RAY, REDIS, 6379, True),
    "KubeRay deploys the application": Way(OPERATOR, RAY, 8265, True),
    "a gateway asks a proxy": Way(GATEWAY, RAY, 8000, True),
    "a gateway reaches Ray's dashboard": Way(GATEWAY, RAY, 8265, False),
    "a neighbour joins the Ray cluster": Way(STRANGER, RAY, 6379, False),
}


def with_redis(name: str) -> Render:
    found = render(name)
    assert found.find("NetworkPolicy", "turnout-redis")
    return found


@each_case("name", ["quickstart", "vllm", "sglang", "multi-cluster"])
@each_case("way", WAYS)
def test_a_connection_is_allowed_or_not(way: str, name: str) -> None:
    found, there = WAYS[way], with_redis(name)
    source, target = (
        end._replace(namespace=there.namespace) if end.namespace == HERE else end
        for end in (found.source, found.target)
    )
    assert allowed(there, source, target, found.port, found.protocol) is found.allowed


@pytest.mark.parametrize("way", RAY_WAYS)
def test_a_connection_of_ray_s_is_allowed_or_not(way: str) -> None:
    found = RAY_WAYS[way]
    assert allowed(render("kuberay"), found.source, found.target, found.port, found.protocol) is found.allowed


def test_gateways_reach_only_the_engines_in_the_other_cluster() -> None:
    multi = render("multi-cluster")
    assert allowed(multi, GATEWAY, End(address="10.128.3.4"), 8000)
    assert not allowed(multi, GATEWAY, End(address="10.128.3.4"), 6379)
    assert not allowed(multi, GATEWAY, End(address="10.132.0.1"), 8000)


def test_gateways_of_the_other_cluster_reach_the_engines_and_nothing_else() -> None:
    """Case H 41."""
    multi, there = render("multi-cluster"), End(address="10.128.3.4")
    assert allowed(multi, there, ENGINE, 8000)
    assert not allowed(multi, there, ENGINE, 22)
    assert not allowed(multi, there, REDIS, 6379)
    assert not allowed(multi, End(address="10.132.0.1"), ENGINE, 8000)


def test_without_policies_the_evaluator_allows_every_connection() -> None:
    assert allowed(Render("none", []), APP, REDIS, 6379)


def policy(**spec: object) -> Manifest:
    return {
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": HERE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], **spec},
    }


@each_case(
    ("rules", "client", "neighbour", "outside"),
    [
        ({}, False, False, False),
        ({"ingress": [{}]}, True, True, True),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, False, True, False),
        ({"ingress": [{"from": [{"namespaceSelector": {}}]}]}, True, True, False),
        ({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}, False, False, True),
        ({"ingress": [{"ports": [{"port": "redis"}]}]}, True, True, True),
        ({"ingress": [{"ports": [{"port": 6380}]}]}, False, False, False),
        ({"ingress": [{"ports": [{"port": 6379, "protocol": "UDP"}]}]}, False, False, False),
    ],
)
def test_the_evaluator_reads_a_rule_like_kubernetes(
    rules: dict[str, object], client: bool, neighbour: bool, outside: bool
) -> None:
    one = Render("one", [policy(**rules)])
    assert [allowed(one, each, REDIS, 6379) for each in (APP, STRANGER, OUTSIDE)] == [client, neighbour, outside]
