"""The whole bench, with a little of every case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.scheduling.__main__ import main
from loadtests.bench.scheduling.report import MARKS


@pytest.mark.slow
def test_a_smoke_run_writes_the_report_and_renews_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nafter\n")
    assert main(["--smoke", "--out", str(tmp_path), "--readme", str(readme)]) == 0
    data = json.loads((tmp_path / "scheduling.json").read_text())
    assert {row["part"] for row in data["rows"]} == {
        "suite",
        "speeds",
        "whole",
        "replicas",
        "herding",
        "closed",
        "restart",
    }
    assert all(row["requests"] for row in data["rows"])
    assert "## Herding" in (tmp_path / "scheduling.md").read_text()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "**prefix_aware**" in text
    assert "\nold\n" not in text


@pytest.mark.slow
def test_missing_traces_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--smoke", "--only", "herding", "--folder", str(tmp_path), "--processes", "1"]) == 2
    assert "azure_2023_conversation" in capsys.readouterr().err
