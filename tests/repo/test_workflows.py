"""GitHub's workflows: read as GitHub reads them, audited by zizmor, and made of make targets that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
AUDIT_S = 60.0
"""Seconds for an audit, which takes a hundredth of that."""


def audit(*files: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("zizmor")
    command = [str(program), "--offline", "--strict-collection", "--no-progress", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_S, check=False)


def test_they_are_valid_and_nothing_is_found_in_them() -> None:
    done = audit(ROOT / ".github")
    assert done.returncode == 0, done.stdout + done.stderr
    for file in WORKFLOWS:
        assert f"completed {ROOT / '.github'}" in done.stderr or file.name in done.stderr


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("runs-on:", "run-on:"), ("timeout-minutes: 20", "timeout-minutes: [20]"), (" # v5.0.0", "0")],
)
def test_a_broken_one_is_found(was: str, becomes: str, tmp_path: Path) -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    assert was in text
    broken = tmp_path / ".github/workflows/ci.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text(text.replace(was, becomes))
    assert audit(broken).returncode != 0


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_make_target_exists(file: Path) -> None:
    text = file.read_text()
    called = [name for line in re.findall(r"run: make ([a-z][a-z -]*)", text) for name in line.split()]
    called += [name for line in re.findall(r"target: \[(.*)\]", text) for name in re.split(r"[, ]+", line)]
    assert called
    assert [name for name in called if name not in TARGETS] == []


def test_what_a_release_publishes_is_there() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    for path in re.findall(r"helm package (\S+)", text):
        assert (ROOT / path / "Chart.yaml").is_file()
    assert "context: ." in text
    assert (ROOT / "Dockerfile").is_file()
