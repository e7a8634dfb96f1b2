"""CONTRIBUTING.md and docs/adr name targets, files and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "adr").glob("*.md"))]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"\bmake ([a-z-]+)", page.read_text()):
            assert target in targets, f"{page.name}: make {target}"


def test_every_file_and_folder_exists() -> None:
    folders = "docs|loadtests|requirements|router|schedulers|scripts|statesync|tests"
    for page in PAGES:
        for path in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w/.-]*\w", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_list_of_decisions_is_complete() -> None:
    pages = {page.name for page in PAGES if page.parent.name == "adr"} - {"README.md"}
    assert set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (ROOT / "docs" / "adr" / "README.md").read_text())) == pages
