"""Interprets EndpointSlices: JSON in, one `ObservedPod` for each endpoint out. Pure.

A Service has several slices, an endpoint may be in two while it moves from one to the other, and a dual-stack Service
has a slice for each family. Endpoints of one pod are one engine: IPv4 is preferred, and of two alike the last changed
one counts. Slices have zones, but no models and roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from schedulers.types import Pod, PodId
from statesync.discovery.kubernetes.pod_objects import (
    Metadata,
    ObservedPod,
    by_name,
    identity,
    stateful_labels,
)
from statesync.discovery.source import NOT_READY, TERMINATING, PodTemplate

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label with the Service's name on each of its slices."""

_RANKS: Mapping[str, int] = {"IPv4": 0, "IPv6": 1}
"""Rank of the address types that can be used; an FQDN would need a look-up for each request."""


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _TargetRef(msgspec.Struct):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: _Conditions = msgspec.field(default_factory=_Conditions)
    target_ref: _TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None
    hostname: str | None = None


class _Port(msgspec.Struct):
    port: int | None = None
    name: str | None = None
    protocol: str | None = None


class SliceObject(msgspec.Struct, rename="camel"):
    """The decoded part of a discovery.k8s.io/v1 EndpointSlice."""

    metadata: Metadata
    address_type: str = "IPv4"
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


decode_slice = msgspec.json.Decoder(SliceObject).decode
"""An EndpointSlice from its JSON. Raises msgspec.DecodeError."""


def seen_in(found: SliceObject, port: str, template: PodTemplate) -> tuple[ObservedPod, ...]:
    """The engines of a slice; `port` is the number or name that the configuration gives."""
    if found.address_type not in _RANKS:
        return ()
    number = _port_of(found, port)
    if not number and found.endpoints:
        which = f"no port named {port!r}" if port else "no single port; say ?port="
        return (ObservedPod(found.metadata.uid, None, f"EndpointSlice {found.metadata.name} has {which}"),)
    return tuple(_engines(found, number, template))


def _engines(found: SliceObject, port: int, template: PodTemplate) -> Iterator[ObservedPod]:
    rank = _RANKS[found.address_type]
    for endpoint in found.endpoints or ():
        if not endpoint.addresses:
            continue
        # Consumers use the first address; Kubernetes itself writes only one.
        labels = {"namespace": found.metadata.namespace, "node": endpoint.node_name, "zone": endpoint.zone}
        pod = template.pod(endpoint.addresses[0], port, **{key: text for key, text in labels.items() if text})
        ref = endpoint.target_ref
        if ref is not None and ref.kind == "Pod" and ref.uid:
            pod = _named(pod, endpoint, ref, found.metadata.namespace)
        pod = pod._replace(unready=_unready(endpoint.conditions))
        yield ObservedPod(ref.uid if ref is not None and ref.uid else PodId(pod.address), pod, rank=rank)


def _named(pod: Pod, endpoint: _Endpoint, ref: _TargetRef, namespace: str) -> Pod:
    """The pod with its identity. A hostname that is the pod's name, with a number, is that of a StatefulSet's pod: only
    these have one by themselves."""
    owner, _, number = ref.name.rpartition("-")
    if endpoint.hostname != ref.name or not owner or not number.isdecimal():
        return pod._replace(id=identity(ref.name, ref.uid))
    labels = MappingProxyType({**pod.labels, **stateful_labels(owner, ref.uid)})
    return pod._replace(id=by_name(ref.name, ref.namespace or namespace), labels=labels)


def _unready(conditions: _Conditions) -> str:
    # A missing condition counts as ready (discovery.k8s.io/v1, EndpointConditions). `ready` alone is not enough: it is
    # always true if the Service publishes addresses that are not ready.
    if conditions.terminating:
        return TERMINATING
    return NOT_READY if conditions.ready is False or conditions.serving is False else ""


def _port_of(found: SliceObject, configured: str) -> int:
    if configured.isdecimal():
        return int(configured)
    ports = [each for each in found.ports or () if each.port and each.protocol in (None, "TCP")]
    if configured or len(ports) > 1:
        ports = [each for each in ports if each.name == (configured or "http")]
    return (ports[0].port or 0) if ports else 0
