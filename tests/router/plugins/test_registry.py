"""The versions that the registry checks, offers, keeps and withdraws."""

from __future__ import annotations

import logging
import sys

import pytest

from router.plugins.directory import DirectoryListing
from router.plugins.loading import digest_of
from router.plugins.registry import PluginRegistry, UncheckedFile, load_checked
from router.plugins.types import CheckReport
from schedulers import registry
from tests.fakes.plugin_files import GOOD, RIGHT, picks

ONE, TWO = GOOD.encode(), GOOD.encode() + b"\n# another version\n"
FIRST, SECOND = (f"freest_kv@{digest_of(source)}" for source in (ONE, TWO))


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))


class Scene:
    """A registry, the names offered and withdrawn, and those in use."""

    def __init__(self) -> None:
        self.in_use: set[str] = set()
        self.changes: list[str] = []
        self.plugin_registry = PluginRegistry()

    def sees(self, **sources: bytes) -> list[UncheckedFile]:
        """The registry reads a listing of these files; all pending checks pass."""
        due = self.plugin_registry.see(DirectoryListing({f"{name}.py": source for name, source in sources.items()}, {}))
        for each in due:
            own = ("freest_kv",) if b"FreestKv" in each.source else ("mine",)
            file = load_checked(each, CheckReport(each.file, digest_of(each.source), own))
            self.changes += [f"+{name}" for name in self.plugin_registry.take(file)]
        self.changes += [f"-{name}" for name in self.plugin_registry.tidy(self.in_use)]
        return due


def test_a_checked_file_is_offered_under_its_digest_and_its_decisions_name_it() -> None:
    scene = Scene()
    scene.sees(freest=ONE)
    assert scene.changes == [f"+{FIRST}"]
    assert registry.create(FIRST, {"limit": 0.5}).name == FIRST


def test_a_file_is_checked_once_for_each_content() -> None:
    scene = Scene()
    assert len(scene.sees(freest=ONE)) == 1
    assert scene.sees(freest=ONE) == []
    assert scene.sees(renamed=ONE) == []
    assert scene.sees(freest=ONE, copy=ONE) == []
    assert len(scene.sees(freest=TWO)) == 1


def test_an_older_version_is_withdrawn_when_it_is_no_longer_in_use() -> None:
    scene = Scene()
    scene.in_use = {FIRST}
    scene.sees(freest=ONE)
    scene.sees(freest=TWO)
    assert scene.changes == [f"+{FIRST}", f"+{SECOND}"]
    assert [(each["policies"], each["present"]) for each in scene.plugin_registry.describe()] == [
        ([SECOND], True),
        ([FIRST], False),
    ]
    scene.in_use = {SECOND}
    scene.sees(freest=TWO)
    assert scene.changes[2:] == [f"-{FIRST}"]
    assert FIRST not in registry.names()
    assert f"turnout_plugin_{digest_of(ONE)}" not in sys.modules


def test_a_version_that_returns_is_checked_and_offered_again() -> None:
    scene = Scene()
    scene.sees(freest=ONE)
    scene.sees()
    assert len(scene.sees(freest=ONE)) == 1
    assert scene.changes == [f"+{FIRST}", f"-{FIRST}", f"+{FIRST}"]


def test_a_refused_file_is_logged_once_shown_and_not_checked_again(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    (due,) = scene.plugin_registry.see(DirectoryListing({"bad.py": b"def"}, {}))
    scene.plugin_registry.take(
        load_checked(due, CheckReport("bad.py", digest_of(b"def"), problem="line 1: invalid syntax"))
    )
    assert scene.plugin_registry.see(DirectoryListing({"bad.py": b"def"}, {})) == []
    (shown,) = scene.plugin_registry.describe()
    assert (shown["policies"], shown["problem"]) == ([], "line 1: invalid syntax")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == f"plugin bad.py ({digest_of(b'def')}) is not offered: line 1: invalid syntax"


@pytest.mark.parametrize(
    "elsewhere",
    ["raise ValueError('not here')\n", "while True:\n    pass\n", "raise SystemExit\n"],
)
def test_a_file_that_passes_its_check_but_does_not_load_in_the_gateway_is_refused(
    elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.plugins.registry.LOAD_S", 0.05)
    scene = Scene()
    scene.sees(mine=picks(RIGHT, elsewhere).encode())
    (shown,) = scene.plugin_registry.describe()
    assert str(shown["problem"]).startswith("passes its check, but not in the gateway: ")
    assert scene.changes == []
    assert registry.names() == tuple(registry.BUILT_IN)


def test_a_missing_directory_withdraws_no_version(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.sees(freest=ONE)
    for _ in range(3):
        assert scene.plugin_registry.see(DirectoryListing({}, {}, "/plugins cannot be read: gone")) == []
        scene.plugin_registry.tidy(scene.in_use)
    assert FIRST in registry.names()
    assert scene.plugin_registry.problem == "/plugins cannot be read: gone"
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
    scene.sees(freest=ONE)
    assert scene.plugin_registry.problem == ""


def test_a_file_that_cannot_be_read_is_shown() -> None:
    scene = Scene()
    scene.plugin_registry.see(DirectoryListing({}, {"huge.py": "is larger than 1 MB"}))
    assert [(each["file"], each["problem"]) for each in scene.plugin_registry.describe()] == [
        ("huge.py", "is larger than 1 MB")
    ]


def test_a_file_whose_check_is_running_is_shown_as_such() -> None:
    scene = Scene()
    scene.plugin_registry.see(DirectoryListing({"freest.py": ONE}, {}))
    assert [each["problem"] for each in scene.plugin_registry.describe()] == ["is being checked"]
