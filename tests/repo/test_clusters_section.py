"""The section on clusters in docs/operations.md: its configuration is valid, and its command prints the hash."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from router.config.file import read_text
from router.dataplane.request.targets import TargetResolver

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECTION = PAGE.split("\n## Clusters and fall-back\n")[1].split("\n## ")[0]


def block(language: str) -> str:
    """The section's only block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_configuration_is_valid() -> None:
    reading = read_text(block("yaml"), {})
    assert reading.problems == []
    assert [pool.fallback for pool in reading.settings.pools] == [["far"], ["near"]]


def test_the_command_prints_the_hash_in_the_file() -> None:
    command = block("sh")
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.split()[0]
    (client,) = read_text(block("yaml"), {}).settings.targets.clients
    assert client.key_sha256 == printed == hashlib.sha256(b"the-key-of-the-client").hexdigest()
    targets = TargetResolver(read_text(block("yaml"), {}).settings.targets)
    assert targets.client({b"authorization": b"Bearer the-key-of-the-client"}).name == "batch"
