"""Programs that tests start: their paths, and the result of a test whose program is missing.

The list is requirements/programs.txt. Such a test is skipped with advice; where CI=true it fails.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

LIST = Path(__file__).resolve().parents[2] / "requirements" / "programs.txt"


@cache
def packages() -> dict[str, str]:
    """Program -> Debian package."""
    lines = [line.split() for line in LIST.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {program: package for program, package, *_ in lines}


def find(name: str) -> str | None:
    """The path of a program of the list; Debian installs some outside a normal user's PATH."""
    if name not in packages():
        raise LookupError(f"{name!r} is not in {LIST}")
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return found or (shutil.which("valkey-server") if name == "redis-server" else None)


def need(name: str) -> str:
    """The path of a program; if it is missing the running test is skipped with advice, or fails where CI=true."""
    if found := find(name):
        return found
    advice = f"{name} is missing; as root: apt-get install {packages()[name]}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{advice} (CI=true: what needs it may not be left out)", pytrace=False)
    pytest.skip(advice)
