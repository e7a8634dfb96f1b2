"""`turnout top`: the pods of a gateway as they are now, on a terminal. Asks the control port and reads keys;
`fleet_view.py` makes the screen."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from rich.console import Console
from rich.live import Live

from router.cli.control import control
from router.cli.fleet_reading import Reading, read
from router.cli.fleet_view import Size, screen

if TYPE_CHECKING:
    from router.cli.client import ControlClient

WINDOW_S: Final = 10.0
"""Rates are of this long."""

ONCE_S: Final = 1.0
"""Those of a single frame."""

PIPE_COLUMNS: Final = 160
"""A pipe has no width of its own."""

FOOTER: Final = "q or Ctrl-C ends this view"


def show(given: argparse.Namespace) -> int:
    """Show the view until a key or a signal ends it; one frame with `--once` and where there is no terminal."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(width=PIPE_COLUMNS if piped else None)
    with control(given) as client:
        first = reading(client)  # what fails here ends the command
        if given.once or not console.is_terminal:
            time.sleep(ONCE_S)
            console.print(screen(reading(client), first, (), Size(console.width, sys.maxsize)))
            return 0
        signal.signal(signal.SIGTERM, _end)  # the terminal is put right first
        with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
            _follow(client, first, given.interval, keys, live)
    return 0


def reading(client: ControlClient) -> Reading:
    """All that is shown, now. Raises ControlFailure."""
    pods, pools, metrics = client.pods(), client.pools(), client.metrics()
    return read(time.monotonic(), pods, pools, metrics)


def _follow(client: ControlClient, first: Reading, interval_s: float, keys: int | None, live: Live) -> None:
    from router.cli.client import ControlFailure

    past = deque([first])
    failure = ""
    while True:
        footer = [failure, FOOTER] if failure else [FOOTER]
        size = Size(live.console.width, live.console.height)
        live.update(screen(past[-1], past[0], footer, size), refresh=True)
        if _is_over(keys, interval_s):
            return
        try:
            past.append(reading(client))
            failure = ""
        except ControlFailure as error:
            failure = f"as of {time.monotonic() - past[-1].at:.0f} s ago: {error}"
        while past[-1].at - past[0].at > WINDOW_S:
            past.popleft()


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal's keys, each readable at once and not shown; None where the input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _is_over(keys: int | None, wait_s: float) -> bool:
    """Wait; returns whether `q` was pressed, or the terminal closed, before the time was over."""
    ends = time.monotonic() + wait_s
    while (left := ends - time.monotonic()) > 0:
        if keys is None:
            time.sleep(left)
        elif select.select([keys], [], [], left)[0]:
            pressed = os.read(keys, 64)
            if not pressed or b"q" in pressed.lower():
                return True
    return False


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
