"""Rounds with real processes: a seeded regression is measured, and NEW that does not start is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench.prove.regressions import ROOT, copy_with
from loadtests.prove.command import main

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]

UNITS, UNIT_TOKENS = 32, 64
ABREAST = 25
"""Odd, as two replicas get the requests in turns: the second request of a session goes to the other one."""

ROUNDS = 6
"""What is found by chance differs by 3 points (standard deviation): with 3 rounds the bounds are 34 points wide each
way where the machine is busy, with 6 about 7, of an effect of 33."""


def sessions_that_change_replicas(path: Path, requests: int = 100) -> Path:
    """A recording: sessions of two equal prompts that share nothing with others, so that half of all prompt tokens can
    be found in a cache by replicas that learn from each other, and a third of that, by chance, by those that do not."""
    lines = []
    for at in range(requests):
        session = at // (2 * ABREAST) * ABREAST + at % ABREAST
        units = [session * UNITS + unit for unit in range(UNITS)]
        arrival = {"timestamp": at * 25, "input_length": UNITS * UNIT_TOKENS, "output_length": 8, "hash_ids": units}
        lines.append(json.dumps({**arrival, "block_tokens": UNIT_TOKENS, "session": str(session)}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_replicas_that_do_not_learn_from_each_other_find_fewer_prefixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = copy_with("lost-prefixes", tmp_path)
    traffic = sessions_that_change_replicas(tmp_path / "sessions.jsonl")
    size = ["--no-upgrade", "--rounds", str(ROUNDS), "--requests", "100", "--traffic", str(traffic)]
    status = main([str(ROOT), str(new), *size, "--json", str(tmp_path / "found.json")])
    assert status == 1, capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    worse = {each["what"] for each in found["findings"] if each["verdict"] == "regression"}
    assert "prompt tokens found in cache" in worse


def test_a_version_that_does_not_start_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = copy_with("stuck-queue", tmp_path)
    (new / "router" / "replica" / "process.py").write_text("raise SystemExit('no')\n")
    assert main([str(ROOT), str(new), "--no-upgrade", "--rounds", "3"]) == 1
    assert "does not start" in capsys.readouterr().out
