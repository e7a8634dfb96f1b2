"""A short run of the whole bench: real wrk, real engines, nginx as the only router."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.bench import __main__ as bench
from loadtests.bench.load.cases import CASES
from loadtests.bench.routers.peers import PEERS


@pytest.mark.slow
@pytest.mark.needs("wrk", "nginx")
def test_a_short_run_answers_every_request_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = bench.main(["--smoke", "--only", "nginx", "--repeats", "1", "--seconds", "3", "--out", str(tmp_path)])

    assert status == 0
    assert "Engines and load generator alone do" in capsys.readouterr().out
    smoke = json.loads((tmp_path / "routers.json").read_text())["cases"]["smoke"]
    assert [*smoke] == ["direct", "nginx"]
    assert all(
        each["rate"]["median"] > 0 and each["cpu_us"]["median"] > 0 and not each["wrong"] for each in smoke.values()
    )
    assert "| nginx " in (tmp_path / "routers.md").read_text()


@pytest.mark.realtime
@pytest.mark.needs("wrk", "nginx")
def test_paced_streams_are_counted_and_their_memory_is_reported(tmp_path: Path) -> None:
    chosen = ["--only", "paced-256,nginx", "--repeats", "1", "--seconds", "1", "--out", str(tmp_path)]
    assert bench.main(chosen) == 0

    paced = json.loads((tmp_path / "routers.json").read_text())["cases"]["paced-256"]
    assert paced["nginx"]["open_streams"] == 256
    assert paced["nginx"]["chunk_us"]["median"] > 0


def test_names_choose_cases_and_routers_and_naming_one_kind_keeps_all_of_the_other() -> None:
    def chosen(*words: str) -> tuple[list[str], list[str]]:
        found = bench.plan(bench.options(words))
        return [case.name for case in found.cases], found.peers

    assert chosen() == ([*CASES], [*PEERS])
    assert chosen("--only", "1k,paced-*") == (["1k", "paced-256", "paced-2000", "paced-5000"], [*PEERS])
    assert chosen("--only", "nginx,turnout-*") == (
        [*CASES],
        ["nginx", "turnout-random", "turnout-all", "turnout-pair"],
    )
    assert chosen("--only", "direct,one") == (["one"], [])
    assert chosen("--smoke") == (["smoke"], ["nginx", "turnout"])


def test_repeats_and_seconds_apply_to_every_case() -> None:
    found = bench.plan(bench.options(["--repeats", "7", "--seconds", "9"]))
    assert {(case.repeats, case.seconds) for case in found.cases} == {(7, 9)}


def test_an_unknown_name_is_an_error_that_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "haproxy"]) == 2
    assert "'haproxy' is neither a case nor a router; there are 1k," in capsys.readouterr().err


def test_without_wrk_it_reports_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bench.main(["--smoke"]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err
