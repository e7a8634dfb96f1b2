"""The table of routers."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.routers.peers import Place
from loadtests.bench.routers.wheels import Missing
from loadtests.bench.shootout.contestants import CONTESTANTS
from loadtests.sim.simulate.contenders import contender


def test_every_twin_is_a_policy_of_the_simulator() -> None:
    for who in CONTESTANTS.values():
        if who.twin:
            contender(who.twin)


def test_without_a_compiled_build_its_row_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Missing, match="make compiled"):
        CONTESTANTS["turnout-compiled"].start(Place(tmp_path, 1, [2]))


def test_the_compiled_build_is_started_by_its_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    python = tmp_path / ".venv-compiled/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    (tmp_path / ".venv-compiled/.turnout-compiled").touch()
    assert CONTESTANTS["turnout-compiled"].start(Place(tmp_path, 1, [2])).command[0] == str(python)


def test_nginx_prefers_the_engine_with_the_fewest_connections(tmp_path: Path) -> None:
    CONTESTANTS["nginx"].start(Place(tmp_path, 8123, [7001, 7002]))
    assert "least_conn;" in (tmp_path / "nginx.conf").read_text()


def test_rivals_are_the_routers_for_language_models() -> None:
    assert [name for name, who in CONTESTANTS.items() if who.rival] == ["sglang-router", "vllm-router", "smg"]
