"""What a Kubernetes Pod object says of an engine: JSON in, a `Pod` out, if there is one to route to. Pure.

Only the fields that matter are decoded, an object at a time: the official client would build every one of them, in
3 ms a pod. What labels and annotations mean stands in `_TOLD`; ours come first, then those of other projects.

A pod's id is its name and the first 8 digits of its UID: a StatefulSet's pod that was replaced has the same name and
often the same address, and is another pod with another cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from schedulers.types import Pod, PodId, Role
from statesync.discovery.kubernetes.target import is_port
from statesync.discovery.source import PodTemplate

NOT_READY = "not_ready"
TERMINATING = "terminating"


class ObservedPod(NamedTuple):
    """An engine as an object tells of it."""

    uid: str
    pod: Pod | None
    """With `unready` as it is now; None if there is nothing to route to."""
    note: str = ""
    """What somebody should put right; empty for nothing."""
    incarnation: str = ""
    """Changes when its containers are others, and so its cache is gone."""
    rank: int = 0
    """Of several objects that tell of one engine the one with the lowest counts, of those the one changed last."""


class Metadata(msgspec.Struct, rename="camel"):
    """Of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Port(msgspec.Struct, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class _Container(msgspec.Struct, rename="camel"):
    ports: list[_Port] | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    """Sidecars are among them, and a sidecar may be what listens."""
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
    """A v1 Pod, as far as it is read."""

    metadata: Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


decode_pod = msgspec.json.Decoder(PodObject).decode
"""A Pod object from its JSON. Raises msgspec.DecodeError."""

_TOLD: Mapping[str, tuple[str, ...]] = {
    "models": ("turnout.dev/models", "model.aibrix.ai/name"),
    "role": ("turnout.dev/role", "llm-d.ai/role", "role-name"),
    "port": ("turnout.dev/port",),
    "default_port": ("model.aibrix.ai/port",),
    "max_inflight": ("turnout.dev/max-inflight",),
    "cluster": ("turnout.dev/cluster",),
    "zone": ("turnout.dev/zone", "topology.kubernetes.io/zone"),
    "model_label": ("llm-d.ai/model", "model"),
}
"""What is asked -> keys that answer, as an annotation or else as a label; the first that is there counts.

`llm-d.ai/model` and the `model` of production-stack are labels for selectors, not what engines call the model (that has
a `/` in it more often than not); they become a label of ours and no model.
"""
_SHOWN = ("cluster", "zone", "model_label")
"""What of it becomes a label of the pod."""

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
    """The pod with what its object's labels and annotations say of it, and what of that was no sense."""
    wrong: list[str] = []
    labels = dict(pod.labels)
    for key in _SHOWN:
        if (told := _told(meta, key)) and key not in template.labels:
            labels[key] = told
    models = frozenset(filter(None, (name.strip() for name in _told(meta, "models").split(","))))
    role = _told(meta, "role")
    if role and role not in _ROLES:
        wrong.append(f"role {role!r}")
    limit = _told(meta, "max_inflight")
    if limit and not (limit.isdecimal() and int(limit) > 0):
        wrong.append(f"max-inflight {limit!r}")
        limit = ""
    return (
        pod._replace(
            id=identity(meta.name, meta.uid),
            models=models or pod.models,
            role=_ROLES.get(role, pod.role),
            labels=MappingProxyType({key: value for key, value in labels.items() if value}),
            max_inflight=int(limit) if limit else pod.max_inflight,
        ),
        f"pod {meta.namespace}/{meta.name} has no sensible {' and '.join(wrong)}" if wrong else "",
    )


def identity(name: str, uid: str) -> PodId:
    """`vllm-0.1a2b3c4d`: what people know it by, and what makes it unique."""
    return PodId(f"{name}.{uid.replace('-', '')[:8]}")


def _is_ready(status: _Status) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in status.conditions or ())


def _told(meta: Metadata, what: str) -> str:
    for key in _TOLD[what]:
        value = (meta.annotations or {}).get(key) or (meta.labels or {}).get(key)
        if value:
            return value.strip()
    return ""


def _port_of(found: PodObject, configured: str) -> int:
    """0 if there is none. The pod's own annotation goes before the configuration, other projects' labels after it."""
    meta = found.metadata
    text = _told(meta, "port") or configured or _told(meta, "default_port")
    if text.isdecimal():
        return int(text) if is_port(text) else 0
    declared = [port for port in _declared(found.spec) if port.protocol == "TCP"]
    if text or len(declared) > 1:
        declared = [port for port in declared if port.name == (text or "http")]
    return declared[0].container_port if declared else 0


def _declared(spec: _Spec) -> Iterator[_Port]:
    for container in [*(spec.containers or ()), *(spec.init_containers or ())]:
        yield from container.ports or ()
