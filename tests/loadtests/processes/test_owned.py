"""Processes: measured through /proc, ended by pid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.processes import owned as owned_module
from loadtests.processes import procfs
from loadtests.processes.owned import NotReady, Owned, wait_until_ready, wait_until_serving
from loadtests.processes.procfs import family, stats
from loadtests.sim.ports import free_ports
from tests.fakes.waiting import wait_for

TIED = "import os; print(os.sched_getaffinity(0), end='')"
BUSY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"


@pytest.mark.slow
def test_a_childs_cpu_time_counts_and_the_program_ends_with_its_block(tmp_path: Path) -> None:
    with Owned([sys.executable, "-c", BUSY], 0, tmp_path / "log") as owned:
        wait_for("it uses the CPU", lambda: owned.ended() or procfs.read(owned.pids()).cpu_s >= 0.3)
        assert not owned.ended(), owned.log.read_text()
        assert len(list(family(owned.pid, stats()))) == 2
        assert procfs.read(owned.pids()).rss_bytes > 5_000_000
        children = [pid for pid in family(owned.pid, stats()) if pid != owned.pid]
        subprocess.run(["kill", *map(str, children)], check=True)
    assert owned.ended()


def test_a_program_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with Owned([sys.executable, "-c", "raise SystemExit('no such engine')"], 0, tmp_path / "log") as owned:
        with pytest.raises(NotReady, match="no such engine"):
            wait_until_ready(owned, f"http://127.0.0.1:{port}/")


def runs(pid: int) -> bool:
    """False for a zombie that its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() != ""
    except (FileNotFoundError, ProcessLookupError):
        return False


DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = 'import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()'
child = subprocess.Popen([sys.executable, '-c', deaf], stdout=subprocess.PIPE)
child.stdout.read(1)
print('pid', child.pid, flush=True)
signal.pause()
"""


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_module, "GRACE_S", 0.05)
    with Owned([sys.executable, "-c", DEAF], 0, tmp_path / "log") as owned:
        wait_for("its child is deaf", lambda: owned.ended() or "pid" in owned.log.read_text())
        assert not owned.ended(), owned.log.read_text()
    child = int(owned.log.read_text().split()[1])
    assert owned.pid not in stats()
    wait_for("its child is gone", lambda: not runs(child))


@pytest.mark.slow
def test_a_program_serves_when_a_post_is_answered_and_a_long_stream_is_not_awaited(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "loadtests.bench.load.canned", str(port), "--stream", "--gap-ms", "600000"]
    with Owned(command, 1, tmp_path / "log") as owned:
        wait_until_serving(owned, f"http://127.0.0.1:{port}/v1/chat/completions", b"{}")


def test_a_program_has_its_own_core_when_the_bench_is_pinned_to_another(tmp_path: Path) -> None:
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        with Owned([sys.executable, "-c", TIED], max(every), tmp_path / "log") as owned:
            wait_for("it has said where it runs", owned.ended)
    finally:
        os.sched_setaffinity(0, every)
    assert owned.log.read_text() == f"{{{max(every)}}}"
