"""The compiled wheel that `make wheel` has built, installed as a user does where there is no compiler: in a new
environment, with a PATH that has nothing else.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

WHEEL = os.environ.get("TURNOUT_WHEEL", "")
ROOT = Path(__file__).resolve().parents[2]
STEP_S = 400.0
"""Seconds for one command. Only a command that hangs reaches it."""

pytestmark = [
    pytest.mark.skipif(not WHEEL, reason="`make wheel` builds a wheel and runs this"),
    # Its environment takes half a minute, and several on a busy machine.
    pytest.mark.realtime,
]


class Installed:
    """An environment that has the wheel and the locked dependencies."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TURNOUT"))}
        self.env = kept | {"PATH": str(self.bin), "CC": "false"}
        subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=STEP_S)
        # By its name in the environment: a path would be looked up before PATH is changed.
        pip = ["python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:"]
        self.run(*pip, "--require-hashes", "-r", str(ROOT / "requirements/run.txt"))
        self.run(*pip, "--no-index", WHEEL)

    def run(self, program: str, *arguments: str) -> str:
        """The output of a program of the environment, run where no checkout is."""
        done = subprocess.run(
            [self.bin / program, *arguments], cwd="/", env=self.env, capture_output=True, text=True, timeout=STEP_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """One environment for all tests."""
    return Installed(tmp_path_factory.mktemp("installed"))


def test_it_says_that_it_is_compiled_and_its_modules_are(installed: Installed) -> None:
    assert re.search(r"^turnout \S+ \(compiled by mypyc [\d.]+\)$", installed.run("turnout", "--version"))
    where = installed.run("python", "-c", "import router.dataplane.gateway as gateway; print(gateway.__file__)")
    assert where.strip().endswith(".so")


def test_its_metadata_agrees_with_what_is_installed(installed: Installed) -> None:
    assert "No broken requirements" in installed.run("python", "-m", "pip", "check")


def test_its_demo_streams_without_a_compiler_a_redis_or_a_checkout(installed: Installed) -> None:
    """All of the demo's traffic is streams."""
    shown = installed.run("turnout", "demo", "--pods", "3", "--users", "8", "--speed", "4", "--duration", "6")
    last = [line for line in shown.splitlines() if line.startswith("policy=prefix_aware")][-1]
    found = re.search(r"requests=(\d+) failed=0 ", last)
    assert found is not None and int(found[1]) > 0, shown
