"""What OLD and NEW name: a virtual environment, a Python, a `turnout` script, a wheel or a checkout.

A wheel and a checkout without a `.venv` run on the Python that runs this, with the libraries that are installed there.
It starts each installation's Python once, to know that it runs, and no gateway.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

PROBE_S = 60.0
_PROBE = """\
import json, sys, router
from importlib.metadata import version
try:
    found = version("turnout")
except Exception:
    found = "unknown"
import router.dataplane.gateway as gateway
print(json.dumps([found, router.__path__[0], not gateway.__file__.endswith(".py"), sys.version.split()[0]]))
"""


class InstallationError(Exception):
    """What was named is not an installation that runs; the message says why."""


class Installation(NamedTuple):
    """One of the two programs that are compared."""

    given: str
    """As on the command line."""
    python: str
    before: tuple[str, ...]
    """Comes before the Python on the command line: an environment without this one's settings."""
    version: str
    place: str
    """The folder that `router` is imported from."""
    compiled: bool
    python_version: str


def find(given: str, directory: Path) -> Installation:
    """The installation that a word of the command line names; a wheel is unpacked in `directory`.

    Raises InstallationError.
    """
    python, packages = _python_of(Path(given).expanduser(), directory)
    before = _environment(packages)
    try:
        done = subprocess.run(
            [*before, python, "-P", "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_S, cwd=directory
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallationError(f"{given}: {python} does not run: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise InstallationError(f"{given}: {python} cannot import the gateway: {last}")
    version, place, compiled, python_version = json.loads(done.stdout.splitlines()[-1])
    if packages is not None and not Path(place).is_relative_to(packages):
        raise InstallationError(f"{given}: {python} imports {place} in its place")
    return Installation(given, python, before, version, place, compiled, python_version)


def _python_of(path: Path, directory: Path) -> tuple[str, Path | None]:
    """The Python to run, and the folder of packages that it should have before its own; None for only its own."""
    path = Path(os.path.abspath(path))  # not `resolve`: a virtual environment's Python is a link, and must stay one
    if path.suffix == ".whl" and path.is_file():
        return sys.executable, _unpacked(path, directory)
    if (path / "router" / "__init__.py").is_file():
        own = path / ".venv" / "bin" / "python"
        return str(own) if own.exists() else sys.executable, path
    if (path / "bin" / "python").exists():
        return str(path / "bin" / "python"), None
    if path.is_file() and os.access(path, os.X_OK):
        return (str(path) if path.name.startswith("python") else _interpreter(path)), None
    raise InstallationError(
        f"{path}: no virtual environment, Python, turnout script, wheel or checkout (of an image, copy its virtual "
        "environment out: docs/upgrades.md)"
    )


def _unpacked(wheel: Path, directory: Path) -> Path:
    target = directory / wheel.stem
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    except zipfile.BadZipFile as error:
        raise InstallationError(f"{wheel}: {error}") from None
    return target


def _interpreter(script: Path) -> str:
    """The Python of a script that pip wrote."""
    beside = script.with_name("python")
    first = script.read_bytes().partition(b"\n")[0].decode(errors="replace").strip()
    if first.startswith("#!") and "python" in first:
        return first[2:].split()[0]
    if beside.exists():
        return str(beside)
    raise InstallationError(f"{script}: not a Python and not a script of one")


def _environment(packages: Path | None) -> tuple[str, ...]:
    """`env`, which leaves out the settings of other gateways and this process's own packages."""
    left_out = [name for name in os.environ if name.startswith("TURNOUT_")]
    unset = [word for name in ["PYTHONPATH", *left_out] for word in ("-u", name)]
    return ("env", *unset, *([f"PYTHONPATH={packages}"] if packages is not None else []))
