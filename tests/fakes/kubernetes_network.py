"""The connections that network policies allow, as Kubernetes defines it: a small evaluator over rendered manifests.

A pod that no policy of a direction selects is not limited in that direction; a pod that policies select may do what
any of their rules allows. A connection must be allowed at both ends.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from tests.fakes.rendered_manifests import Manifest, Render

Direction = Literal["Ingress", "Egress"]
SIDES: Mapping[Direction, tuple[str, str]] = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}


class End(NamedTuple):
    """One end of a connection: a pod (with labels), or an address outside the cluster."""

    namespace: str = ""
    """Empty: outside the cluster."""
    labels: Mapping[str, str] = {}
    address: str = "203.0.113.7"
    ports: Mapping[str, int] = {}
    """The pod's named ports."""
    namespace_labels: Mapping[str, str] = {}


def allowed(render: Render, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection from `source` reaches `target` on this port."""
    return _side(render, "Egress", source, target, target, port, protocol) and _side(
        render, "Ingress", target, source, target, port, protocol
    )


def _side(render: Render, way: Direction, here: End, there: End, target: End, port: int, protocol: str) -> bool:
    policies = list(_selecting(render, way, here))
    rules_key, peers_key = SIDES[way]
    if not policies:
        return True
    return any(
        _peer(rule.get(peers_key), there, policy) and _port(rule.get("ports"), target, port, protocol)
        for policy in policies
        for rule in policy["spec"].get(rules_key, ())
    )


def _selecting(render: Render, way: Direction, here: End) -> Iterator[Manifest]:
    for policy in render.all("NetworkPolicy"):
        spec = policy["spec"]
        same = here.namespace and policy["metadata"].get("namespace", "default") == here.namespace
        if same and way in spec["policyTypes"] and matches(spec["podSelector"], here.labels):
            yield policy


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one matches everything."""
    assert set(selector) <= {"matchLabels"}, f"not supported by this evaluator: {selector}"
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _peer(peers: list[Manifest] | None, there: End, policy: Manifest) -> bool:
    if not peers:
        return True
    return any(_one_peer(peer, there, policy["metadata"].get("namespace", "default")) for peer in peers)


def _one_peer(peer: Manifest, there: End, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        address = ipaddress.ip_address(there.address)
        # ipBlocks are for addresses outside the cluster; whether they match pods depends on the implementation.
        return not there.namespace and address.version == block.version and address in block
    if not there.namespace:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": there.namespace, **there.namespace_labels}
        if not matches(peer["namespaceSelector"], labels):
            return False
    elif there.namespace != own_namespace:
        return False
    return matches(peer.get("podSelector", {}), there.labels)


def _port(ports: list[Manifest] | None, target: End, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        each.get("protocol", "TCP") == protocol
        and ("port" not in each or (target.ports.get(each["port"], each["port"]) == port))
        for each in ports
    )
