"""Checks manifests against a version of Kubernetes: the API's own schemas, offline, unknown fields included.

Custom resources have trimmed schemas of their own in tests/data/crds; Ray's pod templates are checked as pods.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
from kubernetes_validate import utils  # type: ignore[import-untyped, unused-ignore]
from referencing import Registry, Resource

from tests.fakes.rendered_manifests import ROOT, Manifest

VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
"""From the oldest supported version (unhealthyPodEvictionPolicy, matchLabelKeys) to the newest."""

CRDS = {path.stem: path for path in sorted((ROOT / "tests" / "data" / "crds").glob("*.json"))}
"""By kind."""


def problems(manifest: Manifest, version: str) -> Iterator[str]:
    """All problems of a manifest, each with its place."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    for error in _validator(manifest["apiVersion"], manifest["kind"], version).iter_errors(manifest):
        yield f"{name}: {error.json_path}: {error.message}"
    for at, template in enumerate(_templates(manifest)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
        for error in _validator("v1", "Pod", version).iter_errors(pod):
            yield f"{name}: pod template {at}: {error.json_path}: {error.message}"


def _templates(manifest: Manifest) -> Iterator[Manifest]:
    if manifest["kind"] == "RayService":
        cluster = manifest["spec"]["rayClusterConfig"]
        yield from (group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]))


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> Any:
    if kind in CRDS:
        return jsonschema.Draft202012Validator(json.loads(CRDS[kind].read_text()))
    directory = f"kubernetes-json-schema/v{version}.0-local-strict"
    # rbac.authorization.k8s.io/v1 -> rbac-v1
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = utils.schema_contents(f"{directory}/{kind.lower()}-{group}.json", version)
    return jsonschema.Draft202012Validator(schema, registry=_definitions(directory, version))


@functools.cache
def _definitions(directory: str, version: str) -> Any:
    definitions = Resource.from_contents(utils.schema_contents(f"{directory}/_definitions.json", version))
    return definitions @ Registry()
