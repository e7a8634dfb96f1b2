"""`make release-check`: whether this checkout can be released, and the parts of a release that need no compiler.

It makes the sources, the pure wheel and the bill of materials in dist/, and looks at them with the tools of the group
`release`. On a tag the version and its section of CHANGELOG.md are checked too; without a tag it is a rehearsal, which
says so. The compiled wheels, the image and the chart are made by .github/workflows/release.yml.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
TAG = re.compile(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
PERMISSIVE = re.compile(r"apache|bsd|mit\b|isc\b|psf|python software|mpl|mozilla|unlicense|0bsd", re.IGNORECASE)
"""What an Apache-2.0 program may be shipped with. MPL: its own files stay under it, and none is changed here."""


def version_of(tag: str) -> str:
    """The version that a tag names. Raises ValueError."""
    found = TAG.fullmatch(tag)
    if found is None:
        raise ValueError(f"the tag {tag!r} is not vX.Y.Z")
    return found[1]


def missing_notes(changelog: str, version: str) -> list[str]:
    """What CHANGELOG.md lacks for that version."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    section = next((text for text in sections if text.startswith(f"[{version}] - ")), None)
    if section is None:
        return [f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`"]
    problems = [] if re.match(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n", section) else ["it has no date"]
    problems += [] if "\n- " in section else ["it has no line"]
    # Even if it says that nothing is to be done: that is what an operator looks for.
    problems += [] if "\n### Upgrading\n" in section else ["it has no `### Upgrading`: see docs/upgrading.md"]
    return [f"CHANGELOG.md, [{version}]: {problem}" for problem in problems]


def locked(lock: str) -> list[str]:
    """The packages of a lock file."""
    return sorted(set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==", lock, re.MULTILINE)))


def licence(package: str) -> str:
    """What a package says of its licence, in one of the three places for it."""
    about = metadata(package)
    said = [words[:200] for field in ("License-Expression", "License") for words in about.get_all(field) or ()]
    return " / ".join(said + [line for line in about.get_all("Classifier") or () if line.startswith("License ::")])


def refused(licences: Iterable[tuple[str, str]]) -> list[str]:
    """Packages that may not be shipped, or of which it is unknown."""
    return [f"{package}: licence {words!r}" for package, words in licences if not PERMISSIVE.search(words)]


def installed_licences(lock: str) -> list[tuple[str, str]]:
    """Packages of the lock that are installed here, which those for other platforms are not."""
    found = []
    for package in locked(lock):
        try:
            found.append((package, licence(package)))
        except ModuleNotFoundError:  # PackageNotFoundError
            continue
    return found


def build(tools: Path) -> list[Path]:
    """The sources and the pure wheel, alone in dist/."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(tools / "pyproject-build", "--no-isolation", "--outdir", DIST, TURNOUT_COMPILE="0")
    return sorted(DIST.iterdir())


def run(*command: str | Path, **environment: str) -> None:
    """A tool, whose output is the user's to read. Raises CalledProcessError."""
    sys.stdout.flush()
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True)


def examine(tools: Path, files: Sequence[Path]) -> None:
    """Look at the files as PyPI and users do, and write the bill of materials."""
    wheel = next(file for file in files if file.suffix == ".whl")
    run(tools / "twine", "check", "--strict", *files)
    run(tools / "check-wheel-contents", wheel)
    bill = ("--of", "JSON", "--pyproject", "pyproject.toml", "--output-file", DIST / "sbom.cdx.json")
    run(tools / "cyclonedx-py", "requirements", *bill, "requirements/run.txt")
    # As a user without an installation does, and as pipx does.
    run(tools / "uvx", "--from", wheel, "turnout", "version")


def main(argv: Sequence[str] | None = None) -> int:
    """0 if all is well."""
    parser = argparse.ArgumentParser(prog="release-check", description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="where the programs of the group `release` are")
    tools = parser.parse_args(argv).tools.resolve()
    described = subprocess.run(
        ["git", "describe", "--tags", "--exact-match"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tag, problems = described.stdout.strip(), []
    if tag:
        problems += missing_notes((ROOT / "CHANGELOG.md").read_text(), version_of(tag))
    problems += refused(installed_licences((ROOT / "requirements/run.txt").read_text()))
    files = build(tools)
    if tag and not all(f"-{version_of(tag)}" in file.name for file in files):
        problems.append(f"{tag} gave {', '.join(file.name for file in files)}: is the checkout clean?")
    examine(tools, files)
    sys.stdout.write("".join(f"release-check: {problem}\n" for problem in problems))
    sys.stdout.write("" if tag else "release-check: no tag here, so this was a rehearsal\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
