"""`turnout policy plugins` against a real control port, and `turnout policy check` without one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from router.cli.main import main
from tests.fakes.control_port import Replica, command

SOUND = """\
from dataclasses import dataclass
from typing import ClassVar
from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision

@dataclass(frozen=True)
class Mine:
    name: ClassVar[str] = "mine"

    def pick(self, request, snapshot):
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        return Decision(left.candidates[entropy.index(request.entropy, len(left.candidates))].pod.id, self.name)
"""

FILE: dict[str, object] = {
    "file": "mine.py",
    "digest": "3f2a9c1d",
    "policies": ["mine@3f2a9c1d"],
    "problem": "",
    "check_s": 1.25,
}
SHOWN: dict[str, object] = {
    "directory": "/plugins",
    "problem": "",
    "entry_points": [],
    "plugins": [
        FILE | {"present": True},
        FILE | {"file": "bad.py", "policies": [], "problem": "line 1: invalid syntax", "present": True},
        FILE | {"file": "old.py", "present": False},
    ],
}


def showing(shown: dict[str, object]) -> Replica:
    replica = Replica()
    replica.plane = dataclasses.replace(replica.plane, plugins=lambda: shown)
    return replica


def test_plugin_files_are_listed_with_the_results_of_their_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(showing(SHOWN), "policy", "plugins") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["FILE", "DIGEST", "OFFERED", "AS", "CHECK"]
    assert rows[0].split() == ["mine.py", "3f2a9c1d", "mine@3f2a9c1d", "passed", "in", "1.2", "s"]
    assert rows[1].split() == ["bad.py", "3f2a9c1d", "-", "line", "1:", "invalid", "syntax"]
    assert rows[2].endswith("no longer in the directory")


def test_a_missing_directory_setting_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, object] = {"directory": "", "problem": "", "plugins": []}
    assert command(showing(nothing), "policy", "plugins") == 0
    assert capsys.readouterr().out == "no plugin directory is configured (plugins.directory)\n"


def test_a_directory_that_cannot_be_read_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        command(showing(SHOWN | {"problem": "/plugins cannot be read: gone", "plugins": []}), "policy", "plugins") == 0
    )
    assert capsys.readouterr().out == "/plugins cannot be read: gone\n"


def test_json_output_has_all_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(showing(SHOWN), "policy", "plugins", "--json") == 0
    assert json.loads(capsys.readouterr().out) == SHOWN


@pytest.mark.slow
def test_a_valid_file_passes_without_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(SOUND)
    assert main(["policy", "check", str(tmp_path / "mine.py")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}/mine.py: mine passes, and would be offered as mine@")
    assert "us among 1000 pods" in said


@pytest.mark.slow
def test_an_invalid_file_is_reported_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def")
    assert main(["policy", "check", str(tmp_path / "mine.py")]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/mine.py: line 1: invalid syntax\n"
    assert main(["policy", "check", str(tmp_path / "mine.py"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problem"] == "line 1: invalid syntax"


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(tmp_path / "nowhere.py")]) == 2
    assert "No such file" in capsys.readouterr().err
