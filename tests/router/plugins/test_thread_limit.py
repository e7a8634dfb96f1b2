"""Foreign code in a thread is interrupted at its limit, or abandoned, and the caller gets the result."""

from __future__ import annotations

import re
import threading
import time

import pytest

from router.plugins import thread_limit
from router.plugins.thread_limit import bounded_in_thread
from schedulers.guard import PolicyQuit, PolicyTimeout

PATIENT_S = 60.0


def spin() -> None:
    while True:
        pass


def exit_the_process() -> None:
    raise SystemExit(3)


def test_the_caller_gets_the_result_or_the_exception_of_the_work() -> None:
    assert bounded_in_thread(PATIENT_S, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        bounded_in_thread(PATIENT_S, divmod, 7, 0)


def test_it_does_not_run_in_the_callers_thread() -> None:
    thread = bounded_in_thread(PATIENT_S, threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_work_that_exits_ends_only_its_thread() -> None:
    with pytest.raises(PolicyQuit, match=re.escape("raised SystemExit(3)")):
        bounded_in_thread(PATIENT_S, exit_the_process)


def test_work_that_does_not_return_is_interrupted_and_its_position_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_limit, "ABANDON_S", PATIENT_S)
    before = set(threading.enumerate())
    with pytest.raises(PolicyTimeout, match=r"did not return within 1 s, it was at line \d+ of .*test_thread_limit"):
        bounded_in_thread(1.0, spin)
    assert set(threading.enumerate()) <= before


def test_a_sleep_longer_than_the_limit_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_limit, "ABANDON_S", 0.05)
    with pytest.raises(PolicyTimeout):
        bounded_in_thread(0.02, time.sleep, 1.0)


def test_work_that_swallows_all_exceptions_is_abandoned_and_ends_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_limit, "ABANDON_S", 0.05)
    ends = threading.Event()

    def swallow() -> None:
        while not ends.is_set():
            try:
                ends.wait(0.001)
            except BaseException:  # noqa: BLE001  what it must not get away with
                continue

    with pytest.raises(PolicyTimeout):
        bounded_in_thread(0.02, swallow)
    ends.set()
