"""Limits of a check's process. Each case runs in its own process, because the limits cannot be lifted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

REFUSED = {
    "import socket; socket.socket()": "it opens a socket",
    "import socket; socket.getaddrinfo('localhost', 80)": "it opens a socket",
    "import subprocess; subprocess.run(['true'])": "it starts a process",
    "import os; os.fork()": "it starts a process",
    "import threading; threading.Thread(target=print).start()": "it starts a thread",
    "open('/dev/null', 'w')": "it writes a file",
    "import os; os.open('/dev/null', os.O_WRONLY)": "it writes a file",
    "import os; os.remove('/nowhere/at/all')": "it changes files",
    "import os; os.kill(os.getpid(), 0)": "it sends a signal",
}
LET_PASS = ["import json, decimal, colorsys", "open('/dev/null').read()", "sum(range(1000))", "print(' ', end='')"]
PRINTS = "print('hello', 7)"
TAKES_MEMORY = "bytes(1 << 30)"

SCRIPT = """
import json, os, sys
from router.plugins.audit import AuditSandbox

def sandboxed(source):
    sandbox = AuditSandbox()
    sandbox.limit(1 << 29, 60.0)
    sandbox.close()
    try:
        exec(source)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    else:
        said = "nothing"
    print(json.dumps([source, said, sandbox.seen]), file=sys.__stdout__, flush=True)

for source in sys.argv[1:]:
    if not os.fork():
        sandboxed(source)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def sandboxed() -> Mapping[str, tuple[str, str]]:
    """By source: the exception raised, and the calls that the sandbox recorded."""
    command = [sys.executable, "-c", SCRIPT, *REFUSED, *LET_PASS, PRINTS, TAKES_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {source: (raised, seen) for source, raised, seen in map(json.loads, done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize("source", REFUSED)
def test_io_is_refused_and_recorded(source: str, sandboxed: Mapping[str, tuple[str, str]]) -> None:
    words = REFUSED[source]
    assert sandboxed[source] == (
        f"ActionRefused: {words}: a policy does no I/O",
        f"{words} while it is loaded: a policy does no I/O",
    )


def test_a_print_is_recorded_and_discarded(sandboxed: Mapping[str, tuple[str, str]]) -> None:
    assert sandboxed[PRINTS] == ("nothing", "it prints ('hello') while it is loaded: a policy does no I/O")


@pytest.mark.parametrize("source", LET_PASS)
def test_code_that_only_reads_or_computes_passes(source: str, sandboxed: Mapping[str, tuple[str, str]]) -> None:
    assert sandboxed[source] == ("nothing", "")


def test_memory_is_bounded(sandboxed: Mapping[str, tuple[str, str]]) -> None:
    assert sandboxed[TAKES_MEMORY] == ("MemoryError: ", "")
