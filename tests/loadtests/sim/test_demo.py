"""The demo as a user runs it: a process that shows pods with requests, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.processes.procfs import family, stats
from loadtests.sim.demo import Demo, Ports, gateway_config
from router.config.file import read_text
from tests.fakes.waiting import DEADLINE_S
from tests.fakes.whole_run import end

COMMAND = [sys.executable, "-m", "loadtests.sim.demo", "--pods", "3", "--users", "8", "--speed", "4"]


def running(pids: list[int]) -> list[int]:
    """The processes that still run."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def pods_with_requests(line: str) -> int:
    return sum(int(count) > 0 for count in re.findall(r"127\.0\.0\.1:\d+=(\d+)", line))


def rest_of(terminal: int) -> bytes:
    """All data until the other end is closed, which Linux reports as EIO."""
    found = b""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 65536):
            found += data
    return found


@contextlib.contextmanager
def started(*options: str, **given: Any) -> Iterator[subprocess.Popen[str]]:
    """A demo for the block. After the deadline a demo that hangs is ended."""
    process = subprocess.Popen([*COMMAND, *options], text=True, start_new_session=True, **given)
    late = threading.Timer(DEADLINE_S, end, (process,))
    late.start()
    try:
        yield process
    finally:
        late.cancel()
        end(process)


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    """The demo's process and its output."""
    with started(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process, process:
        yield process


def test_the_gateways_file_is_valid() -> None:
    reading = read_text(gateway_config(Demo(policy="p2c"), Ports(8000, 9000, (8101, 8102))), {})
    assert not reading.problems
    (pool,) = reading.settings.pools
    assert pool.pods == ["http://127.0.0.1:8101", "http://127.0.0.1:8102"]
    assert pool.policy.name == "p2c"


@pytest.mark.slow
def test_for_its_duration_it_shows_several_pods_with_requests_and_no_failure() -> None:
    done = subprocess.run([*COMMAND, "--duration", "6"], capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    last = [line for line in done.stdout.splitlines() if line.startswith("policy=prefix_aware")][-1]
    assert pods_with_requests(last) >= 2, done.stdout
    assert " failed=0 " in last
    assert done.stdout.endswith("demo: ended\n")
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_gateway(demo: subprocess.Popen[str], number: signal.Signals) -> None:
    assert demo.stdout is not None
    while pods_with_requests(demo.stdout.readline()) < 2:
        assert demo.poll() is None, demo.stderr and demo.stderr.read()
    own = list(family(demo.pid, stats()))
    assert len(own) >= 2, "the gateway is a process of its own"

    demo.send_signal(number)
    out, err = demo.communicate(timeout=DEADLINE_S)

    assert demo.returncode == 0, err
    assert out.endswith("demo: ended\n")
    assert err == ""
    assert not running(own)


@pytest.mark.slow
def test_without_users_it_only_prints_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Settings for another gateway change nothing here.
    monkeypatch.setenv("TURNOUT_LISTEN", "no address")
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "another token")
    with started("--users", "0", stdout=subprocess.PIPE) as quiet, quiet:
        assert quiet.stdout is not None
        assert re.match(r"gateway http://127\.0\.0\.1:\d+ control http://127\.0\.0\.1:\d+\n", quiet.stdout.readline())
        assert "requests=0 " in quiet.stdout.readline()
        quiet.send_signal(signal.SIGTERM)
        assert quiet.wait(DEADLINE_S) == 0


@pytest.mark.slow
def test_a_gateway_that_cannot_start_is_reported_with_its_log() -> None:
    command = [*COMMAND, "--policy", "no_such_policy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "no_such_policy" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_on_a_terminal_it_draws_one_screen_and_gives_the_terminal_back() -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    shown = b""
    with started(stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        try:
            while b"Ctrl-C ends" not in shown or shown.count(b"127.0.0.1:") < 8:
                shown += os.read(leader, 65536)
            process.send_signal(signal.SIGINT)
            shown += rest_of(leader)
            process.wait(DEADLINE_S)
        finally:
            os.close(leader)
    assert process.returncode == 0
    enter, leave = b"\x1b[?1049h", b"\x1b[?1049l"
    assert shown.count(enter) == shown.count(leave) == 1
    assert b"prefix_aware" in shown


@pytest.mark.slow
def test_it_ends_with_its_gateway_when_its_terminal_is_closed() -> None:
    leader, follower = pty.openpty()
    shown = b""
    with started(stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        try:
            while b"Ctrl-C ends" not in shown:
                shown += os.read(leader, 65536)
            own = list(family(process.pid, stats()))
        finally:
            os.close(leader)
        process.send_signal(signal.SIGHUP)  # the kernel's part where the terminal is the controlling one
        process.wait(DEADLINE_S)
    assert len(own) >= 2, "the gateway is a process of its own"
    assert not running(own)
