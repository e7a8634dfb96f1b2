"""Kubernetes objects for tests: pods as an API server sends them, and a kubeconfig."""

from __future__ import annotations

import zlib
from typing import Any

from loadtests.kubernetes.api import KubeApi, Labels


def kubeconfig(api: KubeApi, token: str = "", namespace: str = "") -> dict[str, Any]:
    """A kubeconfig with one context, `test`; `token` is written unchanged."""
    context = {"cluster": "c", "user": "u"} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "test", "context": context}],
    }


def pod_object(
    name: str,
    ip: str = "10.0.0.1",
    *,
    uid: str = "",
    namespace: str = "llm",
    phase: str = "Running",
    ready: bool = True,
    terminating: bool = False,
    port: int = 8000,
    labels: Labels | None = None,
    annotations: Labels | None = None,
    restarts: int = 0,
    bulk: int = 0,
    stateful_set: str = "",
) -> dict[str, Any]:
    """A Pod as the API server sends it, perhaps of a StatefulSet; `bulk` bytes of managed fields are added to it."""
    uid = uid or f"{zlib.crc32(f'{namespace}/{name}'.encode()):08x}" + "-0000-4000-8000-000000000000"
    meta: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "vllm", **(labels or {})},
    }
    if stateful_set:
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": stateful_set, "uid": "9", "controller": True}
        meta["ownerReferences"] = [owner]
    if annotations:
        meta["annotations"] = dict(annotations)
    if terminating:
        meta |= {"deletionTimestamp": "2026-01-01T01:00:00Z", "deletionGracePeriodSeconds": 30}
    if bulk:
        field = {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {"f:conditions": {".": {}}}}}
        meta["managedFields"] = [field] * (bulk // 110)
    ports = [{"name": "http", "containerPort": port, "protocol": "TCP"}]
    spec = {"nodeName": "node-1", "containers": [{"name": "engine", "image": "vllm", "ports": ports}]}
    container = {"name": "engine", "ready": ready, "restartCount": restarts, "containerID": f"c://{uid}-{restarts}"}
    status = {
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}] if ip else [],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastProbeTime": None}],
        "containerStatuses": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": status}
