"""What a release must have: a version by its tag, notes, and licences that allow it."""

from __future__ import annotations

import pytest

from scripts.release_check import installed_licences, locked, missing_notes, refused, version_of
from tests.repo.test_lock import ROOT

NOTES = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n### Upgrading\n\n- Nothing.\n"


@pytest.mark.parametrize(("tag", "version"), [("v1.2.3", "1.2.3"), ("v0.1.0rc1", "0.1.0rc1")])
def test_a_tag_gives_the_version(tag: str, version: str) -> None:
    assert version_of(tag) == version


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2", "v1.2.3-dirty", "release"])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="is not vX"):
        version_of(tag)


@pytest.mark.parametrize(
    ("notes", "problem"),
    [
        (NOTES, ""),
        (NOTES.replace("1.2.0", "1.1.0"), "has no section"),
        (NOTES.replace("2026-12-01", "soon"), "has no date"),
        (NOTES.replace("- Nothing.", ""), "has no line"),
        (NOTES.replace("### Upgrading", "### Added"), "has no `### Upgrading`"),
    ],
)
def test_the_notes_of_a_version_are_complete(notes: str, problem: str) -> None:
    found = missing_notes(notes, "1.2.0")
    assert len(found) == bool(problem)
    assert problem in "".join(found)


def test_what_is_shipped_has_licences_that_allow_it() -> None:
    licences = installed_licences((ROOT / "requirements/run.txt").read_text())
    assert len(licences) > 20
    assert refused(licences) == []


def test_a_licence_that_is_unknown_or_forbids_it_is_refused() -> None:
    assert len(refused([("a", ""), ("b", "GPL-3.0-only"), ("c", "MIT"), ("d", "Apache-2.0")])) == 2


def test_a_lock_names_its_packages() -> None:
    assert locked("redis[hiredis]==5.2 \\\n    --hash=sha256:00\nmsgspec==0.19 ; x\n# a==1\n") == ["msgspec", "redis"]
