"""A directory watched by a running loop: real files, and checks that ask nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.plugins import watcher
from router.plugins.examples import examples
from router.plugins.loading import digest_of
from router.plugins.registry import PluginRegistry
from router.plugins.watcher import PluginWatcher
from router.settings import Plugins
from schedulers import registry
from tests.fakes import plugin_checks
from tests.fakes.configmap_mount import Mount
from tests.fakes.plugin_files import GOOD, RIGHT, picks


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    monkeypatch.setattr(watcher, "check", plugin_checks.check)
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


def watching(directory: Path, told: list[str]) -> PluginWatcher:
    settings = Plugins(directory=str(directory), interval_s=0.01)
    return PluginWatcher(settings, PluginRegistry(tuple, told.append, told.append), lambda: examples()[6:10])


def plugins(shown: dict[str, object]) -> Any:
    return shown["plugins"]


def test_a_swap_of_a_mounted_configmap_brings_the_new_version_and_takes_the_old_one(tmp_path: Path) -> None:
    mount = Mount(tmp_path, {"mine.py": picks(RIGHT)})
    told: list[str] = []
    watch = watching(tmp_path, told)
    watch.look_first()
    changed = picks(f"{RIGHT}  # a comment")
    mount.swap({"mine.py": changed, "freest.py": GOOD, "bad.py": "def"})
    asyncio.run(watch.step())
    first, second = (f"mine@{digest_of(text.encode())}" for text in (picks(RIGHT), changed))
    freest = f"freest_kv@{digest_of(GOOD.encode())}"
    assert told == [first, freest, second, first]
    shown = {each["file"]: each for each in plugins(watch.shown())}
    assert shown["mine.py"]["policies"] == [second]
    assert shown["mine.py"]["replayed"] == 4
    assert shown["bad.py"]["problem"] == "line 1: invalid syntax"
    assert set(registry.names()) == {*registry.BUILT_IN, second, freest}


def test_it_looks_again_and_again(tmp_path: Path) -> None:
    offered, told = asyncio.Event(), list[str]()

    async def run() -> None:
        settings = Plugins(directory=str(tmp_path), interval_s=0.01)
        watch = PluginWatcher(settings, PluginRegistry(tuple, lambda name: offered.set(), told.append), tuple)
        task = asyncio.get_running_loop().create_task(watch.run())
        (tmp_path / "mine.py").write_text(picks(RIGHT))
        await asyncio.wait_for(offered.wait(), 60.0)
        task.cancel()

    asyncio.run(run())


def test_a_file_that_is_being_written_is_checked_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, text, told = tmp_path / "mine.py", picks(RIGHT), list[str]()
    rest = [text[:40], text]

    async def meanwhile(seconds: float) -> None:
        if rest:
            file.write_text(rest.pop(0))

    monkeypatch.setattr(asyncio, "sleep", meanwhile)
    watch = watching(tmp_path, told)
    file.write_text("")
    for _ in range(3):
        asyncio.run(watch.step())
    assert told == [f"mine@{digest_of(text.encode())}"]
    assert "is not offered" not in caplog.text


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    watch = watching(tmp_path / "nowhere", [])
    watch.look_first()
    assert "cannot be read" in str(watch.shown()["problem"])
