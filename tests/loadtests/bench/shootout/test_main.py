"""What is played, in which order, and what goes on without a router."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.load.session_load import Sent
from loadtests.bench.routers.wheels import Missing
from loadtests.bench.shootout import __main__ as shootout
from loadtests.bench.shootout.contestants import Contestant
from loadtests.bench.shootout.played import Cpu, Played, Pods
from loadtests.bench.shootout.stretches import Stretch


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs made: nothing is started; smg cannot be installed."""
    made: list[str] = []

    def play(name: str, who: Contestant, part: Stretch, setting: str, directory: Path) -> Played:
        made.append(f"{part.name} {name}")
        if name == "smg":
            raise Missing("no such wheel")
        sent = [Sent(0, 0, 10, 0.0, ttft_s=1.0 if who.ours else 2.5, e2e_s=3.0)]
        return Played(name, part.traffic, part.number, setting, sent, Pods(10, 5), Cpu(wall_s=1.0))

    monkeypatch.setattr(shootout, "play", play)
    return made


def call(tmp_path: Path, *more: str) -> int:
    return shootout.main(["--runs", str(tmp_path / "runs"), "--seconds", "2", "--no-twins", "--only", "agents", *more])


def test_all_routers_play_a_stretch_before_the_next_and_one_that_is_missing_is_left_out(
    tmp_path: Path, played: list[str]
) -> None:
    assert call(tmp_path, "--only", "agents,turnout,smg,nginx", "--out", str(tmp_path)) == 0
    assert played == ["agents 1 turnout", "agents 1 smg", "agents 1 nginx", "agents 2 turnout", "agents 3 turnout"]
    assert json.loads((tmp_path / "shootout.json").read_text())["left_out"] == {"smg": "no such wheel"}
    assert "no such wheel" in (tmp_path / "shootout.md").read_text()


def test_a_second_call_plays_only_what_is_missing(tmp_path: Path, played: list[str]) -> None:
    call(tmp_path, "--only", "agents,turnout", "--stretches", "1")
    played.clear()
    call(tmp_path, "--only", "agents,turnout", "--stretches", "2")
    assert played == ["agents 2 turnout"]


def test_a_run_of_a_late_load_generator_is_played_again(
    tmp_path: Path, played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(tmp_path, "--only", "agents,turnout", "--stretches", "1")
    monkeypatch.setattr(shootout, "exact", lambda run: False)
    call(tmp_path, "--only", "agents,turnout", "--stretches", "1")
    assert played == ["agents 1 turnout"] * 2


def test_a_report_plays_nothing(tmp_path: Path, played: list[str]) -> None:
    assert call(tmp_path, "--report-only") == 1
    assert played == []


def test_a_missing_trace_is_an_error_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "--traces", str(tmp_path)) == 2
    assert "agentic_a" in capsys.readouterr().err
