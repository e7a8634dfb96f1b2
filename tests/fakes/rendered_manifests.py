"""The output of `kubectl kustomize` for deploy/kubernetes as Python objects, with look-ups.

Nothing is checked here. A caller may change its `Render`: each call of `render` gives a copy.
"""

from __future__ import annotations

import copy
import functools
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from router.config.file import ParsedConfig, read_text
from tests.fakes.programs import need
from tests.fakes.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
BESIDE = ("monitoring",)
"""Overlays without gateways, which go beside any other."""
OVERLAYS = tuple(
    sorted(path.name for path in (KUBERNETES / "overlays").iterdir() if path.is_dir() and path.name not in BESIDE)
)
"""Overlays with gateways."""
ALL = ("base", *OVERLAYS)
"""Every directory with gateways."""

Manifest = dict[str, Any]

MADE_BY_HAND: Mapping[str, frozenset[str]] = {
    "turnout": frozenset({"control-token", "redis-password"}),
    "huggingface": frozenset({"token"}),
}
"""Secrets that a user makes (see the top of base/kustomization.yaml), and their keys."""

SELECTED = ("Deployment", "StatefulSet")
"""Kinds with a pod template in spec.template."""


class Workload(NamedTuple):
    """A part of a manifest that makes pods."""

    kind: str
    name: str
    template: Manifest
    """The pod template: `metadata` and `spec`."""
    owner: Manifest

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of its pods."""
        labels: Mapping[str, str] = self.template["metadata"].get("labels", {})
        return labels

    @property
    def spec(self) -> Manifest:
        """The spec of its pods."""
        spec: Manifest = self.template["spec"]
        return spec

    @property
    def containers(self) -> list[Manifest]:
        """The containers, init containers included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


class Render:
    """One build: its manifests in the order in which they are applied."""

    def __init__(self, name: str, manifests: list[Manifest]) -> None:
        self.name = name
        self.manifests = manifests

    def all(self, kind: str) -> list[Manifest]:
        """The manifests of a kind."""
        return [each for each in self.manifests if each["kind"] == kind]

    def find(self, kind: str, name: str) -> Manifest:
        """The manifest of that name. Raises LookupError."""
        for each in self.all(kind):
            if each["metadata"]["name"] == name:
                return each
        raise LookupError(f"{self.name}: no {kind} {name}")

    def workloads(self) -> Iterator[Workload]:
        """All workloads, Ray's groups included."""
        for kind in SELECTED:
            for each in self.all(kind):
                yield Workload(kind, each["metadata"]["name"], each["spec"]["template"], each)
        for each in self.all("RayService"):
            cluster = each["spec"]["rayClusterConfig"]
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                name = f"{each['metadata']['name']}-{group.get('groupName', 'head')}"
                yield Workload("RayService", name, group["template"], each)

    def workload(self, name: str) -> Workload:
        """The workload of that name. Raises StopIteration."""
        return next(each for each in self.workloads() if each.name == name)

    @property
    def namespace(self) -> str:
        """The namespace of its objects; empty for the base."""
        return str(self.find("Service", "turnout")["metadata"].get("namespace", ""))

    @property
    def gateway(self) -> Workload:
        """The router's Deployment."""
        return self.workload("turnout")

    @property
    def container(self) -> Manifest:
        """The router's container."""
        return next(each for each in self.gateway.containers if each["name"] == "turnout")

    @property
    def replicas(self) -> int:
        """The default number of gateways: the autoscaler's minimum if there is one."""
        for scaler in self.all("HorizontalPodAutoscaler"):
            return int(scaler["spec"]["minReplicas"])
        return int(self.gateway.owner["spec"]["replicas"])

    def port_of(self, container: Manifest, port: int | str) -> int:
        """The number of a port given by number or by name. Raises StopIteration for a name that is not there."""
        if isinstance(port, int):
            return port
        return next(int(each["containerPort"]) for each in container.get("ports", ()) if each["name"] == port)

    def mounted(self, container: Manifest, path: str) -> str:
        """The text of the ConfigMap's file mounted at `path` in the container. Raises LookupError."""
        directory, _, file = path.rpartition("/")
        for mount in container["volumeMounts"]:
            if mount["mountPath"] == directory:
                volume = next(each for each in self.gateway.spec["volumes"] if each["name"] == mount["name"])
                text: str = self.find("ConfigMap", volume["configMap"]["name"])["data"][file]
                return text
        raise LookupError(f"nothing is mounted at {directory}")

    def config_path(self) -> str:
        """The path of the configuration file in the container."""
        args: list[str] = self.container["args"]
        return args[args.index("--config") + 1]

    def config(self) -> ParsedConfig:
        """The gateway's settings, read by the gateway's code with the pod's environment."""
        return read_text(self.mounted(self.container, self.config_path()), self.environment())

    def environment(self, pod_name: str = "turnout-7d4b9c-x2x4z") -> dict[str, str]:
        """The environment of the gateway's container; Secrets that a user makes have invented values."""
        fields = {"metadata.name": pod_name}
        # Labels that a cluster adds; a missing label is empty.
        fields |= {f"metadata.labels['{key}']": value for key, value in self.gateway.labels.items()}
        fields.setdefault("metadata.labels['topology.kubernetes.io/zone']", "")
        found: dict[str, str] = {}
        for each in self.container["env"]:
            source = each.get("valueFrom", {})
            if "secretKeyRef" in source:
                found[each["name"]] = f"made-up {source['secretKeyRef']['key']}"
            elif "fieldRef" in source:
                found[each["name"]] = fields[source["fieldRef"]["fieldPath"]]
            else:
                # A reference to an earlier variable.
                found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], each["value"])
        return found


def directory_of(name: str) -> Path:
    """The directory of `base` or of an overlay."""
    return KUBERNETES / name if name == "base" else KUBERNETES / "overlays" / name


@functools.cache
def _build(name: str) -> tuple[Manifest, ...]:
    command = [need("kubectl"), "kustomize", str(directory_of(name))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecations are reported here
    return tuple(yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def render(name: str) -> Render:
    """Render `base`, or an overlay by its directory's name."""
    return Render(name, copy.deepcopy(list(_build(name))))
