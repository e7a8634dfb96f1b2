"""CPU time and memory of processes and cores."""

from __future__ import annotations

import os

import pytest

from loadtests.processes.procfs import TICK_S, Stat, Usage, busy, family, parse_stat, read

PROC_STAT = """\
cpu  30 0 30 300 20 1 1 8 0 0
cpu0 10 0 10 100 10 1 1 8 5 5
cpu1 20 0 20 200 10 0 0 0 0 0
intr 1 2 3
"""


def test_a_stat_line_is_read_after_the_last_bracket() -> None:
    line = "42 (a (b) 9 9) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 3 4 20 0 1 0 5 6 7"
    assert parse_stat(line) == Stat(parent=7, cpu_s=200 * TICK_S)


def test_a_family_is_the_process_and_its_descendants() -> None:
    every = {pid: Stat(parent, 0.0) for pid, parent in [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1)]}
    assert set(family(5, every)) == {5, 6, 7}


def test_a_cores_busy_time_excludes_idle_and_iowait_and_counts_guests_once() -> None:
    assert [*busy(PROC_STAT)] == pytest.approx([30 * TICK_S, 40 * TICK_S])


def test_times_are_differences_and_memory_is_the_current_value() -> None:
    assert Usage(5.0, 700, (3.0, 4.0)).since(Usage(2.0, 900, (1.0, 1.0))) == Usage(3.0, 700, (2.0, 3.0))


def test_an_ended_process_counts_as_zero() -> None:
    beyond = 2**22 + 1  # above the largest possible pid
    assert read([beyond]).rss_bytes == 0
    assert read([os.getpid(), beyond]).rss_bytes > 1_000_000
