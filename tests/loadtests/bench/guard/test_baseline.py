"""Differences that fail, differences that cannot be judged, and the messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.guard import __main__ as guard
from loadtests.bench.guard import baseline
from loadtests.bench.guard.baseline import Counts

BEFORE = Counts(1000, {"request": 200_000.0, "chunk": 10_000.0})


def now(request: float = 200_000.0, calibration: int = 1000) -> Counts:
    return Counts(calibration, {"request": request, "chunk": 10_000.0})


@pytest.mark.parametrize(("request_", "fails"), [(219_000, False), (221_000, True), (100_000, False)])
def test_more_than_a_tenth_fails(request_: float, fails: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge(now(request_), BEFORE) == int(fails)
    assert ("MORE THAN +10%" in capsys.readouterr().out) == fails


def test_a_small_difference_is_shown_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    guard.judge(now(202_000), BEFORE)
    assert "+1.00%" in capsys.readouterr().out


def test_much_less_asks_for_a_new_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge(now(150_000), BEFORE) == 0
    assert "make guard-baseline" in capsys.readouterr().out


def test_another_build_of_python_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge(now(400_000, calibration=1500), BEFORE) == 0
    assert "NOT JUDGED" in capsys.readouterr().out


def test_without_a_baseline_no_count_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.judge(now(), None) == 0
    text = capsys.readouterr().out
    assert "NOT JUDGED: no baseline" in text
    assert "200,000" in text


def test_a_count_that_the_baseline_does_not_have_is_shown_as_new() -> None:
    (row,) = baseline.changes(Counts(1, {}), Counts(1, {"request": 5.0}))
    assert not row.too_much
    assert "new" in baseline.table([row])


def test_a_saved_baseline_is_read_back_and_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    baseline.save("python 3.11.7 x86_64", BEFORE, file)
    baseline.save("python 3.13.1 x86_64", now(1), file)
    assert baseline.load("python 3.11.7 x86_64", file) == BEFORE
    assert baseline.load("python 3.12.0 x86_64", file) is None


@pytest.mark.parametrize(("ci", "status"), [("true", 2), ("", 0)])
def test_without_valgrind_it_says_how_to_get_it_and_fails_only_in_ci(
    ci: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert guard.main([]) == status
    assert "apt-get install valgrind" in capsys.readouterr().out


def test_the_stored_baseline_has_the_current_counts() -> None:
    stored = baseline.load("python 3.11.7 x86_64")
    assert stored is not None
    assert {"chunk of a stream", "request, whole 1.2 KB"} <= set(stored.each)
