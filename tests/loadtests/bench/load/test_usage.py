"""What processes and cores used."""

from __future__ import annotations

import os

import pytest

from loadtests.bench.load.process import TICK_S
from loadtests.bench.load.usage import Usage, busy, read

PROC_STAT = """\
cpu  30 0 30 300 20 1 1 8 0 0
cpu0 10 0 10 100 10 1 1 8 5 5
cpu1 20 0 20 200 10 0 0 0 0 0
intr 1 2 3
"""


def test_a_core_is_busy_in_all_but_idle_and_waiting_time_and_guests_are_not_counted_twice() -> None:
    assert [*busy(PROC_STAT)] == pytest.approx([30 * TICK_S, 40 * TICK_S])


def test_times_are_differences_and_memory_is_what_it_is_now() -> None:
    assert Usage(5.0, 700, (3.0, 4.0)).since(Usage(2.0, 900, (1.0, 1.0))) == Usage(3.0, 700, (2.0, 3.0))


def test_a_process_that_is_gone_counts_for_nothing() -> None:
    beyond = 2**22 + 1  # above the largest pid there can be
    assert read([beyond]).rss_bytes == 0
    assert read([os.getpid(), beyond]).rss_bytes > 1_000_000
