"""`turnout top` against a real control port, in a pipe and on a terminal of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import httpx
import pytest

from router.cli.serve_flags import seconds
from tests.fakes.control_port import OTHER_POD, POD, Replica, command, talk_to


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.cli.top.ONCE_S", 0.0)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A job that a shell started in the background ignores SIGINT, and so would the programs that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_once_is_one_frame_without_colours_for_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")
    assert command(replica, "top", "--once") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:6] == ["Turnout", "2", "pods,", "1", "not", "well"]
    assert [row[:6] for row in rows[-2:]] == [
        [POD, "ok", "1", "3", "4", "50%"],
        [OTHER_POD, "probe", "0", "0", "0", "0%"],
    ]


def test_without_a_terminal_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(Replica(), "top") == 0
    assert capsys.readouterr().out.startswith("Turnout  2 pods  ")


def test_a_control_port_that_is_not_there_or_wants_a_token_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    from router.cli.main import main

    assert main(["top", "--control", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("turnout: no control port at http://127.0.0.1:1")
    assert command(Replica("secret"), "top") == 2
    assert "TURNOUT_CONTROL_TOKEN" in capsys.readouterr().err


def on_a_terminal(replica: Replica, act: Callable[[subprocess.Popen[bytes], int], None]) -> tuple[int, bytes]:
    """Start it on a terminal, act once its view is there; returns its exit code and all it wrote."""
    leader, follower = pty.openpty()
    before = termios.tcgetattr(follower)
    written = bytearray()

    def run(url: str) -> int:
        environment = {**os.environ, "TERM": "xterm-256color", "LINES": "24"}
        argv = [sys.executable, "-m", "router", "top", "--interval", "0.05", "--control", url]
        with subprocess.Popen(
            argv, stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
        ) as process:
            try:
                while written.count(b"q or Ctrl-C") < 2:
                    written.extend(os.read(leader, 65536))
                act(process, leader)
                while process.poll() is None:  # one that writes to a full terminal ends no more
                    if select.select([leader], [], [], 0.05)[0]:
                        written.extend(os.read(leader, 65536))
                return process.returncode
            finally:
                process.kill()

    codes: list[int] = []

    async def talk(client: httpx.AsyncClient) -> None:
        codes.append(await asyncio.to_thread(run, str(client.base_url)))

    talk_to(replica, talk)
    assert termios.tcgetattr(follower) == before, "the terminal is as it was"
    os.close(follower)
    with contextlib.suppress(OSError):
        while data := os.read(leader, 65536):
            written.extend(data)
    os.close(leader)
    return codes[0], bytes(written)


def press_q(process: subprocess.Popen[bytes], leader: int) -> None:
    os.write(leader, b"q")


def interrupt(process: subprocess.Popen[bytes], leader: int) -> None:
    process.send_signal(signal.SIGINT)


def terminate(process: subprocess.Popen[bytes], leader: int) -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("act", "code"), [(press_q, 0), (interrupt, 130), (terminate, 143)])
def test_it_draws_until_a_key_or_a_signal_and_gives_the_terminal_back(
    act: Callable[[subprocess.Popen[bytes], int], None], code: int
) -> None:
    replica = Replica()
    replica.busy()
    ended, written = on_a_terminal(replica, act)
    assert ended == code, written.decode(errors="replace")
    assert POD.encode() in written and OTHER_POD.encode() in written
    assert b"\x1b[?1049l" in written, "the screen from before is back"
    assert b"Traceback" not in written


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_an_interval_is_a_positive_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="seconds above 0"):
        seconds(text)
