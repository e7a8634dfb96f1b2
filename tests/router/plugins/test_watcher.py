"""A directory watched by a running loop: real files, and checks that call no policy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from router.plugins import watcher
from router.plugins.examples import examples
from router.plugins.loading import digest_of
from router.plugins.registry import PluginRegistry
from router.plugins.types import CheckReport
from router.plugins.watcher import PluginWatcher, load_present
from router.settings import Plugins
from schedulers import registry
from tests.fakes import plugin_checks
from tests.fakes.configmap_mount import Mount
from tests.fakes.plugin_files import GOOD, RIGHT, picks
from tests.fakes.waiting import until


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    monkeypatch.setattr(watcher, "check", plugin_checks.check)


class Names:
    """A listener that records the names; none is in use."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.came = asyncio.Event()

    def in_use(self) -> Collection[str]:
        return ()

    def offered(self, name: str) -> None:
        self.changes.append(f"+{name}")
        self.came.set()

    def withdrawn(self, name: str) -> None:
        self.changes.append(f"-{name}")


def watching(directory: Path, names: Names) -> PluginWatcher:
    """A watcher that has read the directory before the loop runs."""
    settings, plugin_registry = Plugins(directory=str(directory), interval_s=0.01), PluginRegistry()
    load_present(settings, plugin_registry)
    return PluginWatcher(settings, plugin_registry, lambda: examples()[6:10], names)


def plugins(shown: dict[str, object]) -> Any:
    return shown["plugins"]


def test_a_swap_of_a_mounted_configmap_offers_the_new_version_and_withdraws_the_old_one(tmp_path: Path) -> None:
    mount = Mount(tmp_path, {"mine.py": picks(RIGHT)})
    names = Names()
    watch = watching(tmp_path, names)
    changed = picks(f"{RIGHT}  # a comment")
    mount.swap({"mine.py": changed, "freest.py": GOOD, "bad.py": "def"})
    asyncio.run(watch.step())
    first, second = (f"mine@{digest_of(text.encode())}" for text in (picks(RIGHT), changed))
    freest = f"freest_kv@{digest_of(GOOD.encode())}"
    assert names.changes == [f"+{freest}", f"+{second}", f"-{first}"]
    shown = {each["file"]: each for each in plugins(watch.describe())}
    assert shown["mine.py"]["policies"] == [second]
    assert shown["mine.py"]["replayed"] == 4
    assert shown["bad.py"]["problem"] == "line 1: invalid syntax"
    assert set(registry.names()) == {*registry.BUILT_IN, second, freest}


def test_it_reads_the_directory_repeatedly(tmp_path: Path) -> None:
    async def run() -> None:
        names = Names()
        task = asyncio.get_running_loop().create_task(watching(tmp_path, names).run())
        (tmp_path / "mine.py").write_text(picks(RIGHT))
        await asyncio.wait_for(names.came.wait(), 60.0)
        task.cancel()

    asyncio.run(run())


def test_a_file_whose_check_fails_ends_neither_the_watch_nor_the_intake_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case J 53."""

    def broken(source: bytes, file: str, *given: Any) -> CheckReport:
        if file == "a.py":
            raise RuntimeError("no idea")
        return plugin_checks.check(source, file, *given)

    monkeypatch.setattr(watcher, "check", broken)
    names = Names()
    watch = watching(tmp_path, names)
    (tmp_path / "a.py").write_text(picks(RIGHT))
    (tmp_path / "b.py").write_text(GOOD)
    asyncio.run(watch.step())
    assert names.changes == [f"+freest_kv@{digest_of(GOOD.encode())}"]
    shown = {each["file"]: each["problem"] for each in plugins(watch.describe())}
    assert shown == {"a.py": "its check failed: RuntimeError('no idea')", "b.py": ""}


def test_the_watch_goes_on_after_a_round_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Case J 53."""
    rounds = iter([RuntimeError("no idea")])

    class Forgetful(Names):
        def in_use(self) -> Collection[str]:
            for error in rounds:
                raise error
            return ()

    async def run() -> None:
        names = Forgetful()
        task = asyncio.get_running_loop().create_task(watching(tmp_path, names).run())
        await until(lambda: "could not be gone through" in caplog.text)
        (tmp_path / "mine.py").write_text(picks(RIGHT))
        await asyncio.wait_for(names.came.wait(), 60.0)
        task.cancel()

    asyncio.run(run())


def test_the_event_loop_runs_while_a_file_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not finish loading before the loop has set an event."""
    loading, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "loading_here", loading, raising=False)
    monkeypatch.setattr(threading, "go_on_here", go_on, raising=False)
    monkeypatch.setattr("router.plugins.registry.LOAD_S", 60.0)
    head = "import threading\nthreading.loading_here.set()\nassert threading.go_on_here.wait(60.0)\n"

    def passed(source: bytes, file: str, *_: object) -> CheckReport:
        return CheckReport(file, digest_of(source), ("mine",))

    monkeypatch.setattr(watcher, "check", passed)

    async def run() -> None:
        names = Names()
        watch = watching(tmp_path, names)
        (tmp_path / "mine.py").write_text(picks(RIGHT, head))
        stepping = asyncio.get_running_loop().create_task(watch.step())
        await until(loading.is_set)
        assert names.changes == []
        go_on.set()
        await stepping
        assert names.changes == [f"+mine@{digest_of(picks(RIGHT, head).encode())}"]

    asyncio.run(run())


def test_a_file_that_is_being_written_is_checked_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, text, names = tmp_path / "mine.py", picks(RIGHT), Names()
    rest = [text[:40], text]

    async def meanwhile(seconds: float) -> None:
        if rest:
            file.write_text(rest.pop(0))

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    watch = watching(tmp_path, names)
    file.write_text("")
    for _ in range(3):
        asyncio.run(watch.step())
    assert names.changes == [f"+mine@{digest_of(text.encode())}"]
    assert "is not offered" not in caplog.text


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    watch = watching(tmp_path / "nowhere", Names())
    assert "cannot be read" in str(watch.describe()["problem"])
