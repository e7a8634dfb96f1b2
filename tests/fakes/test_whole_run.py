from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.waiting import wait_for
from tests.fakes.whole_run import whole_run
from tests.fakes.worker_processes import alive

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, file=open(sys.argv[1], "w"), flush=True)
time.sleep(600)
"""


def test_it_returns_status_and_output() -> None:
    done = whole_run([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.slow
def test_a_program_that_hangs_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fakes.whole_run.GRACE_S", 0.1)
    said = tmp_path / "child"
    with pytest.raises(subprocess.TimeoutExpired):
        whole_run([sys.executable, "-c", STUBBORN, said], 2.0)
    child = said.read_text() if said.exists() else ""
    if child:  # on a busy machine it may not have started yet
        wait_for("it is gone", lambda: not alive(int(child)))
