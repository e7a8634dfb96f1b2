"""`deploy/kubernetes/components/tls` brings the Secret to where its comment says, and probes speak HTTPS."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.fakes.rendered_manifests import KUBERNETES
from tests.fakes.waiting import DEADLINE_S

pytestmark = [pytest.mark.slow, pytest.mark.needs("kubectl")]

COMPONENT = KUBERNETES / "components" / "tls"


def test_the_secret_is_mounted_and_the_probes_of_the_inference_port_speak_https(tmp_path: Path) -> None:
    kustomization = {
        "resources": [os.path.relpath(KUBERNETES / "base", tmp_path)],
        "components": [os.path.relpath(KUBERNETES / "components" / name, tmp_path) for name in ("keys", "tls")],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    manifests = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "Deployment"]
    (pod,) = [each["spec"]["template"]["spec"] for each in manifests if each["metadata"]["name"] == "turnout"]
    (volume,) = [each for each in pod["volumes"] if each.get("secret", {}).get("secretName") == "turnout-tls"]
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == volume["name"]]
    comment = (COMPONENT / "kustomization.yaml").read_text()
    for name in ("cert_file: {}/tls.crt", "key_file: {}/tls.key"):
        assert name.format(mount["mountPath"]) in comment
    probes = [probe["httpGet"] for name, probe in pod["containers"][0].items() if name.endswith("Probe")]
    assert all((probe["port"] == "inference") is (probe.get("scheme") == "HTTPS") for probe in probes)
