"""What a check's process may do: each case in a process of its own, because nothing lifts the limits again."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from router.plugins.cage import Cage
cage = Cage()
cage.limit(1 << 29, 5.0)
cage.close()
try:
    exec(sys.argv[1])
except Exception as error:
    said = f"{type(error).__name__}: {error}"
else:
    said = "nothing"
sys.__stdout__.write(f"{said}|{cage.seen}")
"""


def caged(source: str) -> tuple[str, str]:
    """What the source raised, and what the cage saw."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, source], capture_output=True, text=True, check=True)
    raised, _, seen = done.stdout.partition("|")
    return raised, seen


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import socket; socket.socket()", "it opens a socket"),
        ("import socket; socket.getaddrinfo('localhost', 80)", "it opens a socket"),
        ("import subprocess; subprocess.run(['true'])", "it starts a process"),
        ("import os; os.fork()", "it starts a process"),
        ("import threading; threading.Thread(target=print).start()", "it starts a thread"),
        ("open('/dev/null', 'w')", "it writes a file"),
        ("import os; os.open('/dev/null', os.O_WRONLY)", "it writes a file"),
        ("import os; os.remove('/nowhere/at/all')", "it changes files"),
        ("import os; os.kill(os.getpid(), 0)", "it sends a signal"),
    ],
)
def test_io_is_refused_and_seen(source: str, words: str) -> None:
    assert caged(source) == (
        f"Refused: {words}: a policy does no I/O",
        f"{words} while it is loaded: a policy does no I/O",
    )


def test_a_print_is_seen_and_goes_nowhere() -> None:
    assert caged("print('hello', 7)") == ("nothing", "it prints ('hello') while it is loaded: a policy does no I/O")


@pytest.mark.parametrize(
    "source", ["import json, decimal, colorsys", "open('/dev/null').read()", "sum(range(1000))", "print(' ', end='')"]
)
def test_what_only_reads_or_computes_is_let_pass(source: str) -> None:
    assert caged(source) == ("nothing", "")


def test_memory_is_bounded() -> None:
    assert caged("bytes(1 << 30)") == ("MemoryError: ", "")
