"""Rounds with real processes: a seeded regression is measured, and NEW that does not start is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.prove.regressions import ROOT, copy_with
from loadtests.prove.command import main

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]


def test_replicas_that_do_not_learn_from_each_other_find_fewer_prefixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = copy_with("lost-prefixes", tmp_path)
    size = ["--no-upgrade", "--rounds", "3", "--requests", "100", "--json", str(tmp_path / "found.json")]
    status = main([str(ROOT), str(new), *size])
    assert status == 1, capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    worse = {each["what"] for each in found["findings"] if each["verdict"] == "regression"}
    assert "prompt tokens found in cache" in worse


def test_a_version_that_does_not_start_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = copy_with("stuck-queue", tmp_path)
    (new / "router" / "replica" / "process.py").write_text("raise SystemExit('no')\n")
    assert main([str(ROOT), str(new), "--no-upgrade", "--rounds", "3"]) == 1
    assert "does not start" in capsys.readouterr().out
