"""The command as a user starts it: a version against itself passes, and what cannot be judged says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.prove.regressions import ROOT
from loadtests.prove.command import main

pytestmark = pytest.mark.needs("redis-server")


@pytest.mark.realtime
def test_the_upgrade_of_a_version_to_itself_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(ROOT), str(ROOT), "--rounds", "0", "--json", str(tmp_path / "found.json")])
    said = capsys.readouterr()
    assert status == 0, said.out + said.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"] == "pass"
    assert found["scenes"][0]["requests"] > 300
    assert found["scenes"][0]["faults"] == []


def test_what_is_no_installation_cannot_be_judged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "nothing"), str(ROOT)]) == 2
    assert capsys.readouterr().out.startswith("UNDECIDED: ")


@pytest.mark.parametrize(
    "wrong", [["--rounds", "2"], ["--requests", "1"], ["--rate", "0"], ["--rounds", "0", "--no-upgrade"]]
)
def test_sizes_that_can_show_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(ROOT), str(ROOT), *wrong])
