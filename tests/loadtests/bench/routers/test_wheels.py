"""Peers' environments, made by a fake pip."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.bench.routers import wheels

PYTHON = """#!/bin/sh
case "$2" in
  venv) echo made >> "${0%/*}/made"; mkdir -p "$4/bin"; cp "$0" "$4/bin/" ;;
  pip) echo looking; echo "ERROR: no such requirement" >&2; exit 1 ;;
esac
"""
"""A Python that makes environments in which pip installs nothing."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands run; the fake makes the directory of an environment."""
    commands: list[Sequence[str]] = []

    def play(command: Sequence[str]) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(wheels, "_run", play)
    return commands


def test_an_environment_is_made_once(tmp_path: Path, run: list[Sequence[str]]) -> None:
    first = wheels.programs("smg", tmp_path)
    assert first == tmp_path / f"smg-1.13.0-py{platform.python_version()}/bin"
    assert len(run) == 2
    assert run[1][-1] == "smg==1.13.0"
    assert wheels.programs("smg", tmp_path) == first
    assert len(run) == 2


def test_an_incomplete_environment_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    for times in (1, 2):
        with pytest.raises(wheels.Missing, match="could not be installed: ERROR: no such requirement"):
            wheels.programs("smg", tmp_path)
        assert (tmp_path / "made").read_text() == "made\n" * times


def test_a_peer_whose_program_does_not_run_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(wheels.Missing, match="nonexistent"):
        wheels.programs("smg", Path("/nonexistent"))
