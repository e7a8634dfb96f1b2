"""The pure wheel: its packages, and every command of the command line run from the wheel alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD_S = 400.0
"""Seconds for one command, which takes a hundredth of that."""
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "router", "schedulers", "statesync", "loadtests")
EVERY_MODULE = """
import importlib, pkgutil, sys
import loadtests
for each in pkgutil.walk_packages(loadtests.__path__, "loadtests."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
print(*sorted(name for name in sys.modules if name.startswith("loadtests.")))
"""

pytestmark = pytest.mark.slow


def run(*command: str | Path, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TURNOUT"))}
    done = subprocess.run(
        command, cwd="/", env=env | environment, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel, unpacked; built from a copy, so that no build product lands among the sources."""
    directory = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z", "--", *SOURCES], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).exists():  # false for a deleted file whose deletion is not committed yet
            target = directory / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    # As where there is no compiler.
    run(*pip, "--no-build-isolation", "--no-index", "--wheel-dir", directory, directory / "source", CC="false")
    (built,) = directory.glob("*.whl")
    with ZipFile(built) as file:
        file.extractall(directory / "unpacked")
    yield directory / "unpacked"


def python(wheel: Path, *arguments: str) -> str:
    """Run Python with the wheel and the libraries; -S excludes the editable install of the checkout."""
    libraries = sysconfig.get_paths()["purelib"]
    path = f"{wheel}{os.pathsep}{libraries}"
    return run(sys.executable, "-S", "-P", *arguments, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")


def test_of_loadtests_it_has_only_what_commands_need(wheel: Path) -> None:
    files = [PurePosixPath(path.relative_to(wheel).as_posix()) for path in wheel.rglob("*") if path.is_file()]
    packages = {path.parts[0] for path in files if len(path.parts) > 1 and not path.parts[0].endswith(".dist-info")}
    assert packages == {"router", "schedulers", "statesync", "loadtests"}
    shipped = {path.parts[1] for path in files if path.parts[0] == "loadtests"}
    assert shipped == {"processes", "prove", "sim"}
    code = {path.suffix for path in files if path.parts[0] in packages and "static" not in path.parts}
    assert code <= {".py", ".pyi", ".lua", ".proto", ".typed", ".txt"}


def test_every_source_of_the_shipped_packages_is_in_it(wheel: Path) -> None:
    for package in ("router", "schedulers", "statesync", "loadtests/sim", "loadtests/processes", "loadtests/prove"):
        kinds = ("*.py", "*.lua", "static/*")
        sources = {path.relative_to(ROOT) for kind in kinds for path in (ROOT / package).rglob(kind)}
        assert [str(path) for path in sources if not (wheel / path).exists()] == []


def test_it_says_why_it_is_not_compiled(wheel: Path) -> None:
    said = python(wheel, "-m", "router", "--version")
    assert said.endswith("(pure Python: no C compiler or no Python.h where it was built)\n")


@pytest.mark.parametrize("command", ["demo", "sim", "simulate", "prove", "serve"])
def test_a_command_runs_from_the_wheel_alone(wheel: Path, command: str) -> None:
    assert "usage: turnout" in python(wheel, "-m", "router", command, "--help")


def test_the_shipped_part_of_loadtests_imports_no_other_part(wheel: Path) -> None:
    imported = python(wheel, "-c", EVERY_MODULE).split()
    assert "loadtests.sim.demo" in imported
    shipped = ("loadtests.sim", "loadtests.processes", "loadtests.prove")
    assert [name for name in imported if not name.startswith(shipped)] == []
