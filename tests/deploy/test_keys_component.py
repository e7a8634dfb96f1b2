"""`deploy/kubernetes/components/keys` brings the Secret with the keys to where its comment says."""

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

COMPONENT = KUBERNETES / "components" / "keys"


def test_the_secret_is_mounted_where_the_setting_of_the_comment_reads_it(tmp_path: Path) -> None:
    kustomization = {
        "resources": [os.path.relpath(KUBERNETES / "base", tmp_path)],
        "components": [os.path.relpath(COMPONENT, tmp_path)],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    manifests = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "Deployment"]
    (pod,) = [each["spec"]["template"]["spec"] for each in manifests if each["metadata"]["name"] == "turnout"]
    (volume,) = [each for each in pod["volumes"] if each.get("secret", {}).get("secretName") == "turnout-keys"]
    (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == volume["name"]]
    comment = (COMPONENT / "kustomization.yaml").read_text()
    assert f"keys_file: {mount['mountPath']}/keys.yaml" in comment
    assert mount["readOnly"] is True
