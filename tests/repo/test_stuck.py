"""A test that hangs fails at its time limit, and the report names the line where it waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ENDLESS = {
    "a task that waits for ever": """
import asyncio

async def innermost():
    await asyncio.Event().wait()  # the awaiting line

async def outer():
    await asyncio.wait_for(innermost(), None)

def test_it():
    asyncio.run(outer())
""",
    "a task on uvloop": """
import asyncio, uvloop

async def sleeps():
    await asyncio.sleep(3600)  # the awaiting line

def test_it():
    uvloop.run(sleeps())
""",
    "a thread that waits for another": """
import threading

def test_it():
    threading.Event().wait()  # the awaiting line
""",
    "a fixture's end": """
import pytest, time

@pytest.fixture
def slow():
    yield
    time.sleep(3600)  # the awaiting line

def test_it(slow):
    pass
""",
    "a loop that catches every exception": """
import time

def test_it():
    while True:
        try:
            time.sleep(3600)  # the awaiting line
        except BaseException:
            pass
""",
}


def ended(source: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest over a file beside this project's conftest.py, with a limit of a second a test."""
    (directory / "conftest.py").write_text(
        "from tests import stuck\nstuck.GRACE_S = 1.0\nfrom tests.conftest import *\n"
    )
    (directory / "test_endless.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=1", f"--rootdir={directory}"]
    command += ["-c", str(ROOT / "pyproject.toml"), "-q", *options, str(directory / "test_endless.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("what", ENDLESS)
def test_a_test_that_hangs_is_interrupted_at_the_line_where_it_waits(what: str, tmp_path: Path) -> None:
    done = ended(ENDLESS[what], tmp_path)
    assert done.returncode != 0
    assert "did not end within 1 s" in done.stdout + done.stderr
    assert "the awaiting line" in done.stdout + done.stderr
