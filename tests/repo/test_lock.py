"""The lock files: everything is pinned and hashed, no local paths, consistent with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("dev.txt", "run.txt", "build.txt", "compile.txt", "docs.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(name: str) -> dict[str, str]:
    """Each locked requirement with its hashes, by canonical name; a name locked per platform keeps all its lines."""
    found: dict[str, str] = {}
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", "")
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            package = canonicalize_name(re.split(r"[=\[ ;]", line, maxsplit=1)[0])
            found[package] = found.get(package, "") + line + "\n"
    return found


def version(entry: str) -> str:
    return re.split(r"[ ;]", entry.split("==", 1)[1], maxsplit=1)[0]


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    assert entries(name)
    for line in "".join(entries(name).values()).splitlines():
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[^ ]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+$", line), line


@pytest.mark.parametrize("name", LOCKS)
def test_it_names_no_index_and_no_path_of_a_machine(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)|^-[ei]\b|(?<![\w.])/\w+/", text, re.MULTILINE)


def direct(name: str) -> list[Requirement]:
    """The requirements of pyproject.toml for that lock."""
    run = PROJECT["project"]["dependencies"]
    build = PROJECT["build-system"]["requires"]
    load = PROJECT["project"]["optional-dependencies"]["load"]
    dev = PROJECT["dependency-groups"]["dev"]
    compiler = [line for line in dev if line.startswith("mypy")]
    asked = {"dev.txt": run + build + load + dev, "run.txt": run, "build.txt": build, "compile.txt": build + compiler}
    asked["docs.txt"] = PROJECT["dependency-groups"]["docs"]
    return [Requirement(line) for line in asked[name]]


@pytest.mark.parametrize("name", LOCKS)
def test_it_has_all_requirements_of_pyproject(name: str) -> None:
    locked = entries(name)
    for wanted in direct(name):
        entry = locked.get(canonicalize_name(wanted.name))
        assert entry is not None, f"{wanted}: run `make lock`"
        assert wanted.specifier.contains(version(entry)), f"{wanted} but {version(entry)} is locked: run `make lock`"


def test_the_image_runs_the_versions_that_were_tested() -> None:
    tested = entries("dev.txt")
    for name in ("run.txt", "build.txt", "compile.txt", "docs.txt"):
        for package, entry in entries(name).items():
            assert version(entry) == version(tested[package])


def test_build_in_has_the_requirements_of_the_build_system() -> None:
    assert (ROOT / "requirements/build.in").read_text().split() == PROJECT["build-system"]["requires"]
