"""The process that runs a check, over its pipe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from router.plugins.check import bounded_running
from router.plugins.types import CheckJob, packed
from schedulers.guard import PolicyTimeout
from tests.fakes.plugin_files import GOOD, picks


def said(source: str) -> list[dict[str, Any]]:
    job = packed(CheckJob(source.encode(), "mine.py", tuple(sys.path), 1 << 30, 100.0))
    command = [sys.executable, "-m", "router.plugins.check"]
    done = subprocess.run(command, input=job, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_it_reports_its_progress_and_its_result() -> None:
    *at, result = said(GOOD)
    assert at == [{"at": "loading it"}, {"at": "asking freest_kv"}]
    assert (result["policies"], result["problem"]) == (["freest_kv"], "")
    assert 0 < result["pick_us"]["freest_kv"]["8"] < result["pick_us"]["freest_kv"]["1000"]


@pytest.mark.slow
def test_output_and_exit_handlers_of_the_file_do_not_disturb_the_pipe() -> None:
    source = "import atexit, os\nos.write(1, b'{}\\n')\natexit.register(os.abort)\n"
    at, result = said(source)
    assert at == {"at": "loading it"}
    assert result["problem"].startswith("there is no policy in it")


@pytest.mark.slow
def test_all_policies_of_a_file_are_checked() -> None:
    assert said(GOOD + picks("return None"))[-1]["problem"].startswith("mine: with 1 pod: it answered None")


class Work:
    """Does not return the first times, in which it computes or sleeps."""

    def __init__(self, *, sleeps: bool = True, times: int = 1) -> None:
        self.calls = 0
        self.sleeps = sleeps
        self.times = times

    def __call__(self) -> int:
        self.calls += 1
        while self.calls <= self.times:
            if self.sleeps:
                time.sleep(600)
        return self.calls


def waits(readings: Iterator[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel counts before and after."""
    monkeypatch.setattr("router.plugins.check.waited_s", lambda: next(readings))


def test_work_that_hardly_ran_within_its_limit_gets_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waits(iter((5.0, 5.04)), monkeypatch)
    assert bounded_running(0.05, Work()) == 2


def ran(readings: Iterator[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel counts before and after of the processor's time."""
    monkeypatch.setattr("router.plugins.check.time.thread_time", lambda: next(readings))


def test_work_that_ran_all_the_time_is_given_up_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ran(iter((5.0, 5.04)), monkeypatch)
    work = Work(sleeps=False)
    with pytest.raises(PolicyTimeout):
        bounded_running(0.05, work)
    assert work.calls == 1


def test_a_process_that_stood_still_is_no_reason_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, or its machine: the kernel counts neither work nor waiting."""
    waits(iter((5.0, 5.01)), monkeypatch)
    ran(iter((5.0, 5.01)), monkeypatch)
    assert bounded_running(0.05, Work()) == 2


def test_work_that_sleeps_each_time_is_given_up_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits(iter((5.0, 5.01)), monkeypatch)
    work = Work(times=2)
    with pytest.raises(PolicyTimeout, match=r"within 0\.05 s"):
        bounded_running(0.05, work)
    assert work.calls == 2
