"""Interprets Kubernetes Pod objects: JSON in, a `Pod` out if it can be routed to. Pure.

Only the fields needed are decoded, an object at a time: the official client would build all of them, in 3 ms a pod.
`_KEYS` lists the labels and annotations; Turnout's come first, then those of other projects.

A pod's id is its name and the first 8 digits of its UID. A pod of a StatefulSet is known by its name and namespace: it
comes back under them, on whatever node, with its volume and its clients' sessions. The label `uid` then says that it is
another process with an empty cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from schedulers.types import Pod, PodId, Role
from statesync.discovery.changes import INCARNATION, STATEFUL_SET
from statesync.discovery.kubernetes.target import is_port
from statesync.discovery.ranks import RANKS
from statesync.discovery.source import NOT_READY, TERMINATING, PodTemplate
from statesync.types import LEARNED


class ObservedPod(NamedTuple):
    """An engine, as described by one object."""

    uid: str
    pod: Pod | None
    """With its current `unready`; None if it cannot be routed to."""
    note: str = ""
    """A problem with the object, to be logged; or empty."""
    incarnation: str = ""
    """Changes when its containers are replaced, and its cache is gone."""
    rank: int = 0
    """Of several objects about one engine the one with the lowest rank counts, of equal ones the last changed."""


class _Owner(msgspec.Struct):
    kind: str = ""
    name: str = ""


class Metadata(msgspec.Struct, rename="camel"):
    """Metadata of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None

    @property
    def stateful_set(self) -> str:
        """The StatefulSet that the object belongs to; empty without one."""
        return next((each.name for each in self.owner_references or () if each.kind == "StatefulSet"), "")


class _Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class _Container(msgspec.Struct, rename="camel"):
    ports: list[_Port] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    """These include sidecars, which may have the listening port."""
    node_name: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Ip(msgspec.Struct):
    ip: str = ""


class _ContainerStatus(msgspec.Struct):
    container_id: str = msgspec.field(name="containerID", default="")


class _Status(msgspec.Struct, rename="camel"):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: list[_Ip] | None = msgspec.field(name="podIPs", default=None)
    conditions: list[_Condition] | None = None
    container_statuses: list[_ContainerStatus] | None = None


class PodObject(msgspec.Struct):
    """The decoded part of a v1 Pod."""

    metadata: Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


decode_pod = msgspec.json.Decoder(PodObject).decode
"""A Pod object from its JSON. Raises msgspec.DecodeError."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "models": ("turnout.dev/models", "model.aibrix.ai/name"),
    "role": ("turnout.dev/role", "llm-d.ai/role", "role-name"),
    "port": ("turnout.dev/port",),
    "default_port": ("model.aibrix.ai/port",),
    "max_inflight": ("turnout.dev/max-inflight",),
    "cluster": ("turnout.dev/cluster",),
    "zone": ("turnout.dev/zone", "topology.kubernetes.io/zone"),
    "model_label": ("llm-d.ai/model", "model"),
    RANKS: ("turnout.dev/ranks",),
}
"""For each property its keys, each as an annotation or else as a label; the first that is present counts.

`llm-d.ai/model` and the `model` of production-stack are labels for selectors and not the engine's name of the model,
which mostly contains a `/`; they become a label of the pod and no model.
"""
_SHOWN = ("cluster", "zone", "model_label", RANKS)
"""Properties that become labels of the pod."""

_ROLES: Mapping[str, Role] = {
    "both": "both",
    "prefill-decode": "both",
    "prefill": "prefill",
    "decode": "decode",
}


def seen_in(found: PodObject, port: str, template: PodTemplate) -> ObservedPod:
    """The engine in a Pod object; `port` is the number or name that the configuration gives."""
    meta, status = found.metadata, found.status
    ip = status.pod_ip or next((each.ip for each in status.pod_ips or ()), "")
    if status.phase != "Running" or not ip:
        return ObservedPod(meta.uid, None)
    number = _port_of(found, port)
    if not number:
        wanted = f"no port named {port!r}" if port else "no single port; say ?port="
        return ObservedPod(meta.uid, None, f"pod {meta.namespace}/{meta.name} declares {wanted}")
    unready = TERMINATING if meta.deletion_timestamp else "" if _is_ready(status) else NOT_READY
    labels = {"namespace": meta.namespace, "node": found.spec.node_name}
    pod, note = described(meta, template.pod(ip, number, **labels), template)
    containers = sorted(each.container_id for each in status.container_statuses or ())
    return ObservedPod(meta.uid, pod._replace(unready=unready), note, " ".join(containers))


def described(meta: Metadata, pod: Pod, template: PodTemplate) -> tuple[Pod, str]:
    """The pod with the properties in its object's labels and annotations, and a note on invalid ones."""
    wrong: list[str] = []
    labels = dict(pod.labels)
    for key in _SHOWN:
        if (value := _value(meta, key)) and key not in template.labels:
            labels[key] = value
    labels |= stateful_labels(meta.stateful_set, meta.uid)
    models = frozenset(filter(None, (name.strip() for name in _value(meta, "models").split(","))))
    role = _value(meta, "role")
    if role and role not in _ROLES:
        wrong.append(f"role {role!r}")
    limit = _value(meta, "max_inflight")
    if limit == "auto":
        limit = str(LEARNED)
    elif limit and not (limit.isdecimal() and int(limit) > 0):
        wrong.append(f"max-inflight {limit!r}")
        limit = ""
    return (
        pod._replace(
            id=by_name(meta.name, meta.namespace) if meta.stateful_set else identity(meta.name, meta.uid),
            models=models or pod.models,
            role=_ROLES.get(role, pod.role),
            labels=MappingProxyType({key: value for key, value in labels.items() if value}),
            max_inflight=int(limit) if limit else pod.max_inflight,
        ),
        f"pod {meta.namespace}/{meta.name} has no sensible {' and '.join(wrong)}" if wrong else "",
    )


def identity(name: str, uid: str) -> PodId:
    """`vllm-0.1a2b3c4d`: the name that people know, and a part that makes it unique."""
    return PodId(f"{name}.{_short(uid)}")


def by_name(name: str, namespace: str) -> PodId:
    """`vllm-0.models`: the identity of a pod that comes back under its name."""
    return PodId(f"{name}.{namespace}")


def stateful_labels(owner: str, uid: str) -> Mapping[str, str]:
    """What is known of a StatefulSet's pod beside its name: its owner, and which of the pods of that name it is."""
    return {STATEFUL_SET: owner, INCARNATION: _short(uid)} if owner else {}


def _short(uid: str) -> str:
    return uid.replace("-", "")[:8]


def _is_ready(status: _Status) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())


def _value(meta: Metadata, what: str) -> str:
    for key in _KEYS[what]:
        value = (meta.annotations or {}).get(key) or (meta.labels or {}).get(key)
        if value:
            return value.strip()
    return ""


def _port_of(found: PodObject, configured: str) -> int:
    """The port; 0 if there is none. The pod's own annotation precedes the configuration, other projects' labels
    follow."""
    meta = found.metadata
    text = _value(meta, "port") or configured or _value(meta, "default_port")
    if text.isdecimal():
        return int(text) if is_port(text) else 0
    declared = [port for port in _declared(found.spec) if port.protocol == "TCP"]
    if text or len(declared) > 1:
        declared = [port for port in declared if port.name == (text or "http")]
    return declared[0].container_port if declared else 0


def _declared(spec: _Spec) -> Iterator[_Port]:
    for container in [*(spec.containers or ()), *(spec.init_containers or ())]:
        yield from container.ports or ()
