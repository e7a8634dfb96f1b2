"""The supervisor with real processes. The programs here send a worker's messages and serve nothing: real workers
under load are tested end to end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

import pytest

from loadtests.sim.ports import HOST, free_ports
from router.address import ListenAddress
from router.workers.roster import WorkerRoster, WorkerTiming
from router.workers.slots import open_slots
from router.workers.supervisor import CANNOT_RUN, Supervisor

ANY = ListenAddress(HOST, 0)

OBEDIENT = """
import json, os, socket
line = socket.socket(fileno=json.loads(os.environ["TURNOUT_WORKER"])["tether_fd"])
line.sendall(b"warming 5\\nready\\n")
said = line.makefile("r").readline()
raise SystemExit({"hand-over\\n": 0, "stop\\n": 0, "": 9}[said])
"""
FAILING = """
import json, os, socket
line = socket.socket(fileno=json.loads(os.environ["TURNOUT_WORKER"])["tether_fd"])
line.sendall(b"failed no policy 'x'\\n")
raise SystemExit(2)
"""
INSPECTING = """
import json, os, socket, stat
line = socket.socket(fileno=json.loads(os.environ["TURNOUT_WORKER"])["tether_fd"])
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
leader = os.getpid() == os.getpgid(0) == os.getsid(0)
line.sendall(f"failed leader {leader}, {sum(map(is_socket, range(256)))} sockets\\n".encode())
raise SystemExit(2)
"""
STUCK = "import signal; signal.pause()"


def supervised(
    command: list[str],
    *,
    timing: WorkerTiming = WorkerTiming(60.0),  # noqa: B008  a value
    workers: int = 2,
    on_line: Callable[[str], None] = lambda line: None,
) -> int:
    """The status of a supervisor of such workers; `on_line` gets its log."""

    class LineHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            on_line(record.getMessage())

    log, handler = logging.getLogger("turnout.workers"), LineHandler()
    slots = open_slots(ListenAddress(HOST, free_ports(1)[0]), ANY, workers)
    log.addHandler(handler)
    level, log.level = log.level, logging.INFO
    try:
        supervisor = Supervisor(command, slots, WorkerRoster(workers, timing, lambda: 0.0))
        return asyncio.run(asyncio.wait_for(supervisor.run(), 100))
    finally:
        log.removeHandler(handler)
        log.level = level
        for slot in slots:
            slot.close()


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.mark.slow
def test_workers_are_rolled_on_sighup_and_stopped_on_sigterm() -> None:
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if sum("serves slot" in each for each in lines) == 2 and "serves slot" in line:
            signal.raise_signal(signal.SIGHUP)
        if line == "all workers are new":
            signal.raise_signal(signal.SIGTERM)

    assert supervised(python(OBEDIENT), on_line=on_line) == 0
    assert [line for line in lines if "over to" in line] == [
        "worker 0 hands slot 0 over to worker 2",
        "worker 1 hands slot 1 over to worker 3",
    ]
    assert sorted(line for line in lines if "ended" in line) == [f"worker {n} ended with status 0" for n in range(4)]


@pytest.mark.slow
def test_workers_that_all_fail_at_once_end_it_with_their_status_and_message(caplog: pytest.LogCaptureFixture) -> None:
    assert supervised(python(FAILING)) == 2
    assert "no policy 'x'; it ended with status 2" in caplog.text
    assert "no worker can start: giving up" in caplog.text


def test_a_missing_program_is_an_error_and_not_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert supervised(["/no/such/program"]) == CANNOT_RUN
    assert "/no/such/program: No such file or directory" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_worker_that_never_gets_ready_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    assert supervised(python(STUCK), timing=WorkerTiming(0.0, margin_s=0.0), workers=1) == 128 + signal.SIGKILL
    assert "it was not ready in time; it ended by signal 9" in caplog.text


@pytest.mark.slow
def test_workers_are_outside_the_terminals_process_group_and_hold_no_other_socket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ctrl-C reaches a whole process group. A copy of another worker's channel would hide the supervisor's death."""
    assert supervised(python(INSPECTING)) == 2
    assert caplog.text.count("leader True, 3 sockets; it ended") == 2
